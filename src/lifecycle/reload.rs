//! What SIGHUP has the server read again.
//!
//! Rules:
//! - what cannot be read again leaves the old in place, and the log says why; the server goes on either way;
//! - one reading at a time, or an older one that takes longer would put what it found in the place of the newer.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::{info, warn};

use super::service::Service;

/// Something that was read from files at the start and can be read again.
pub(super) struct Reload {
    /// What it is, for the log: "the authentication file", say.
    pub(super) name: &'static str,
    /// Reads it again and puts it in the place of the old; says what is there now, or what is wrong with it. It may
    /// wait for the disk.
    pub(super) again: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reload").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads all of it again whenever it is `wanted`, for ever; once more, however often that is said meanwhile.
pub(super) async fn reload_when(wanted: Arc<Notify>, all: Vec<Reload>, service: Arc<Service>) {
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    loop {
        wanted.notified().await;
        service.reloading();
        reload(&all).await;
        service.ready();
    }
}

/// Reads all of it again, one after another, without holding up the runtime it is called on.
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
