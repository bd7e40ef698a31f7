//! Errands: what a session needs done that would hold up its worker.
//!
//! They run on threads of their own, one of each kind at a time, so that the workers keep all the other processors
//! whatever clients ask for; and pauses are the main runtime's, because those of the workers have no timers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::engine::turn::blocking::{BlockingTask, Kind};

/// How many of each kind run at once. Each may take a processor and, for argon2, the memory of
/// [`ARGON2_MEMORY_KIB_MAX`](crate::engine::access::users::ARGON2_MEMORY_KIB_MAX).
const ERRANDS_AT_ONCE_MAX: usize = 1;

/// How long one waits for its turn; then it is given back as it is. As many wait as there are connections.
const ERRAND_WAIT_MAX: Duration = Duration::from_secs(10);

/// Where errands run.
#[derive(Debug)]
pub(super) struct Errands {
    main: Handle,
    computing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    /// [`ERRAND_WAIT_MAX`], but for tests.
    wait_max: Duration,
}

/// An errand that was sent. Dropping it calls it off, unless it runs already.
pub(super) struct Underway {
    task: JoinHandle<Option<Box<dyn BlockingTask>>>,
    is_running: Arc<AtomicBool>,
}

impl Errands {
    /// Errands of the runtime this is called in.
    pub(super) fn here() -> Errands {
        let places = || Arc::new(Semaphore::new(ERRANDS_AT_ONCE_MAX));
        let (computing, reading) = (places(), places());
        Errands { main: Handle::current(), computing, reading, wait_max: ERRAND_WAIT_MAX }
    }

    /// Has `errand` run as soon as it is its turn.
    pub(super) fn send(&self, errand: Box<dyn BlockingTask>) -> Underway {
        let turn = Arc::clone(match errand.kind() {
            Kind::Computing => &self.computing,
            Kind::Reading => &self.reading,
        });
        let wait_max = self.wait_max;
        let permit = Arc::clone(&turn).try_acquire_owned().ok();
        let is_running = Arc::new(AtomicBool::new(permit.is_some()));
        let runs = Arc::clone(&is_running);
        let task = self.main.spawn(async move {
            let permit = match permit {
                Some(permit) => permit,
                None => match tokio::time::timeout(wait_max, turn.acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Some(errand),
                },
            };
            runs.store(true, Ordering::Relaxed);
            run(errand, permit).await
        });
        Underway { task, is_running }
    }

    /// Has `errand`, which has run, come back after `pause`.
    pub(super) fn pause(&self, errand: Box<dyn BlockingTask>, pause: Duration) -> Underway {
        let task = self.main.spawn(async move {
            tokio::time::sleep(pause).await;
            Some(errand)
        });
        Underway { task, is_running: Arc::default() }
    }
}

/// Runs it; `None` if it panicked. The permit goes with it: called off or not, nothing else runs meanwhile.
async fn run(
    mut errand: Box<dyn BlockingTask>,
    permit: OwnedSemaphorePermit,
) -> Option<Box<dyn BlockingTask>> {
    let running = tokio::task::spawn_blocking(move || {
        errand.run();
        drop(permit);
        errand
    });
    running.await.ok()
}

impl Underway {
    /// Whether it has begun, so that calling it off would save nothing.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// The errand, once it is back; `None` if it panicked.
    pub(super) fn poll_back(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<dyn BlockingTask>>> {
        Pin::new(&mut self.task).poll(cx).map(|back| back.ok().flatten())
    }
}

impl Drop for Underway {
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
    struct Deed(Arc<AtomicBool>);

    impl BlockingTask for Deed {
        fn kind(&self) -> Kind {
            Kind::Computing
        }

        fn run(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn finish(self: Box<Self>, _: &Engine, _: &mut Session, _: &mut Owed) {}
    }

    /// Sends a deed, and says whether it was done when it came back.
    async fn is_done(errands: &Errands) -> bool {
        let deed = Arc::<AtomicBool>::default();
        let mut underway = errands.send(Box::new(Deed(Arc::clone(&deed))));
        assert!(poll_fn(|cx| underway.poll_back(cx)).await.is_some(), "it does not panic");
        deed.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn one_whose_turn_does_not_come_is_given_back_as_it_is() {
        let errands = Errands { wait_max: Duration::from_millis(1), ..Errands::here() };
        assert!(is_done(&errands).await);
        let others = Arc::clone(&errands.computing).acquire_many_owned(ERRANDS_AT_ONCE_MAX as u32).await;
        assert!(!is_done(&errands).await);
        drop(others);
        assert!(is_done(&errands).await);
    }
}
