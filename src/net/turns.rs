//! The queue for long turns: each time the runtime has looked at its sockets, a worker has one of them.
//!
//! Most turns are short: a few small requests, some microseconds. A long one takes about a tenth of a millisecond: a piece
//! of an upload or of a large reply, a slice of a dump, a pipeline. Whoever has had a long turn queues here for the next.
//! Pieces of TLS handshakes, a millisecond each, have a queue of their own, so that a crowd of them holds up nobody else
//! who queues. Rules, for each of the two:
//! - each time the runtime has looked at its sockets, one long turn is called, behind all short ones that were found
//!   there; so a short one waits for one long turn, however many connections upload. Where there is so much else to do that
//!   the runtime looks at its sockets before all of it is done, long turns come to about as large a part of the work as
//!   all the rest;
//! - first come, first served. Who sends nothing takes up no place, and who has left is not waited for.
//!
//! (20 connections that store 1 KB values without end: the median get beside them takes 0.04 ms. It took 40 ms when each of
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

/// Where the connections of a worker queue. Each of them has one place at most, so `-c` bounds the queue.
#[derive(Debug)]
pub(super) struct TurnQueue(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// A place in the queue, which waits to be called.
#[derive(Debug)]
pub(super) struct QueuePosition(oneshot::Receiver<()>);

/// Who calls those that queue.
#[derive(Debug)]
pub(super) struct TurnSchedulers {
    long: TurnScheduler,
    handshakes: TurnScheduler,
}

#[derive(Debug)]
struct TurnScheduler(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// Both queues, and who calls their turns.
pub(super) fn turns() -> (Turns, TurnSchedulers) {
    let ((long, long_scheduler), (handshakes, handshake_scheduler)) = (queue(), queue());
    (Turns { long, handshakes }, TurnSchedulers { long: long_scheduler, handshakes: handshake_scheduler })
}

fn queue() -> (TurnQueue, TurnScheduler) {
    let (requests, requested) = mpsc::unbounded_channel();
    (TurnQueue(requests), TurnScheduler(requested))
}

impl TurnQueue {
    /// A place at the end of the queue.
    pub(super) fn join(&self) -> QueuePosition {
        let (call, called) = oneshot::channel();
        // Without a caller the worker is about to end, and with it all that wait.
        let _ = self.0.send(call);
        QueuePosition(called)
    }
}

/// How a connection stands with the queue.
#[derive(Debug, Default)]
pub(super) enum TurnState {
    /// Its last turn was short: it may have the next at once.
    #[default]
    Free,
    /// Its last turn was long: it has to queue for the next.
    MustQueue,
    /// It queues.
    Queued(QueuePosition),
    /// It was called, and has not done anything since.
    Called,
}

impl TurnState {
    /// Notes how its turn was.
    #[inline]
    pub(super) fn note_turn(&mut self, is_long: bool) {
        *self = if is_long { TurnState::MustQueue } else { TurnState::Free };
    }

    /// Waits until it may have its next turn: where the last one was long, until `turns` calls it.
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

    /// Whether it will be called.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        matches!(self, TurnState::Queued(_))
    }

    /// Notes that its socket has nothing for it now. Who was called in vain has to queue once more.
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
    /// Calls one after the other until the last connection has gone. To be part of the future that the worker's runtime
    /// blocks on: that is what it comes back to each time it has looked at its sockets, however much else is waiting.
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
/// The runtime looks at sockets only every 61st time while there is a task to run, and one that wakes itself is such a
/// task. The future that yields to the runtime, polled once, has it look at them before this task is woken. (Beside a dump
/// half of all gets took 0.15 ms so, and 8 ms otherwise: `cargo bench --bench latency -- --parts dump`.)
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

    /// Notes in `log` each turn that `name` has, `long` ones or short ones.
    async fn have_turns(name: char, long: bool, count: usize, turns: Rc<Turns>, log: Rc<RefCell<String>>) {
        let mut turn_state = TurnState::default();
        for _ in 0..count {
            poll_fn(|cx| turn_state.poll_next(&turns.long, cx)).await;
            log.borrow_mut().push(name);
            turn_state.note_turn(long);
            if !long {
                yield_now().await; // until its socket has something, say
            }
        }
    }

    #[tokio::test]
    async fn between_two_looks_at_the_sockets_one_long_turn_is_called() {
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
        // The first turn of each may be long without anybody knowing; from then on they alternate.
        let log = log.borrow();
        let later: Vec<_> = log[4..].split('s').map(str::len).collect();
        assert!(later[..4].iter().all(|&long| long <= 1), "{log}");
        let long: String = log.chars().filter(|&name| name != 's').collect();
        assert_eq!(long, "abc".repeat(5), "first come, first served");
    }

    #[tokio::test]
    async fn who_was_called_in_vain_queues_again_and_who_has_left_is_passed_over() {
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
