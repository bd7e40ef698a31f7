//! What SIGHUP has the server read again.
//!
//! Rule: what cannot be read again leaves the old in place, and the log says why; the server goes on either way.

use std::fmt;
use std::sync::Arc;

use tracing::{info, warn};

/// Something that was read from files at the start and can be read again.
pub struct Reload {
    /// What it is, for the log: "the authentication file", say.
    pub name: &'static str,
    /// Reads it again and puts it in the place of the old; says what is there now, or what is wrong with it. It may
    /// wait for the disk.
    pub again: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reload").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads all of it again, one after another, without holding up the runtime it is called on.
pub async fn reload(all: Vec<Arc<Reload>>) {
    if all.is_empty() {
        info!("SIGHUP: nothing to reload");
    }
    for one in all {
        let reading = Arc::clone(&one);
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
