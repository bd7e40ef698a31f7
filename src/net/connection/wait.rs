//! Waiting for the session's blocking work.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::state::Wants;
use super::work_wait::{Finished, WorkWait};
use super::{BlockingWait, Connection, Scratch};

impl Connection {
    /// Starts the session's blocking work.
    #[cold]
    pub(super) fn start_blocking(&mut self) -> Wants {
        let Some(work) = self.session.take_task() else { return Wants::Close };
        let task = self.shared.blocking_pool.start(work);
        self.blocking = Some(Box::new(BlockingWait { task, wait: WorkWait::default() }));
        Wants::WaitForWork
    }

    /// Waits for the session's blocking work; `false` when the client is not to be answered.
    pub(super) fn poll_blocking(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        let Some(blocking) = &mut self.blocking else { return Poll::Ready(Ok(false)) };
        loop {
            while let Poll::Ready(finished) = blocking.task.poll_finished(cx) {
                let Some(work) = finished else { return Poll::Ready(Ok(false)) };
                match blocking.wait.finished(work.pause()) {
                    Finished::Answer => {
                        self.session.give_back(work);
                        self.blocking = None;
                        return Poll::Ready(Ok(true));
                    }
                    Finished::Pause(pause) => blocking.task = self.shared.blocking_pool.delay(work, pause),
                    Finished::Close => return Poll::Ready(Ok(false)),
                }
            }
            let room = self.state.room_while_waiting();
            if room == 0 || !blocking.wait.wants_input() {
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut scratch.input[..room]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
                return Poll::Pending;
            };
            read?;
            let goes_on = match buffer.filled() {
                [] => blocking.wait.left(blocking.task.is_running()),
                bytes => self.state.received_while_waiting(bytes, &self.shared.account(&self.client)),
            };
            if !goes_on {
                return Poll::Ready(Ok(false));
            }
        }
    }
}
