//! The parts of the server that listeners, workers and connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::debug;

use crate::engine::Engine;
use crate::net::blocking::BlockingPool;
use crate::net::clients::{Client, Clients, ConnectionSlot};
use crate::net::clock::Clock;
use crate::net::listen::Accepted;
use crate::net::log_throttle::LogThrottle;
use crate::net::refuse::Refuser;
use crate::net::slow_clients::SlowClients;
use crate::net::stream::ClientStream;
use crate::net::tls::Tls;

/// How the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// At once.
    Now,
    /// Gracefully, as on SIGUSR1.
    Graceful,
}

/// The parts that all connections, workers and listeners use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Clock,
    pub(super) clients: Arc<Clients>,
    /// One permit for each connection that may be open at once (`-c`).
    pub(super) slots: Arc<Semaphore>,
    /// How many connections were accepted since the start.
    pub(super) accepted: AtomicU64,
    pub(super) refuser: Refuser,
    /// Limits the warnings about errors of `accept`.
    pub(super) accept_errors_log: LogThrottle,
    /// Limits the warnings about clients that were refused for their public address.
    pub(super) public_clients_log: LogThrottle,
    pub(super) blocking_pool: BlockingPool,
    pub(super) slow_clients: SlowClients,
    pub(super) stop: mpsc::Sender<StopKind>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Shared {
    pub(super) fn stop(&self, kind: StopKind) {
        // When the channel is full or closed, the server is stopping already.
        let _ = self.stop.try_send(kind);
    }

    /// Registers the socket of a connection with the runtime of the calling thread, with TLS if its listener speaks it.
    pub(super) fn stream(&self, accepted: Accepted) -> std::io::Result<ClientStream> {
        match (accepted.spoken.client_auth, &self.tls) {
            (Some(client_auth), Some(tls)) => {
                let session = tls.session(client_auth).map_err(std::io::Error::other)?;
                accepted.socket.into_tls_stream(session)
            }
            // Listeners only ask for TLS if there is TLS.
            _ => accepted.socket.into_stream(),
        }
    }

    /// The entry of a new connection, which keeps `permit` until it is closed.
    pub(super) fn opened(&self, accepted: &Accepted, permit: OwnedSemaphorePermit) -> Arc<Client> {
        let slot = ConnectionSlot::taken(permit, Arc::clone(&self.engine));
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Client::new(number, accepted, slot, self.clock.now()))
    }

    /// Counts a TLS handshake, if it began a session that the cache remembers.
    pub(super) fn count_tls_session(&self, is_new: bool) {
        if is_new && self.tls.as_ref().is_some_and(|tls| tls.remembers_sessions()) {
            self.engine.connections().tls_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a failed connection, if it was TLS that failed.
    #[cold]
    pub(super) fn count_tls_failure(&self, error: &std::io::Error) {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            self.engine.connections().tls_protocol_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn closed(&self, client: &Client) {
        debug!(client = %client, "connection closed");
        self.clients.remove(client);
    }
}
