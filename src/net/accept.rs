//! Accepting connections, and handing them to the workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{debug, warn};

use crate::net::listen::Listener;
use crate::net::worker::NewConnection;
use crate::net::{Shared, StopKind, protected_mode};
use crate::protocol::reply;

/// How long accepting stops when the system has no descriptor left, and how often a full server looks again.
/// Source: memcached (10 ms).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts for one listener, and hands the connections to the workers in turn; where `is_protected`, those of
/// outsiders are refused.
pub(super) async fn accept_all(
    listener: Listener,
    is_protected: bool,
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<NewConnection>>,
) {
    let connections = shared.engine.connections();
    let fast = shared.engine.settings().maxconns_fast;
    let mut turn = 0;
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: no use in trying again at once.
                if let Some(times) = shared.accept_errors_log.count(1, shared.clock.now()) {
                    warn!(
                        "no client could be accepted ({times} tries since this was last said): {error}; raise the limit \
                         on open files (ulimit -n, or LimitNOFILE= of systemd) or lower -c (--conn-limit)"
                    );
                }
                pause_listening(&shared, tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        if is_protected && protected_mode::refuses(&accepted) {
            connections.rejected_public.fetch_add(1, Ordering::Relaxed);
            protected_mode::log_refusal(&shared.public_clients_log, &accepted.peer, shared.clock.now());
            shared.refuser.refuse(accepted.socket, reply::PUBLIC_ADDRESS);
            continue;
        }
        let slot = match Arc::clone(&shared.slots).try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) if fast => None,
            // This one waits for a slot, and all behind it in the backlog.
            Err(_) => Some(wait_for_slot(&shared).await),
        };
        let Some(slot) = slot else {
            connections.rejected.fetch_add(1, Ordering::Relaxed);
            debug!(peer = %accepted.peer, "refused: too many open connections");
            shared.refuser.refuse(accepted.socket, reply::TOO_MANY_CONNECTIONS);
            continue;
        };
        let client = shared.opened(&accepted, slot);
        debug!(client = %client, "connection opened");
        turn = (turn + 1) % workers.len();
        if workers[turn].send((accepted, client)).await.is_err() {
            // The worker is gone. Either the server is stopping, or it cannot go on.
            return shared.stop(StopKind::Now);
        }
    }
}

/// A place among the connections that may be open at once; until there is one, nothing more is accepted.
async fn wait_for_slot(shared: &Shared) -> OwnedSemaphorePermit {
    let slots = Arc::clone(&shared.slots);
    pause_listening(shared, slots.acquire_owned()).await.expect("the semaphore is never closed")
}

/// Waits for `until`, and counts that as time in which nothing is accepted.
async fn pause_listening<T>(shared: &Shared, until: impl Future<Output = T>) -> T {
    let connections = shared.engine.connections();
    connections.listen_disabled.fetch_add(1, Ordering::Relaxed);
    connections.listeners_paused.fetch_add(1, Ordering::Relaxed);
    let since = Instant::now();
    let result = until.await;
    let microseconds = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    connections.listen_disabled_us.fetch_add(microseconds, Ordering::Relaxed);
    connections.listeners_paused.fetch_sub(1, Ordering::Relaxed);
    result
}
