//! SIGHUP: files that the server reads again.
//!
//! Rules:
//! - if a file cannot be read, the old content stays in force, the log says why, and the server goes on;
//! - one reload at a time: otherwise an older and slower one could overwrite what a newer one has read.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::{info, warn};

use super::service::Service;

/// Something that was read from files at the start and can be read again.
pub(super) struct Reload {
    /// What it is, for the log: "the authentication file", say.
    pub(super) name: &'static str,
    /// Reads it again and replaces the old. Returns what there is now, or what is wrong, for the log. It may wait for
    /// the disk.
    pub(super) again: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reload").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reloads everything whenever it is `wanted`, for ever. However often that is signalled during a reload, one more
/// follows.
pub(super) async fn reload_when(wanted: Arc<Notify>, all: Vec<Reload>, service: Arc<Service>) {
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    loop {
        wanted.notified().await;
        service.reloading();
        reload(&all).await;
        service.ready();
    }
}

/// Reloads one after another, without blocking the runtime it is called on.
async fn reload(all: &[Arc<Reload>]) {
    if all.is_empty() {
        info!("SIGHUP: nothing to reload");
    }
    for one in all {
        let reading = Arc::clone(one);
        match tokio::task::spawn_blocking(move || (reading.again)()).await {
            Ok(Ok(now)) => info!("SIGHUP: read {} again: {now}", one.name),
            Ok(Err(why)) => {
                warn!("SIGHUP: the old stay in force, {} could not be read again: {why}", one.name)
            }
            Err(panicked) => {
                warn!("SIGHUP: the old stay in force, {} could not be read again: {panicked}", one.name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn what_is_read_last_was_read_after_it_was_last_wanted() {
        let (begin, begun) = channel();
        let (go_on, may_go_on) = channel();
        let may_go_on = Mutex::new(may_go_on);
        let again = move || {
            begin.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
            Ok("here".to_owned())
        };
        let slow = Reload { name: "something slow", again: Box::new(again) };
        let wanted = Arc::new(Notify::new());
        let service = Arc::new(Service::new(None, String::new()));
        let reloading = tokio::spawn(reload_when(Arc::clone(&wanted), vec![slow], service));
        let begins = || async {
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        };
        wanted.notify_one();
        begins().await;
        for _ in 0..1000 {
            wanted.notify_one();
            tokio::task::yield_now().await;
        }
        assert!(begun.try_recv().is_err(), "one at a time");
        go_on.send(()).unwrap();
        begins().await;
        go_on.send(()).unwrap();
        reloading.abort();
    }
}
