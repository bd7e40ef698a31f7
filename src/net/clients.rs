//! The register of open connections: who they are, when they last asked for something, how to end them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use crate::clock::Tick;

/// One open connection.
#[derive(Debug)]
pub(super) struct Client {
    /// Counted from 1 in order of arrival.
    pub(super) number: u64,
    /// Where it comes from, for people.
    pub(super) peer: String,
    /// Whether it may be closed for being idle: local sockets may not, as in memcached.
    pub(super) may_time_out: bool,
    /// The tick of its last turn.
    last_turn: AtomicU32,
    /// Its place among the connections that may be open at once.
    _place: OwnedSemaphorePermit,
}

impl Client {
    pub(super) fn new(number: u64, peer: String, may_time_out: bool, place: OwnedSemaphorePermit) -> Client {
        Client { number, peer, may_time_out, last_turn: AtomicU32::new(0), _place: place }
    }

    /// Notes that it has a turn now.
    #[inline]
    pub(super) fn touch(&self, now: Tick) {
        self.last_turn.store(now.0, Ordering::Relaxed);
    }

    fn idle_seconds(&self, now: Tick) -> u32 {
        now.seconds_since(Tick(self.last_turn.load(Ordering::Relaxed)))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.number, self.peer)
    }
}

/// All of them. Bounded by `-c`.
#[derive(Debug, Default)]
pub(super) struct Clients {
    open: DashMap<u64, (std::sync::Arc<Client>, AbortHandle)>,
}

impl Clients {
    pub(super) fn insert(&self, client: std::sync::Arc<Client>, task: AbortHandle) {
        self.open.insert(client.number, (client, task));
    }

    pub(super) fn remove(&self, client: &Client) {
        self.open.remove(&client.number);
    }

    /// Ends the connections that have been idle for more than `seconds_max`; says how many.
    pub(super) fn end_idle(&self, now: Tick, seconds_max: u32) -> u64 {
        let mut ended = 0;
        for entry in &self.open {
            let (client, task) = entry.value();
            if client.may_time_out && client.idle_seconds(now) > seconds_max {
                tracing::debug!(client = %client, "closed: idle for more than {seconds_max} s");
                task.abort();
                ended += 1;
            }
        }
        ended
    }
}
