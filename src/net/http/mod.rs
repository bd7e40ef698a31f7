//! HTTP, for monitoring: a listener, a thread and bounds of their own, so that neither its clients can hold up those of
//! the cache, nor the other way round.
//!
//! hyper reads the requests and words the answers; [`routes`] has the pages.

mod routes;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error};

use super::health::Health;
use super::listen::{Accepted, Listener};
use super::protected_mode;
use super::shared::Shared;

/// How many clients are served at once; the next waits for one of them to leave.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection lasts at most. Each is for one request, which takes milliseconds.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a client may take to send the head of its request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(2);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a listener waits after an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What pages are made of.
#[derive(Clone, Debug)]
struct Site {
    shared: Arc<Shared>,
    health: Arc<Health>,
}

/// Serves HTTP on `listeners` until `stopped` changes, on a thread of its own.
pub(super) fn start(
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    health: Arc<Health>,
    mut stopped: watch::Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    // The thread comes first: without it the runtime would have to be dropped here, within another, which panics.
    let (give, given) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let runtime: Result<tokio::runtime::Runtime, _> = given.recv();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            let site = Site { shared, health };
            let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            for listener in listeners {
                let endpoint = listener.endpoint();
                match listener.moved_here() {
                    Ok(listener) => {
                        drop(tokio::spawn(accept_all(listener, site.clone(), Arc::clone(&places))))
                    }
                    Err(error) => error!("cannot serve HTTP on {endpoint}: {error}"),
                }
            }
            let _ = stopped.changed().await;
        });
        // Connections end with the runtime.
    })?;
    // This fails only if the thread has ended, and joining the thread will tell why.
    let _ = give.send(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    Ok(thread)
}

async fn accept_all(listener: Listener, site: Site, places: Arc<Semaphore>) {
    let is_protected = protected_mode::applies_to(&listener, site.shared.engine.settings());
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "could not accept a client of HTTP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if is_protected && protected_mode::refuses(&accepted) {
            let connections = site.shared.engine.connections();
            connections.rejected_public.fetch_add(1, Ordering::Relaxed);
            let (log, now) = (&site.shared.public_clients_log, site.shared.clock.now());
            protected_mode::log_refusal(log, &accepted.peer, now);
            continue;
        }
        let site = site.clone();
        tokio::spawn(async move {
            // A client that is slower is not told why: it may never read it.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, serve(accepted, site)).await;
            drop(place);
        });
    }
}

/// Answers one request.
async fn serve(accepted: Accepted, site: Site) {
    let peer = accepted.peer.clone();
    let stream = match site.shared.stream(accepted) {
        Ok(stream) => stream,
        Err(error) => return debug!(%peer, %error, "cannot register the socket of a client of HTTP"),
    };
    let service = service_fn(move |request| routes::answer(site.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // One request each: then a connection is short, and so is what a slow client can hold.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%peer, %error, "a connection of HTTP failed");
    }
}
