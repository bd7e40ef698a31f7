//! Tells the service manager about the state of the server.
//!
//! Rule: if that fails, there is a warning and nothing more, because the server works without.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use crate::net::Health;
use crate::process::Notifier;

/// The least time between two messages that the server works.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// The service manager to notify, if there is one.
#[derive(Debug)]
pub(super) struct Service {
    notifier: Option<Notifier>,
    /// The state of the server, in a line for people.
    status: String,
}

impl Service {
    /// `place` is what `NOTIFY_SOCKET` says.
    pub(super) fn new(place: Option<OsString>, status: String) -> Service {
        let notifier = place.and_then(|place| {
            let notifier = Notifier::at(&place);
            notifier.map_err(|error| warn!("NOTIFY_SOCKET {} cannot be used: {error}", place.display())).ok()
        });
        Service { notifier, status }
    }

    /// The server is ready, or has finished reloading.
    pub(super) fn ready(&self) {
        self.tell(|notifier| notifier.ready(&self.status));
    }

    /// The server reloads because of SIGHUP, and goes on serving.
    pub(super) fn reloading(&self) {
        self.tell(Notifier::reloading);
    }

    /// The server is about to end.
    pub(super) fn stopping(&self) {
        self.tell(Notifier::stopping);
    }

    /// Tells the service manager again and again that the server works, twice as often as it wants to hear that, as long
    /// as all workers answer.
    pub(super) async fn keep_alive(self: Arc<Self>, period: Duration, health: Arc<Health>) {
        let mut ticks = tokio::time::interval((period / 2).max(PERIOD_MIN));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match &*health.stuck_workers().await {
                [] => self.tell(Notifier::alive),
                stuck => error!("these workers do not answer: {stuck:?}"),
            }
        }
    }

    fn tell(&self, say: impl FnOnce(&Notifier) -> io::Result<()>) {
        let Some(notifier) = &self.notifier else { return };
        if let Err(error) = say(notifier) {
            warn!("the service manager cannot be told (NOTIFY_SOCKET): {error}");
        }
    }
}
