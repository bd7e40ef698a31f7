//! The scheduler for long turns: a worker runs one of them each time its runtime has polled the sockets.
//!
//! Most turns are short: a few small requests, some microseconds. A long turn takes about a tenth of a millisecond: a
//! piece of an upload or of a large reply, a slice of a dump, a pipeline. A connection that has had a long turn queues
//! here for the next. Pieces of TLS handshakes, a millisecond each, have a queue of their own, so that a crowd of them
//! does not hold up the other queue. Rules, for each of the two queues:
//! - each time the runtime has polled the sockets, one long turn runs, behind all short ones that were found there. So
//!   a short turn waits for one long turn, however many connections upload. When there is so much else to do that the
//!   runtime polls the sockets before all of it is done, long turns come to about half of the work;
//! - first come, first served. A connection that sends nothing is not in the queue, and one that has left is skipped.
//!
//! (Beside 20 connections that store 1 KB values without end, the median get takes 0.04 ms. It took 40 ms when each of
//! them went on for as long as it found something to read. `cargo bench --bench abuse -- --kinds many-sets`.)

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// The queues of a worker.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) long: TurnQueue,
    pub(super) handshakes: TurnQueue,
}

/// A queue of connections that wait for a turn. Each has one position at most, so `-c` bounds the queue.
#[derive(Debug)]
pub(super) struct TurnQueue(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// A position in the queue; a future that is ready when the turn comes.
#[derive(Debug)]
pub(super) struct QueuePosition(oneshot::Receiver<()>);

/// The scheduling ends of both queues.
#[derive(Debug)]
pub(super) struct TurnSchedulers {
    long: TurnScheduler,
    handshakes: TurnScheduler,
}

#[derive(Debug)]
struct TurnScheduler(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// Both queues, and their schedulers.
pub(super) fn turns() -> (Turns, TurnSchedulers) {
    let ((long, long_scheduler), (handshakes, handshake_scheduler)) = (queue(), queue());
    (Turns { long, handshakes }, TurnSchedulers { long: long_scheduler, handshakes: handshake_scheduler })
}

fn queue() -> (TurnQueue, TurnScheduler) {
    let (requests, requested) = mpsc::unbounded_channel();
    (TurnQueue(requests), TurnScheduler(requested))
}

impl TurnQueue {
    /// Takes a position at the end of the queue.
    pub(super) fn join(&self) -> QueuePosition {
        let (call, called) = oneshot::channel();
        // Without a scheduler the worker is about to end, and its connections with it.
        let _ = self.0.send(call);
        QueuePosition(called)
    }
}

/// Whether a connection may have its next turn.
#[derive(Debug, Default)]
pub(super) enum TurnState {
    /// Its last turn was short: it may have the next at once.
    #[default]
    Free,
    /// Its last turn was long: it must queue for the next.
    MustQueue,
    /// It is in the queue.
    Queued(QueuePosition),
    /// Its turn has come, and it has done nothing since.
    Called,
}

impl TurnState {
    /// Notes that it had a turn.
    #[inline]
    pub(super) fn note_turn(&mut self, is_long: bool) {
        *self = if is_long { TurnState::MustQueue } else { TurnState::Free };
    }

    /// Waits until it may have its next turn; if the last one was long, in the queue `turns`.
    #[inline]
    pub(super) fn poll_next(&mut self, turns: &TurnQueue, cx: &mut Context<'_>) -> Poll<()> {
        if let TurnState::Free = self { Poll::Ready(()) } else { self.poll_called(turns, cx) }
    }

    #[cold]
    fn poll_called(&mut self, turns: &TurnQueue, cx: &mut Context<'_>) -> Poll<()> {
        if let TurnState::MustQueue = self {
            *self = TurnState::Queued(turns.join());
        }
        if let TurnState::Queued(position) = self {
            ready!(Pin::new(position).poll(cx));
            *self = TurnState::Called;
        }
        Poll::Ready(())
    }

    /// Whether it is in the queue.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        matches!(self, TurnState::Queued(_))
    }

    /// Notes that the socket is not ready. A connection whose turn came in vain must queue again.
    #[inline]
    pub(super) fn note_pending(&mut self) {
        if let TurnState::Called = self {
            *self = TurnState::MustQueue;
        }
    }
}

impl Future for QueuePosition {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl TurnSchedulers {
    /// Gives one connection after the other its turn, until the last has gone. To be part of the future that the
    /// worker's runtime blocks on: the runtime polls that each time it has polled the sockets, however much else is
    /// waiting.
    pub(super) async fn run(self) {
        tokio::join!(self.long.run(), self.handshakes.run());
    }
}

impl TurnScheduler {
    async fn run(mut self) {
        while let Some(call) = self.0.recv().await {
            if call.send(()).is_ok() {
                yield_now().await;
            }
        }
    }
}

/// Reschedules the connection that calls this behind the others that are ready.
///
/// While there is a task to run, the runtime polls the sockets only every 61st time, and a task that wakes itself is
/// such a task. But `yield_now`, polled once, makes the runtime poll them before it wakes this task. (Beside a dump the
/// median get took 0.15 ms so, and 8 ms otherwise: `cargo bench --bench latency -- --parts dump`.)
pub(super) fn yield_to_others(cx: &mut Context<'_>) {
    let _: Poll<()> = pin!(yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// Has `count` turns, `long` ones or short ones, and appends `name` to `log` for each.
    async fn have_turns(name: char, long: bool, count: usize, turns: Rc<Turns>, log: Rc<RefCell<String>>) {
        let mut turn_state = TurnState::default();
        for _ in 0..count {
            poll_fn(|cx| turn_state.poll_next(&turns.long, cx)).await;
            log.borrow_mut().push(name);
            turn_state.note_turn(long);
            if !long {
                yield_now().await; // as if its socket were not ready
            }
        }
    }

    #[tokio::test]
    async fn between_two_polls_of_the_sockets_one_long_turn_runs() {
        let (turns, schedulers) = turns();
        let turns = Rc::new(turns);
        let log = Rc::new(RefCell::new(String::new()));
        let local = LocalSet::new();
        let names = [('a', true), ('b', true), ('c', true), ('s', false)];
        let all = local.run_until(async {
            let tasks = names.map(|(name, long)| {
                spawn_local(have_turns(name, long, 5, Rc::clone(&turns), Rc::clone(&log)))
            });
            for task in tasks {
                task.await.unwrap();
            }
        });
        tokio::select! {
            () = all => {}
            () = schedulers.run() => unreachable!("there are queues"),
        }
        // Before its first turn a connection is not known to have long ones; from then on they alternate.
        let log = log.borrow();
        let later: Vec<_> = log[4..].split('s').map(str::len).collect();
        assert!(later[..4].iter().all(|&long| long <= 1), "{log}");
        let long: String = log.chars().filter(|&name| name != 's').collect();
        assert_eq!(long, "abc".repeat(5), "first come, first served");
    }

    #[tokio::test]
    async fn a_connection_whose_turn_came_in_vain_queues_again_and_one_that_has_left_is_skipped() {
        let (turns, schedulers) = turns();
        let mut turn_state = TurnState::default();
        turn_state.note_turn(true);
        drop(turns.long.join());
        let twice = async {
            poll_fn(|cx| turn_state.poll_next(&turns.long, cx)).await;
            turn_state.note_pending();
            assert!(matches!(turn_state, TurnState::MustQueue));
            poll_fn(|cx| turn_state.poll_next(&turns.long, cx)).await;
            turn_state.note_turn(false);
            assert!(matches!(turn_state, TurnState::Free));
        };
        tokio::select! {
            () = twice => {}
            () = schedulers.run() => unreachable!("there are queues"),
        }
    }
}
