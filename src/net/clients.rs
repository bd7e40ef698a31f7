//! The register of open connections: their addresses, states and last turns, and the handles that close them.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use dashmap::DashMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::datagram_socket::{self, DatagramSocket};
use super::listen::{Accepted, Endpoint, Listener};
use crate::clock::Tick;
use crate::engine::Engine;
use crate::engine::stats::connections::{ConnectionInfo, ConnectionList, Remote, State, Transport};
use crate::engine::turn::then::Reason;
use crate::net::client_memory::ClientMemory;

/// The states of clients, by number. Listeners, which have a state of their own, are not clients.
const STATES: [State; 4] = [State::Reading, State::ReadingValue, State::Writing, State::Watching];

/// The connection has no handshake, or it is over.
const NO_HANDSHAKE: u8 = 0;
/// The handshake has been under way since the connection was opened.
const SHAKING_HANDS: u8 = 1;
/// The connection was closed because its handshake took too long.
const OVERDUE: u8 = 2;

/// One open connection.
#[derive(Debug)]
pub(super) struct Client {
    /// Counted from 1 in order of arrival.
    number: u64,
    /// The descriptor of its socket.
    pub(super) descriptor: RawFd,
    /// The client's address.
    peer: Endpoint,
    /// The address that the client connected to.
    local: Endpoint,
    /// The tick of its last turn.
    last_turn: AtomicU32,
    /// Its state, as an index of `STATES`. Only `stats conns` and the idle timeout use it.
    state: AtomicU8,
    /// Whether it was closed because it was idle.
    is_timed_out: AtomicBool,
    /// Whether it was closed because it was slow and others needed its memory.
    is_too_slow: AtomicBool,
    /// The memory that it occupies.
    pub(super) memory: ClientMemory,
    /// The state of its TLS handshake: `NO_HANDSHAKE`, `SHAKING_HANDS` or `OVERDUE`.
    handshake: AtomicU8,
    _slot: ConnectionSlot,
}

/// One of the connections that may be open at once; the statistics count it as open until this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    permit: Option<OwnedSemaphorePermit>,
    engine: Arc<Engine>,
}

impl ConnectionSlot {
    pub(super) fn taken(permit: OwnedSemaphorePermit, engine: Arc<Engine>) -> ConnectionSlot {
        let connections = engine.connections();
        connections.total.fetch_add(1, Ordering::Relaxed);
        let current = connections.current.fetch_add(1, Ordering::Relaxed) + 1;
        connections.most.fetch_max(current, Ordering::Relaxed);
        ConnectionSlot { permit: Some(permit), engine }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // In this order: a client that sees the lower count finds the slot free.
        drop(self.permit.take());
        self.engine.connections().current.fetch_sub(1, Ordering::Release);
    }
}

impl Client {
    /// Client `number`, which was just accepted.
    pub(super) fn new(number: u64, accepted: &Accepted, slot: ConnectionSlot, now: Tick) -> Client {
        Client {
            number,
            descriptor: accepted.descriptor(),
            peer: accepted.peer.clone(),
            local: accepted.local.clone(),
            last_turn: AtomicU32::new(now.0),
            state: AtomicU8::new(0),
            is_timed_out: AtomicBool::new(false),
            is_too_slow: AtomicBool::new(false),
            memory: ClientMemory::default(),
            handshake: AtomicU8::new(if accepted.spoken.client_auth.is_some() {
                SHAKING_HANDS
            } else {
                NO_HANDSHAKE
            }),
            _slot: slot,
        }
    }

    /// Notes that the client has a turn at `now`.
    #[inline]
    pub(super) fn touch(&self, now: Tick) {
        self.last_turn.store(now.0, Ordering::Relaxed);
    }

    /// When the client last had a turn, or moved bytes of a long one.
    pub(super) fn last_turn(&self) -> Tick {
        Tick(self.last_turn.load(Ordering::Relaxed))
    }

    /// Notes that it is closed because it is slow and others need its memory.
    pub(super) fn mark_too_slow(&self) {
        self.is_too_slow.store(true, Ordering::Relaxed);
    }

    /// Whether it was closed because it was slow and others needed its memory.
    pub(super) fn is_too_slow(&self) -> bool {
        self.is_too_slow.load(Ordering::Relaxed)
    }

    /// Sets the state that `stats conns` shows.
    pub(super) fn set_state(&self, state: State) {
        if let Some(number) = STATES.iter().position(|&each| each == state) {
            self.state.store(number as u8, Ordering::Relaxed);
        }
    }

    fn state(&self) -> State {
        STATES[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// The client's address, as `watch connevents` shows it.
    pub(super) fn remote(&self) -> Remote {
        match &self.peer {
            Endpoint::Tcp(address) => {
                Remote { address: address.ip().to_string(), port: address.port(), transport: Transport::Tcp }
            }
            Endpoint::Unix(_) | Endpoint::Udp(_) => {
                Remote { address: "unix".to_owned(), port: 0, transport: Transport::Local }
            }
        }
    }

    /// Why the connection was closed, if it did not end by itself.
    pub(super) fn close_reason(&self) -> Reason {
        if self.is_overdue() {
            Reason::Error
        } else if self.is_timed_out.load(Ordering::Relaxed) {
            Reason::IdleTimeout
        } else if self.is_too_slow() {
            Reason::TooSlow
        } else {
            Reason::Shutdown
        }
    }

    /// Notes that the handshake is over, unless it was found to take too long.
    pub(super) fn end_handshake(&self, now: Tick) {
        self.touch(now);
        let (from, to) = (SHAKING_HANDS, NO_HANDSHAKE);
        let _ = self.handshake.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the connection was closed because its handshake took too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.handshake.load(Ordering::Relaxed) == OVERDUE
    }

    /// Whether the idle timeout applies: as in memcached, it does not to UNIX sockets and clients that watch. But it
    /// does to a client that watches and does not read, whose connection others may need.
    fn may_time_out(&self) -> bool {
        matches!(self.peer, Endpoint::Tcp(_)) && self.state() != State::Watching
    }

    fn idle_seconds(&self, now: Tick) -> u32 {
        now.seconds_since(self.last_turn())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.number, self.peer)
    }
}

/// All open connections by their descriptors, bounded by `-c`, and the sockets that the server listens on.
#[derive(Debug)]
pub(super) struct Clients {
    open: DashMap<RawFd, (Arc<Client>, AbortHandle)>,
    listeners: Vec<(RawFd, Endpoint)>,
    /// Each with the tick of its last turn.
    datagram_sockets: Vec<(RawFd, Endpoint, Arc<AtomicU32>)>,
    started: Tick,
}

impl Clients {
    /// A register without connections.
    pub(super) fn new(listeners: &[Listener], datagram_sockets: &[DatagramSocket], now: Tick) -> Clients {
        let listeners = listeners.iter().map(|listener| (listener.descriptor(), listener.endpoint()));
        let datagram_sockets = datagram_sockets
            .iter()
            .map(|socket| (socket.descriptor(), socket.endpoint(), Arc::clone(&socket.last_turn)));
        Clients {
            open: DashMap::new(),
            listeners: listeners.collect(),
            datagram_sockets: datagram_sockets.collect(),
            started: now,
        }
    }

    pub(super) fn insert(&self, client: Arc<Client>, task: AbortHandle) {
        self.open.insert(client.descriptor, (client, task));
    }

    /// Removes `client`. To be called while its socket is open, or another may have its descriptor.
    pub(super) fn remove(&self, client: &Client) {
        self.open.remove_if(&client.descriptor, |_, (found, _)| found.number == client.number);
    }

    /// The clients for which `wanted` returns `true`, and the handles that close them.
    pub(super) fn select(&self, mut wanted: impl FnMut(&Client) -> bool) -> Vec<(Arc<Client>, AbortHandle)> {
        self.open.iter().filter(|entry| wanted(&entry.0)).map(|entry| entry.value().clone()).collect()
    }

    /// Closes the connections that have been idle for more than `seconds_max`; returns how many.
    pub(super) fn close_idle(&self, now: Tick, seconds_max: u32) -> u64 {
        let mut ended = 0;
        for entry in &self.open {
            let (client, task) = entry.value();
            if client.may_time_out() && client.idle_seconds(now) > seconds_max {
                tracing::debug!(client = %client, "closed: idle for more than {seconds_max} s");
                client.is_timed_out.store(true, Ordering::Relaxed);
                task.abort();
                ended += 1;
            }
        }
        ended
    }
}

impl Clients {
    /// Closes the connections whose handshake has taken more than `seconds_max`.
    pub(super) fn close_overdue_handshakes(&self, now: Tick, seconds_max: u32) {
        for entry in &self.open {
            let (client, task) = entry.value();
            let is_shaking_hands = client.handshake.load(Ordering::Relaxed) == SHAKING_HANDS;
            // The client has no turn before its handshake is over, so it counts as idle since it connected.
            if is_shaking_hands && client.idle_seconds(now) > seconds_max {
                let (from, to) = (SHAKING_HANDS, OVERDUE);
                // The handshake may just have ended.
                if client.handshake.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    task.abort();
                }
            }
        }
    }
}

impl ConnectionList for Clients {
    fn descriptors(&self) -> Vec<i32> {
        let open = self.open.iter().map(|entry| *entry.key());
        let listening = self.listeners.iter().map(|(descriptor, _)| *descriptor);
        let datagram_sockets = self.datagram_sockets.iter().map(|(descriptor, _, _)| *descriptor);
        let mut descriptors: Vec<_> = open.chain(listening).chain(datagram_sockets).collect();
        descriptors.sort_unstable();
        descriptors
    }

    fn connection(&self, descriptor: i32, now: Tick) -> Option<ConnectionInfo> {
        if let Some(entry) = self.open.get(&descriptor) {
            let (client, _) = entry.value();
            return Some(ConnectionInfo {
                address: shown(&client.peer),
                listen_address: Some(shown(&client.local)),
                state: client.state(),
                idle_seconds: client.idle_seconds(now),
            });
        }
        if let Some((_, endpoint, last_turn)) =
            self.datagram_sockets.iter().find(|(socket, _, _)| *socket == descriptor)
        {
            return Some(ConnectionInfo {
                address: shown(endpoint),
                listen_address: None,
                state: State::Reading,
                idle_seconds: datagram_socket::idle_seconds(last_turn, self.started, now),
            });
        }
        let (_, endpoint) = self.listeners.iter().find(|(listener, _)| *listener == descriptor)?;
        Some(ConnectionInfo {
            address: shown(endpoint),
            listen_address: None,
            state: State::Listening,
            idle_seconds: now.seconds_since(self.started),
        })
    }
}

/// An address as `stats conns` shows it.
fn shown(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(address) if address.is_ipv6() => format!("tcp6:{address}"),
        Endpoint::Tcp(address) => format!("tcp:{address}"),
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
        Endpoint::Udp(address) if address.is_ipv6() => format!("udp6:{address}"),
        Endpoint::Udp(address) => format!("udp:{address}"),
    }
}
