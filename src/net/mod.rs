//! All that waits: listeners, the workers they hand connections to, and the clock.
//!
//! The runtime of [`Running::serve`] accepts; each worker is a thread with a runtime of its own and its own
//! connections. Nothing moves between workers, so nothing is shared on the way of a request but the store.

mod blocking;
mod clients;
mod clock;
mod connection;
mod datagram;
mod guard;
mod listen;
mod log_throttle;
mod refuse;
mod slow_clients;
mod stream;
pub mod tls;
mod turns;

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{debug, error, warn};

use crate::clock::TICKS_PER_SECOND;
use crate::engine::Engine;
use crate::engine::admin::certificates::Certificates;
use crate::engine::stats::connections::Roster;
use crate::net::blocking::Errands;
use crate::net::log_throttle::Seldom;
use crate::net::refuse::Farewells;
use crate::protocol::reply;
use clients::{Client, Clients, Place};
pub use clock::Clock;
use connection::Connection;
use datagram::{Datagrams, Door};
use listen::{Accepted, Listener};
pub use listen::{BindError, Endpoint};
use stream::Stream;
use tls::{HANDSHAKE_SECONDS_MAX, Tls};
use turns::turns;

/// How often the engine is told what time it is.
const TICK: Duration = Duration::from_millis(1000 / TICKS_PER_SECOND as u64);

/// How long accepting stops when the system has no descriptor left, and how often a full server looks again.
/// Source: memcached (10 ms).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How many accepted connections may wait for one worker.
const HANDOVERS_MAX: usize = 1024;

/// How the server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// At once.
    Now,
    /// Gracefully: as SIGUSR1 does.
    Graceful,
}

/// What every part of the network needs.
#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    clock: Clock,
    clients: Arc<Clients>,
    places: Arc<Semaphore>,
    accepted: AtomicU64,
    farewells: Farewells,
    /// The last tick at which all clients were looked through for slow ones, and there were none.
    nobody_slow_at: AtomicU32,
    /// Clients ended for what was held for them.
    too_slow: Seldom,
    /// Times that nobody could be accepted.
    cannot_accept: Seldom,
    /// Clients refused for their public address.
    turned_away: Seldom,
    errands: Errands,
    /// Those who wait for room in the store. Bounded by `-c`.
    awaiting_room: Mutex<Vec<Waker>>,
    stop: mpsc::Sender<StopKind>,
    tls: Option<Arc<Tls>>,
}

/// A server that has its sockets, but no workers yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    doors: Vec<Door>,
    stop_asked: mpsc::Receiver<StopKind>,
}

impl Server {
    /// Opens every socket that the engine's settings ask for, those for TCP with `tls` if there is any. Within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], when one of them cannot be had.
    pub fn bind(engine: Arc<Engine>, clock: Clock, tls: Option<Arc<Tls>>) -> Result<Server, BindError> {
        let listeners = listen::bind_all(engine.settings(), tls.as_deref())?;
        let doors = datagram::bind_all(engine.settings())?;
        Ok(Server::on(listeners, doors, engine, clock, tls))
    }

    /// Listens on `sockets` that were opened by somebody else, in place of those of the settings; with `tls`, if there
    /// is any, where they are of TCP. Within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError::HandedIn`], when one of them is not a listening stream socket.
    pub fn adopt(
        sockets: Vec<OwnedFd>,
        engine: Arc<Engine>,
        clock: Clock,
        tls: Option<Arc<Tls>>,
    ) -> Result<Server, BindError> {
        let listeners = sockets.into_iter().map(|socket| listen::adopt(socket, tls.as_deref()));
        let listeners = listeners.collect::<Result<_, _>>()?;
        Ok(Server::on(listeners, Vec::new(), engine, clock, tls))
    }

    fn on(
        listeners: Vec<Listener>,
        doors: Vec<Door>,
        engine: Arc<Engine>,
        clock: Clock,
        tls: Option<Arc<Tls>>,
    ) -> Server {
        let (stop, stop_asked) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(engine.settings().connections_max as usize));
        let clients = Arc::new(Clients::new(&listeners, &doors, clock.now()));
        engine.set_roster(Arc::clone(&clients) as Arc<dyn Roster>);
        if let Some(tls) = &tls {
            engine.set_certificates(Arc::clone(tls) as Arc<dyn Certificates>);
        }
        let shared = Arc::new(Shared {
            engine,
            clock,
            clients,
            places,
            accepted: AtomicU64::new(0),
            farewells: Farewells::new(),
            errands: Errands::here(),
            awaiting_room: Mutex::default(),
            nobody_slow_at: AtomicU32::new(0),
            too_slow: Seldom::default(),
            cannot_accept: Seldom::default(),
            turned_away: Seldom::default(),
            stop,
            tls,
        });
        Server { shared, listeners, doors, stop_asked }
    }

    /// What is listened on.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let listeners = self.listeners.iter().map(Listener::endpoint);
        listeners.chain(self.doors.iter().map(Door::endpoint)).collect()
    }

    /// The same for people, with what is spoken there.
    pub fn listed(&self) -> String {
        let listeners = self.listeners.iter().map(Listener::to_string);
        let doors = self.doors.iter().map(|door| door.endpoint().to_string());
        let listed = listeners.chain(doors).collect::<Vec<_>>();
        if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") }
    }

    /// Whether clients from the public Internet are turned away, because nobody said where to listen.
    pub fn is_guarded(&self) -> bool {
        let settings = self.shared.engine.settings();
        self.listeners.iter().any(|listener| guard::is_wanted(listener, settings))
    }

    /// Starts the workers, each with all it needs from the system. Within the tokio runtime that opened the sockets;
    /// nothing is accepted before [`Running::serve`].
    ///
    /// # Errors
    /// When a worker's thread or runtime cannot be had.
    pub fn start(mut self) -> std::io::Result<Running> {
        let (stopping, stopped) = watch::channel(());
        let mut handovers = Vec::new();
        let mut workers = Vec::new();
        let threads = self.shared.engine.settings().threads;
        // One socket for datagrams each, in turn.
        let mut doors: Vec<Vec<Door>> = (0..threads).map(|_| Vec::new()).collect();
        std::mem::take(&mut self.doors)
            .into_iter()
            .enumerate()
            .for_each(|(number, door)| doors[number % threads].push(door));
        for (number, doors) in doors.into_iter().enumerate() {
            let (handover, accepted) = mpsc::channel(HANDOVERS_MAX);
            handovers.push(handover);
            let incoming = Incoming { accepted, doors };
            workers.push(start_worker(number, Arc::clone(&self.shared), incoming, stopped.clone())?);
        }
        // The runtime panics when it needs a thread to tidy up on and there is none, so that is tried before.
        std::thread::Builder::new().spawn(|| ())?.join().expect("a thread that does nothing does not panic");
        Ok(Running { server: self, handovers, workers, stopping })
    }
}

/// A server whose workers wait for connections.
#[derive(Debug)]
pub struct Running {
    server: Server,
    handovers: Vec<mpsc::Sender<Handed>>,
    workers: Vec<JoinHandle<()>>,
    /// Dropped to stop the workers.
    stopping: watch::Sender<()>,
}

impl Running {
    /// Serves until a client asks to stop (`shutdown`) or `stop` does; says how.
    pub async fn serve(self, stop: impl Future<Output = StopKind>) -> StopKind {
        let Running {
            server: Server { shared, listeners, mut stop_asked, .. },
            handovers,
            workers,
            stopping,
        } = self;
        for listener in listeners {
            let is_guarded = guard::is_wanted(&listener, shared.engine.settings());
            tokio::spawn(accept_all(listener, is_guarded, Arc::clone(&shared), handovers.clone()));
        }
        if let Some(tls) = &shared.tls {
            tokio::spawn(tls::keep_new(Arc::clone(tls)));
        }
        let ticking = tokio::spawn(keep_time(shared));
        let kind = tokio::select! {
            kind = stop => kind,
            Some(kind) = stop_asked.recv() => kind,
        };
        ticking.abort();
        drop(stopping);
        for worker in workers {
            if worker.join().is_err() {
                error!("a worker thread panicked");
            }
        }
        kind
    }
}

impl Shared {
    fn stop(&self, kind: StopKind) {
        // Full or closed: the server is stopping already.
        let _ = self.stop.try_send(kind);
    }

    /// Registers the socket of a connection with the runtime of the calling thread, and puts TLS on it if it is to
    /// have any.
    fn stream(&self, accepted: Accepted) -> std::io::Result<Stream> {
        match (accepted.asked, &self.tls) {
            (Some(asked), Some(tls)) => {
                let session = tls.session(asked).map_err(std::io::Error::other)?;
                accepted.handover.into_tls_stream(session)
            }
            // Without TLS no listener asks for anything.
            _ => accepted.handover.into_stream(),
        }
    }

    /// A new connection, with a place of its own.
    fn opened(&self, accepted: &Accepted, permit: OwnedSemaphorePermit) -> Arc<Client> {
        let place = Place::taken(permit, Arc::clone(&self.engine));
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Client::new(number, accepted, place, self.clock.now()))
    }

    /// Counts a TLS handshake, if it began a session that is remembered.
    fn count_session(&self, is_new: bool) {
        if is_new && self.tls.as_ref().is_some_and(|tls| tls.remembers_sessions()) {
            self.engine.connections().tls_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of a connection, if it was TLS that failed.
    #[cold]
    fn count_failure(&self, error: &std::io::Error) {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            self.engine.connections().tls_protocol_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn closed(&self, client: &Client) {
        debug!(client = %client, "connection closed");
        self.clients.remove(client);
    }
}

/// Tells the engine the time, and about once a second ends connections that are idle or do not get on with TLS.
///
/// The engine may have much to tidy up, so it does that on a thread of its own: accepting does not wait for it.
async fn keep_time(shared: Arc<Shared>) {
    let idle_seconds_max = shared.engine.settings().idle_seconds_max;
    let mut checked = shared.clock.now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = shared.clock.now();
        let engine = Arc::clone(&shared.engine);
        if tokio::task::spawn_blocking(move || engine.tick(now)).await.is_err() {
            error!("tidying up panicked");
        }
        shared.make_room();
        if now.seconds_since(checked) == 0 {
            continue;
        }
        checked = now;
        if idle_seconds_max > 0 {
            let ended = shared.clients.end_idle(now, idle_seconds_max);
            shared.engine.connections().idle_kicks.fetch_add(ended, Ordering::Relaxed);
        }
        if shared.tls.is_some() {
            shared.clients.end_overdue(now, HANDSHAKE_SECONDS_MAX);
        }
    }
}

type Handed = (Accepted, Arc<Client>);

/// Where a worker's requests come from.
struct Incoming {
    accepted: mpsc::Receiver<Handed>,
    doors: Vec<Door>,
}

/// Accepts for one listener, and hands the connections to the workers in turn; where `is_guarded`, those of
/// outsiders are refused.
async fn accept_all(
    listener: Listener,
    is_guarded: bool,
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<Handed>>,
) {
    let connections = shared.engine.connections();
    let fast = shared.engine.settings().maxconns_fast;
    let mut turn = 0;
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: no use in trying again at once.
                if let Some(times) = shared.cannot_accept.count(1, shared.clock.now()) {
                    warn!(
                        "no client could be accepted ({times} tries since this was last said): {error}; raise the limit \
                         on open files (ulimit -n, or LimitNOFILE= of systemd) or lower -c (--conn-limit)"
                    );
                }
                pause_listening(&shared, tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        if is_guarded && guard::is_against(&accepted) {
            connections.rejected_public.fetch_add(1, Ordering::Relaxed);
            guard::log(&shared.turned_away, &accepted.peer, shared.clock.now());
            shared.farewells.say(accepted.handover, reply::PUBLIC_ADDRESS);
            continue;
        }
        let place = match Arc::clone(&shared.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) if fast => None,
            // This one waits for a place, and all behind it in the backlog.
            Err(_) => Some(wait_for_place(&shared).await),
        };
        let Some(place) = place else {
            connections.rejected.fetch_add(1, Ordering::Relaxed);
            debug!(peer = %accepted.peer, "refused: too many open connections");
            shared.farewells.say(accepted.handover, reply::TOO_MANY_CONNECTIONS);
            continue;
        };
        let client = shared.opened(&accepted, place);
        debug!(client = %client, "connection opened");
        turn = (turn + 1) % workers.len();
        if workers[turn].send((accepted, client)).await.is_err() {
            // The worker is gone. Either the server is stopping, or it cannot go on.
            return shared.stop(StopKind::Now);
        }
    }
}

/// A place among the connections that may be open at once; until there is one, nothing more is accepted.
async fn wait_for_place(shared: &Shared) -> OwnedSemaphorePermit {
    let places = Arc::clone(&shared.places);
    pause_listening(shared, places.acquire_owned()).await.expect("the semaphore is never closed")
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

/// Starts worker `number`: a thread that serves what is `incoming` until `stopped` says so.
fn start_worker(
    number: usize,
    shared: Arc<Shared>,
    incoming: Incoming,
    stopped: watch::Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    // The thread first, for a runtime that found no thread could not be dropped here, within another.
    let (give, given) = std::sync::mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let runtime: Result<tokio::runtime::Runtime, _> = given.recv();
        if let Ok(runtime) = runtime {
            runtime.block_on(work(number, shared, incoming, stopped));
        }
    })?;
    // Nobody takes it only if the thread is gone, and joining that will tell why.
    let _ = give.send(tokio::runtime::Builder::new_current_thread().enable_io().build()?);
    Ok(worker)
}

async fn work(number: usize, shared: Arc<Shared>, incoming: Incoming, mut stopped: watch::Receiver<()>) {
    let Incoming { mut accepted, doors } = incoming;
    for door in doors {
        let endpoint = door.endpoint();
        match Datagrams::new(door, number, Arc::clone(&shared)) {
            Ok(datagrams) => drop(tokio::spawn(datagrams.serve())),
            Err(error) => error!("cannot serve {endpoint}: {error}"),
        }
    }
    let (turns, callers) = turns();
    let turns = Arc::new(turns);
    let mut calling = pin!(callers.call());
    loop {
        let (accepted, client) = tokio::select! {
            Some(handed) = accepted.recv() => handed,
            _ = stopped.changed() => return,
            () = &mut calling => return, // never, for there are queues
        };
        match shared.stream(accepted) {
            Ok(stream) => {
                let session = shared.engine.session(number).with_descriptor(client.descriptor).patient();
                shared.engine.log_opened(&session, || client.remote(), shared.clock.now());
                let connection = Connection::new(
                    stream,
                    session,
                    Arc::clone(&client),
                    Arc::clone(&shared),
                    Arc::clone(&turns),
                );
                // The task cannot have run before it is entered: it is this thread that will run it.
                let task = tokio::spawn(connection.serve());
                shared.clients.insert(client, task.abort_handle());
            }
            Err(error) => {
                debug!(client = %client, %error, "cannot take over connection");
                shared.closed(&client);
            }
        }
    }
}
