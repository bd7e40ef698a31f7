//! The server as its service manager sees it.
//!
//! Rule: a service manager that cannot be told is worth a warning and nothing more, for the server serves without.

use std::ffi::OsString;
use std::io;

use tracing::warn;

use crate::process::Notifier;

/// Who wants to be told how the server does, if anybody.
#[derive(Debug)]
pub(super) struct Service {
    notifier: Option<Notifier>,
    /// What the server does, in a line for people.
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

    /// It serves; again, if it was reloading.
    pub(super) fn ready(&self) {
        self.tell(|notifier| notifier.ready(&self.status));
    }

    /// It reads again what SIGHUP has it read again, and serves meanwhile.
    pub(super) fn reloading(&self) {
        self.tell(Notifier::reloading);
    }

    /// It is about to end.
    pub(super) fn stopping(&self) {
        self.tell(Notifier::stopping);
    }

    fn tell(&self, say: impl FnOnce(&Notifier) -> io::Result<()>) {
        let Some(notifier) = &self.notifier else { return };
        if let Err(error) = say(notifier) {
            warn!("the service manager cannot be told (NOTIFY_SOCKET): {error}");
        }
    }
}
