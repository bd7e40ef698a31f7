//! The network: listeners, the workers they hand connections to, and the clock. Only this module waits.
//!
//! The runtime of [`RunningServer::serve`] accepts connections. Each worker is a thread with a runtime of its own and
//! its own connections. No connection moves between workers, so requests share nothing but the store.

mod accept;
mod blocking;
mod client_memory;
mod clients;
mod clock;
mod connection;
mod datagram;
mod datagram_socket;
mod health;
mod healthcheck;
mod http;
mod listen;
mod log_throttle;
mod protected_mode;
mod refuse;
mod shared;
mod slow_clients;
mod stream;
pub mod tls;
mod turns;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tracing::error;

use crate::clock::TICKS_PER_SECOND;
use crate::engine::Engine;
use crate::engine::admin::certificates::Certificates;
use crate::engine::stats::connections::ConnectionList;
use crate::net::blocking::BlockingPool;
use crate::net::log_throttle::LogThrottle;
use crate::net::refuse::Refuser;
use crate::net::slow_clients::SlowClients;
use accept::accept_all;
use clients::Clients;
pub use clock::Clock;
use datagram_socket::DatagramSocket;
pub use health::{Health, State};
pub use healthcheck::{CHECK_TIME_MAX, healthcheck};
use listen::Listener;
pub use listen::{BindError, Endpoint};
use shared::Shared;
pub use shared::StopKind;
use tls::{HANDSHAKE_SECONDS_MAX, Tls};
use worker::{Incoming, NewConnection, start_worker};

/// The time between two calls of [`Engine::tick`].
const TICK: Duration = Duration::from_millis(1000 / TICKS_PER_SECOND as u64);

/// How many accepted connections may wait for one worker. When the queue is full, the listener waits.
const WORKER_QUEUE_MAX: usize = 1024;

/// A server that has its sockets, but no workers yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    datagram_sockets: Vec<DatagramSocket>,
    http_listeners: Vec<Listener>,
    stop_asked: mpsc::Receiver<StopKind>,
}

impl Server {
    /// Opens every socket that the engine's settings name; those for TCP speak TLS if there is `tls`. To be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], when one of them cannot be opened.
    pub fn bind(engine: Arc<Engine>, clock: Clock, tls: Option<Arc<Tls>>) -> Result<Server, BindError> {
        let listeners = listen::bind_all(engine.settings(), tls.as_deref())?;
        let datagram_sockets = datagram_socket::bind_all(engine.settings())?;
        Server::with_sockets(listeners, datagram_sockets, engine, clock, tls)
    }

    /// Listens on `sockets`, which another process has opened and handed in, instead of those of the settings; those
    /// for TCP speak TLS if there is `tls`. To be called within a tokio runtime.
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
        Server::with_sockets(listeners, Vec::new(), engine, clock, tls)
    }

    fn with_sockets(
        listeners: Vec<Listener>,
        datagram_sockets: Vec<DatagramSocket>,
        engine: Arc<Engine>,
        clock: Clock,
        tls: Option<Arc<Tls>>,
    ) -> Result<Server, BindError> {
        let http_listeners = listen::bind_http(engine.settings(), tls.as_deref())?;
        let (stop, stop_asked) = mpsc::channel(1);
        let slots = Arc::new(Semaphore::new(engine.settings().connections_max as usize));
        let clients = Arc::new(Clients::new(&listeners, &datagram_sockets, clock.now()));
        engine.set_connection_list(Arc::clone(&clients) as Arc<dyn ConnectionList>);
        if let Some(tls) = &tls {
            engine.set_certificates(Arc::clone(tls) as Arc<dyn Certificates>);
        }
        let shared = Arc::new(Shared {
            engine,
            clock,
            clients,
            slots,
            accepted: AtomicU64::new(0),
            refuser: Refuser::new(),
            blocking_pool: BlockingPool::here(),
            slow_clients: SlowClients::default(),
            accept_errors_log: LogThrottle::default(),
            public_clients_log: LogThrottle::default(),
            stop,
            tls,
        });
        Ok(Server { shared, listeners, datagram_sockets, http_listeners, stop_asked })
    }

    /// The addresses that the server listens on.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let listeners = self.listeners.iter().map(Listener::endpoint);
        listeners.chain(self.datagram_sockets.iter().map(DatagramSocket::endpoint)).collect()
    }

    /// The same addresses for the log, with a note on TLS; "nothing" if there are none.
    pub fn description(&self) -> String {
        let listeners = self.listeners.iter().map(Listener::to_string);
        let datagram_sockets = self.datagram_sockets.iter().map(|socket| socket.endpoint().to_string());
        let description = listeners.chain(datagram_sockets).collect::<Vec<_>>();
        if description.is_empty() { "nothing".to_owned() } else { description.join(", ") }
    }

    /// The addresses that HTTP is served on.
    pub fn http_endpoints(&self) -> Vec<Endpoint> {
        self.http_listeners.iter().map(Listener::endpoint).collect()
    }

    /// The addresses that HTTP is served on, for the log; `None` if it is not.
    pub fn http_description(&self) -> Option<String> {
        let listeners = self.http_listeners.iter().map(Listener::to_string).collect::<Vec<_>>();
        (!listeners.is_empty()).then(|| listeners.join(", "))
    }

    /// Whether protected mode refuses clients from the public Internet.
    pub fn is_protected(&self) -> bool {
        let settings = self.shared.engine.settings();
        self.listeners.iter().any(|listener| protected_mode::applies_to(listener, settings))
    }

    /// Starts the workers. To be called within the tokio runtime that opened the sockets; the server accepts no
    /// connection before [`RunningServer::serve`].
    ///
    /// # Errors
    /// When the system refuses a worker its thread or its runtime.
    pub fn start(mut self) -> std::io::Result<RunningServer> {
        let (stopping, stopped) = watch::channel(());
        let mut queues = Vec::new();
        let mut workers = Vec::new();
        let threads = self.shared.engine.settings().threads;
        // The workers take the datagram sockets in turn.
        let mut datagram_sockets: Vec<Vec<DatagramSocket>> = (0..threads).map(|_| Vec::new()).collect();
        std::mem::take(&mut self.datagram_sockets)
            .into_iter()
            .enumerate()
            .for_each(|(number, socket)| datagram_sockets[number % threads].push(socket));
        let (health, questions) = Health::of(threads);
        let health = Arc::new(health);
        for (number, (datagram_sockets, questions)) in datagram_sockets.into_iter().zip(questions).enumerate()
        {
            let (queue, accepted) = mpsc::channel(WORKER_QUEUE_MAX);
            queues.push(queue);
            let incoming = Incoming { accepted, datagram_sockets, questions };
            workers.push(start_worker(number, Arc::clone(&self.shared), incoming, stopped.clone())?);
        }
        let http_listeners = std::mem::take(&mut self.http_listeners);
        if !http_listeners.is_empty() {
            workers.push(http::start(
                http_listeners,
                Arc::clone(&self.shared),
                Arc::clone(&health),
                stopped,
            )?);
        }
        // The runtime panics when the system refuses it a thread for `Engine::tick`; so try here whether there is one.
        std::thread::Builder::new().spawn(|| ())?.join().expect("a thread that does nothing does not panic");
        Ok(RunningServer { server: self, queues, workers, health, stopping })
    }
}

/// A server whose workers wait for connections.
#[derive(Debug)]
pub struct RunningServer {
    server: Server,
    queues: Vec<mpsc::Sender<NewConnection>>,
    /// The threads of the workers, and that of HTTP.
    workers: Vec<JoinHandle<()>>,
    health: Arc<Health>,
    /// The workers stop when this is dropped.
    stopping: watch::Sender<()>,
}

impl RunningServer {
    /// How the server is, for who watches over it.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Serves until a client sends `shutdown` or `stop` is ready; returns which way to stop.
    pub async fn serve(self, stop: impl Future<Output = StopKind>) -> StopKind {
        let RunningServer {
            server: Server { shared, listeners, mut stop_asked, .. },
            queues,
            workers,
            health,
            stopping,
        } = self;
        for listener in listeners {
            let is_protected = protected_mode::applies_to(&listener, shared.engine.settings());
            tokio::spawn(accept_all(listener, is_protected, Arc::clone(&shared), queues.clone()));
        }
        if let Some(tls) = &shared.tls {
            tokio::spawn(tls::reload_changed_files(Arc::clone(tls)));
        }
        let ticking = tokio::spawn(keep_time(shared));
        health.set_state(State::Serving);
        let kind = tokio::select! {
            kind = stop => kind,
            Some(kind) = stop_asked.recv() => kind,
        };
        health.set_state(State::Stopping);
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

/// Calls [`Engine::tick`] with every tick, and about once a second closes connections that are idle or whose handshake
/// takes too long.
///
/// The engine may sweep many items in a tick, so it does that on a thread of its own: accepting does not wait for it.
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
            error!("the tick of the engine panicked");
        }
        shared.close_slow_readers();
        shared.wake_waiting_for_memory();
        if now.seconds_since(checked) == 0 {
            continue;
        }
        checked = now;
        if idle_seconds_max > 0 {
            let ended = shared.clients.close_idle(now, idle_seconds_max);
            shared.engine.connections().idle_kicks.fetch_add(ended, Ordering::Relaxed);
        }
        if shared.tls.is_some() {
            shared.clients.close_overdue_handshakes(now, HANDSHAKE_SECONDS_MAX);
        }
    }
}
