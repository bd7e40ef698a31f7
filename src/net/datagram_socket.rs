//! Opening the UDP sockets that the settings name.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use super::listen::{BindError, Endpoint, bind_each};
use crate::clock::Tick;
use crate::settings::Settings;

/// An open UDP socket that no worker serves yet.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    /// The tick of the last datagram that was answered.
    pub(super) last_turn: Arc<AtomicU32>,
}

impl DatagramSocket {
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::Udp(self.address)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Opens the UDP sockets that `settings` name, on the same hosts as those of TCP.
pub(super) fn bind_all(settings: &Settings) -> Result<Vec<DatagramSocket>, BindError> {
    let Some(port) = settings.udp_port.filter(|_| settings.unix_socket.is_none()) else {
        return Ok(Vec::new());
    };
    bind_each(&settings.listen, port, DatagramSocket::endpoint, |address, _| bind(address))
}

/// Opens one UDP socket. Without SO_REUSEADDR, which memcached sets: with it two servers could have the same port, and
/// one of them would starve.
fn bind(address: SocketAddr) -> Result<DatagramSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        Ok(DatagramSocket { address: socket.local_addr()?, socket, last_turn: Arc::default() })
    };
    open().map_err(|source| BindError::Udp { address, source })
}

/// How long a socket has had no request, in seconds.
pub(super) fn idle_seconds(last_turn: &AtomicU32, started: Tick, now: Tick) -> u32 {
    now.seconds_since(Tick(last_turn.load(Ordering::Relaxed).max(started.0)))
}
