//! Running the blocking work of sessions, which would hold up their worker: hashing passwords, reading files.
//!
//! Blocking work runs on threads of its own, one piece of each kind at a time, so that the workers keep all the other
//! processors whatever clients ask for. The main runtime times the pauses, because the runtimes of workers have no
//! timers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::engine::turn::blocking::{BlockingTask, Kind};

/// How many pieces of each kind run at once. Each may take a processor and, for argon2, the memory of
/// [`ARGON2_MEMORY_KIB_MAX`](crate::engine::access::users::ARGON2_MEMORY_KIB_MAX).
const TASKS_AT_ONCE_MAX: usize = 1;

/// How long a piece waits before it runs; then the session gets it back undone. As many wait as there are connections.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs blocking work.
#[derive(Debug)]
pub(super) struct BlockingPool {
    main: Handle,
    computing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    /// [`QUEUE_TIME_MAX`], except in tests.
    queue_time_max: Duration,
}

/// A piece of blocking work that was started. Dropping this cancels the work, unless it runs already.
pub(super) struct TaskHandle {
    task: JoinHandle<Option<Box<dyn BlockingTask>>>,
    is_running: Arc<AtomicBool>,
}

impl BlockingPool {
    /// A pool on the runtime this is called in.
    pub(super) fn here() -> BlockingPool {
        let slots = || Arc::new(Semaphore::new(TASKS_AT_ONCE_MAX));
        let (computing, reading) = (slots(), slots());
        BlockingPool { main: Handle::current(), computing, reading, queue_time_max: QUEUE_TIME_MAX }
    }

    /// Queues `work` behind others of its kind.
    pub(super) fn start(&self, work: Box<dyn BlockingTask>) -> TaskHandle {
        let turn = Arc::clone(match work.kind() {
            Kind::Computing => &self.computing,
            Kind::Reading => &self.reading,
        });
        let queue_time_max = self.queue_time_max;
        let permit = Arc::clone(&turn).try_acquire_owned().ok();
        let is_running = Arc::new(AtomicBool::new(permit.is_some()));
        let runs = Arc::clone(&is_running);
        let task = self.main.spawn(async move {
            let permit = match permit {
                Some(permit) => permit,
                None => match tokio::time::timeout(queue_time_max, turn.acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Some(work),
                },
            };
            runs.store(true, Ordering::Relaxed);
            run(work, permit).await
        });
        TaskHandle { task, is_running }
    }

    /// Returns `work`, which has run, after `pause`.
    pub(super) fn delay(&self, work: Box<dyn BlockingTask>, pause: Duration) -> TaskHandle {
        let task = self.main.spawn(async move {
            tokio::time::sleep(pause).await;
            Some(work)
        });
        TaskHandle { task, is_running: Arc::default() }
    }
}

/// Runs `work`; `None` if it panicked. Its thread keeps the permit, so nothing else of its kind runs even if it is
/// cancelled.
async fn run(mut work: Box<dyn BlockingTask>, permit: OwnedSemaphorePermit) -> Option<Box<dyn BlockingTask>> {
    let running = tokio::task::spawn_blocking(move || {
        work.run();
        drop(permit);
        work
    });
    running.await.ok()
}

impl TaskHandle {
    /// Whether the work has begun, so that cancelling it would save nothing.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// Waits for the work; `None` if it panicked.
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<dyn BlockingTask>>> {
        Pin::new(&mut self.task).poll(cx).map(|back| back.ok().flatten())
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use crate::engine::{Engine, Session};
    use crate::net::blocking::*;
    use crate::protocol::Owed;

    #[derive(Debug)]
    struct Work(Arc<AtomicBool>);

    impl BlockingTask for Work {
        fn kind(&self) -> Kind {
            Kind::Computing
        }

        fn run(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn finish(self: Box<Self>, _: &Engine, _: &mut Session, _: &mut Owed) {}
    }

    /// Starts some work, and returns whether it was done when it came back.
    async fn is_done(pool: &BlockingPool) -> bool {
        let work = Arc::<AtomicBool>::default();
        let mut task = pool.start(Box::new(Work(Arc::clone(&work))));
        assert!(poll_fn(|cx| task.poll_finished(cx)).await.is_some(), "it does not panic");
        work.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn work_that_waits_too_long_comes_back_undone() {
        let pool = BlockingPool { queue_time_max: Duration::from_millis(1), ..BlockingPool::here() };
        assert!(is_done(&pool).await);
        let others = Arc::clone(&pool.computing).acquire_many_owned(TASKS_AT_ONCE_MAX as u32).await;
        assert!(!is_done(&pool).await);
        drop(others);
        assert!(is_done(&pool).await);
    }
}
