//! What a connection waits for: the rest of a request, an errand of its session, or room in the store.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Connection, Next, SHORT_BYTES_MAX, Scratch};
use crate::clock::Tick;
use crate::engine::stats::connections::State;
use crate::net::blocking::TaskHandle;

/// What a connection waits for.
pub(super) enum Wait {
    Blocking(BlockingWait),
    /// The tick behind this one.
    Memory(Tick),
}

/// An errand that is waited for.
pub(super) struct BlockingWait {
    task: TaskHandle,
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
    pub(super) fn start_blocking(&mut self) -> Next {
        let Some(work) = self.session.take_task() else { return Next::Close };
        let task = self.shared.blocking_pool.start(work);
        self.wait = Some(Box::new(Wait::Blocking(BlockingWait { task, pauses: false, has_left: false })));
        Next::Wait
    }

    #[cold]
    pub(super) fn wait_for_memory(&mut self) -> Next {
        self.wait = Some(Box::new(Wait::Memory(self.client.last_turn())));
        Next::Wait
    }

    /// Waits until the session may have its next turn; `false` if there is nobody left to tell.
    pub(super) fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        match self.wait.take().map(|wait| *wait) {
            Some(Wait::Blocking(away)) => self.poll_blocking(away, cx, scratch),
            Some(Wait::Memory(tick)) => {
                let now = self.shared.clock.now();
                if now == tick {
                    self.wait = Some(Box::new(Wait::Memory(tick)));
                    self.shared.wake_at_next_tick(cx.waker());
                    return Poll::Pending;
                }
                // It is not the client that is slow.
                self.client.memory.begin_piece(now);
                Poll::Ready(Ok(true))
            }
            None => Poll::Ready(Ok(false)),
        }
    }

    /// Waits for the session's errand; `false` if there is nobody left to tell. More input is held meanwhile, but not
    /// much: it is read to see whether the client leaves.
    fn poll_blocking(
        &mut self,
        mut wait: BlockingWait,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        loop {
            while let Poll::Ready(back) = wait.task.poll_finished(cx) {
                let Some(work) = back else { return Poll::Ready(Ok(false)) };
                let pause = work.pause();
                if wait.pauses || pause.is_zero() {
                    self.session.give_back(work);
                    return Poll::Ready(Ok(true));
                }
                if wait.has_left {
                    return Poll::Ready(Ok(false)); // or half closing would be a way around pauses
                }
                wait.task = self.shared.blocking_pool.delay(work, pause);
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
                if !wait.task.is_running() {
                    return Poll::Ready(Ok(false));
                }
                wait.has_left = true;
                continue;
            }
            let read = buffer.filled().len();
            if !self.shared.may_buffer_input(&self.client, self.held.len(), read) {
                return Poll::Ready(Ok(false));
            }
            self.held.extend_from_slice(buffer.filled());
            self.note_held();
        }
        self.wait = Some(Box::new(Wait::Blocking(wait)));
        Poll::Pending
    }
}
