//! The rules for a connection that waits for its session's blocking work, and for the pause behind it.
//!
//! A client that closes its side may only have sent all that it has to send, and still read. So it gets the answer of work
//! that runs anyway; but the server begins no work for it, and it does not occupy a connection for the length of a pause:
//! or closing one side would be a way around pauses.

use std::time::Duration;

/// The driver's next step when blocking work is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// Run the turn that answers the client.
    Answer,
    /// Hold back the answer for this long.
    Pause(Duration),
    /// Close the connection.
    Close,
}

/// How far a connection has come in waiting.
#[derive(Debug, Default)]
pub(super) struct WorkWait {
    /// Whether the work is over, and its answer is held back.
    is_paused: bool,
    /// Whether the client has closed its side.
    has_left: bool,
}

impl WorkWait {
    /// Whether the connection should be read from, to see whether the client leaves.
    pub(super) fn wants_input(&self) -> bool {
        !self.has_left
    }

    /// The work is over, or the pause behind it, which takes `pause`.
    pub(super) fn finished(&mut self, pause: Duration) -> Finished {
        if self.is_paused || pause.is_zero() {
            Finished::Answer
        } else if self.has_left {
            Finished::Close
        } else {
            self.is_paused = true;
            Finished::Pause(pause)
        }
    }

    /// The client has closed its side; `is_running` says whether the work has begun and is not over. Returns whether to
    /// go on waiting.
    pub(super) fn left(&mut self, is_running: bool) -> bool {
        self.has_left = true;
        is_running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_closes_its_side_is_answered_only_by_work_that_runs_and_without_a_pause() {
        const PAUSE: Duration = Duration::from_secs(1);
        let waiting = || WorkWait::default();
        assert_eq!(waiting().finished(Duration::ZERO), Finished::Answer);
        let mut paused = waiting();
        assert_eq!(paused.finished(PAUSE), Finished::Pause(PAUSE));
        assert!(paused.wants_input());
        assert_eq!(paused.finished(PAUSE), Finished::Answer, "the pause is over");

        assert!(!waiting().left(false), "its work has not begun");
        let mut left = waiting();
        assert!(left.left(true));
        assert!(!left.wants_input(), "nothing more comes");
        assert_eq!(left.finished(Duration::ZERO), Finished::Answer);
        let mut left = waiting();
        assert!(left.left(true));
        assert_eq!(left.finished(PAUSE), Finished::Close);
    }
}
