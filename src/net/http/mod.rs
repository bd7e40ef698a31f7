//! HTTP, for monitoring: a listener, a thread and bounds of their own, so that neither its clients can hold up those of
//! the cache, nor the other way round.
//!
//! hyper reads the requests and words the answers; [`routes`] has the pages.

mod pace;
mod routes;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{debug, error};

use super::health::Health;
use super::listen::{Accepted, Listener};
use super::protected_mode;
use super::shared::Shared;
use pace::Pace;

/// How many clients are served at once; the next takes the place of the oldest. So those who only hold places keep no
/// probe out, whose request takes milliseconds.
const CONNECTIONS_MAX: usize = 64;

/// How many clients a listener accepts in a tick; others wait. Each has one request, so that bounds pages, too.
const ACCEPTED_PER_TICK_MAX: u32 = 20;

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
    /// How many logins were refused in a row: the pause behind the next gets longer. A connection has one request, so it is
    /// over all of them; who knows a password does not wait.
    refusals: Arc<AtomicU32>,
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
            let site = Site { shared, health, refusals: Arc::default() };
            let places = Arc::new(Places::default());
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

/// The connections that are open, the oldest first.
#[derive(Debug, Default)]
struct Places(Mutex<VecDeque<AbortHandle>>);

impl Places {
    /// Gives `newest` a place, that of the oldest if all are taken.
    fn give(&self, newest: AbortHandle) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(newest);
    }
}

async fn accept_all(listener: Listener, site: Site, places: Arc<Places>) {
    let mut pace = Pace::new(ACCEPTED_PER_TICK_MAX);
    let is_protected = protected_mode::applies_to_http(&listener, site.shared.engine.settings());
    loop {
        pace.keep().await;
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
        let task = tokio::spawn(async move {
            // A client that is slower is not told why: it may never read it.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, serve(accepted, site)).await;
        });
        places.give(task.abort_handle());
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
