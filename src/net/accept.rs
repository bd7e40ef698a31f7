//! Accepting connections, and handing them to the workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{debug, warn};

use crate::net::listen::Listener;
use crate::net::protected_mode;
use crate::net::shared::{Shared, StopKind};
use crate::net::worker::NewConnection;
use crate::protocol::reply;

/// How long a listener waits after an error of `accept`, such as a lack of descriptors. Source: memcached (10 ms).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts the connections of one listener, and hands them to the workers in turn; refuses clients with public
/// addresses if `is_protected`.
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
                // Most likely the process has no descriptor left, so it is no use to try again at once.
                if let Some(times) = shared.accept_errors_log.count(1, shared.clock.now()) {
                    warn!(
                        "could not accept a client {times} times since this was last logged: {error}; raise the limit on \
                         open files (ulimit -n, or LimitNOFILE= of systemd) or lower -c (--conn-limit)"
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
            // The client waits for another to leave, and so do all behind it in the backlog.
            Err(_) => Some(wait_for_slot(&shared).await),
        };
        let Some(slot) = slot else {
            connections.rejected.fetch_add(1, Ordering::Relaxed);
            debug!(peer = %accepted.peer, "refused: as many connections are open as -c allows");
            shared.refuser.refuse(accepted.socket, reply::TOO_MANY_CONNECTIONS);
            continue;
        };
        let client = shared.opened(&accepted, slot);
        debug!(client = %client, "connection opened");
        turn = (turn + 1) % workers.len();
        if workers[turn].send((accepted, client)).await.is_err() {
            // The worker has ended: the server is stopping, or it cannot go on.
            return shared.stop(StopKind::Now);
        }
    }
}

/// Waits until another connection may be open. Its listener accepts nothing meanwhile.
async fn wait_for_slot(shared: &Shared) -> OwnedSemaphorePermit {
    let slots = Arc::clone(&shared.slots);
    pause_listening(shared, slots.acquire_owned()).await.expect("the semaphore is never closed")
}

/// Waits for `until`, and adds that to the time in which listeners were paused, as statistics show it.
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
