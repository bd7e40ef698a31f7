//! What a connection waits for: the rest of a request, an errand of its session, or room in the store.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Connection, Next, SHORT_BYTES_MAX, Scratch};
use crate::clock::Tick;
use crate::engine::stats::connections::State;
use crate::net::blocking::Underway;

/// What a connection waits for.
pub(super) enum Wait {
    Errand(Away),
    /// The tick behind this one.
    Room(Tick),
}

/// An errand that is waited for.
pub(super) struct Away {
    underway: Underway,
    /// Whether it has run, and its answer is held back.
    pauses: bool,
    /// Whether the client has closed its side.
    has_left: bool,
}

impl Connection {
    /// Notes what it does until its next turn. Of a line one more byte is asked for, of a value all that is missing.
    pub(super) fn note_state(&self, next: Next) {
        self.client.set_state(match next {
            Next::Watch => State::Watching,
            Next::Read { bytes_min } if bytes_min > self.held.len() + 1 => State::ReadingValue,
            _ => State::Reading,
        });
    }

    #[cold]
    pub(super) fn begin_to_wait(&mut self) -> Next {
        let Some(errand) = self.session.take_task() else { return Next::Close };
        let underway = self.shared.errands.send(errand);
        self.wait = Some(Box::new(Wait::Errand(Away { underway, pauses: false, has_left: false })));
        Next::Wait
    }

    #[cold]
    pub(super) fn begin_to_await_room(&mut self) -> Next {
        self.wait = Some(Box::new(Wait::Room(self.client.last_turn())));
        Next::Wait
    }

    /// Waits until the session may have its next turn; `false` if there is nobody left to tell.
    pub(super) fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        match self.wait.take().map(|wait| *wait) {
            Some(Wait::Errand(away)) => self.poll_errand(away, cx, scratch),
            Some(Wait::Room(tick)) => {
                let now = self.shared.clock.now();
                if now == tick {
                    self.wait = Some(Box::new(Wait::Room(tick)));
                    self.shared.await_room(cx.waker());
                    return Poll::Pending;
                }
                // It is not the client that is slow.
                self.client.burden.begin(now);
                Poll::Ready(Ok(true))
            }
            None => Poll::Ready(Ok(false)),
        }
    }

    /// Waits for the session's errand; `false` if there is nobody left to tell. More input is held meanwhile, but not
    /// much: it is read to see whether the client leaves.
    fn poll_errand(
        &mut self,
        mut wait: Away,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        loop {
            while let Poll::Ready(back) = wait.underway.poll_back(cx) {
                let Some(errand) = back else { return Poll::Ready(Ok(false)) };
                let pause = errand.pause();
                if wait.pauses || pause.is_zero() {
                    self.session.give_back(errand);
                    return Poll::Ready(Ok(true));
                }
                if wait.has_left {
                    return Poll::Ready(Ok(false)); // or half closing would be a way around pauses
                }
                wait.underway = self.shared.errands.pause(errand, pause);
                wait.pauses = true;
            }
            let room = SHORT_BYTES_MAX.saturating_sub(self.held.len());
            if wait.has_left || room == 0 {
                break;
            }
            let mut buffer = ReadBuf::new(&mut scratch.input[..room]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else { break };
            read?;
            if buffer.filled().is_empty() {
                // It may only have sent all that it has to send, and still read. So it is told what came of an errand
                // that runs anyway; but nothing is begun for it, and it does not take up a place for a pause.
                if !wait.underway.is_running() {
                    return Poll::Ready(Ok(false));
                }
                wait.has_left = true;
                continue;
            }
            let read = buffer.filled().len();
            if !self.shared.may_hold(&self.client, self.held.len(), read) {
                return Poll::Ready(Ok(false));
            }
            self.held.extend_from_slice(buffer.filled());
            self.note_held();
        }
        self.wait = Some(Box::new(Wait::Errand(wait)));
        Poll::Pending
    }
}
