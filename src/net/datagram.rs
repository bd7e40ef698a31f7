//! UDP (`-U`): a datagram brings requests, and datagrams bring the reply.
//!
//! Each datagram begins with a frame header of four numbers of 16 bits in network order: an id that the client chose and
//! finds in the reply, the datagram's place in its message, how many the message has, and 0 (memcached's protocol
//! document). Requests must fit one datagram; all that is asked in one is answered by one message.
//!
//! Rules:
//! - Whoever sends a datagram can put another's address on it, so a server that answers can be made to flood that other:
//!   what came from afar, or could go on for ever, gets no answer at all, not even an error. So no reply is ever
//!   answered, whatever port it comes from: requests begin with a small letter, and no reply does.
//! - Nothing is kept: each datagram is a session of its own, what does not fit is told so in a line, and what the
//!   system does not take at once is dropped. There are one datagram and one reply in memory for a socket.
//! - A socket belongs to one worker: memcached wakes all of them for each datagram, of which one gets it, and replies
//!   to one client overtake each other. Who needs more than a worker can do has TCP.

use std::net::{SocketAddr, UdpSocket as Bound};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Buf;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tracing::{debug, trace};

use super::connection::escaped;
use super::listen::{BindError, Endpoint, bind_each};
use super::{Shared, protected_mode};
use crate::clock::Tick;
use crate::engine::{Session, Then};
use crate::protocol::{Owed, reply};
use crate::settings::Settings;

/// The most that one datagram can bring, in bytes: its length, header of UDP included, is a number of 16 bits (RFC 768).
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The length of the frame header, in bytes. Source: memcached's protocol document.
const HEADER_BYTES: usize = 8;

/// The most one datagram of a reply has, in bytes, header included. Source: memcached (`UDP_MAX_PAYLOAD_SIZE`); with the
/// headers of IP and UDP it fits a frame of Ethernet.
const DATAGRAM_BYTES_MAX: usize = 1400;

/// What of it is the reply's.
const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES;

/// How many datagrams one reply has at most: enough for the largest value of the default `-I`. memcached stops at
/// 65,535, where its numbers end.
const DATAGRAMS_MAX: usize = 1024;

/// How many slices a job (`stats conns`, a dump) may take, each some tens of microseconds; meanwhile the socket's
/// other datagrams wait.
const LONG_REPLY_SLICES_MAX: usize = 64;

/// After so many datagrams received and sent, the worker's connections have their turn. As for them, that is after
/// about 0.1 ms, or 90 KB.
const DATAGRAMS_BEFORE_YIELD: usize = 64;

/// The ports below are those of services. A reply to one of them may be answered, and that answer answered, for ever
/// (CVE-2024-2169); no client sends from there.
const CLIENT_PORT_MIN: u16 = 1024;

/// A socket for datagrams that is open, and what is known of it.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: Bound,
    address: SocketAddr,
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

/// Opens every socket for datagrams that `settings` ask for: on the hosts that TCP has, too.
pub(super) fn bind_all(settings: &Settings) -> Result<Vec<DatagramSocket>, BindError> {
    let Some(port) = settings.udp_port.filter(|_| settings.unix_socket.is_none()) else {
        return Ok(Vec::new());
    };
    bind_each(&settings.listen, port, DatagramSocket::endpoint, |address, _| bind(address))
}

/// Without SO_REUSEADDR, which memcached sets: it would let two servers have the same port, and one of them starve.
fn bind(address: SocketAddr) -> Result<DatagramSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = Bound::from(socket);
        Ok(DatagramSocket { address: socket.local_addr()?, socket, last_turn: Arc::default() })
    };
    open().map_err(|source| BindError::Udp { address, source })
}

/// Serves the datagrams of one socket.
pub(super) struct DatagramServer {
    socket: UdpSocket,
    address: SocketAddr,
    last_turn: Arc<AtomicU32>,
    worker: usize,
    shared: Arc<Shared>,
    input: Box<[u8]>,
    owed: Owed,
    /// How many datagrams were received and sent since others had their turn.
    datagrams_since_yield: usize,
}

impl DatagramServer {
    /// Those that come through `socket`, for worker number `worker`. On the worker's own runtime.
    pub(super) fn new(
        socket: DatagramSocket,
        worker: usize,
        shared: Arc<Shared>,
    ) -> std::io::Result<DatagramServer> {
        let DatagramSocket { socket, address, last_turn } = socket;
        let socket = UdpSocket::from_std(socket)?;
        let input = vec![0; REQUEST_BYTES_MAX].into_boxed_slice();
        let owed = Owed::default();
        Ok(DatagramServer {
            socket,
            address,
            last_turn,
            worker,
            shared,
            input,
            owed,
            datagrams_since_yield: 0,
        })
    }

    /// Serves for ever.
    pub(super) async fn serve(mut self) {
        loop {
            match self.socket.recv_from(&mut self.input).await {
                Ok((length, peer)) => self.answer(length, peer).await,
                Err(error) => debug!(address = %self.address, %error, "cannot receive"),
            }
            self.count_datagram().await;
        }
    }

    /// Answers the datagram of `length` bytes that `peer` sent, or drops it.
    async fn answer(&mut self, length: usize, peer: SocketAddr) {
        let engine = Arc::clone(&self.shared.engine);
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        if is_dropped(self.address, peer) {
            count(&engine.connections().rejected_datagrams);
            return;
        }
        let Some(id) = request_id(&self.input[..length]) else {
            count(&engine.connections().malformed_datagrams);
            return;
        };
        let session = engine.session(self.worker).with_descriptor(self.socket.as_raw_fd());
        if let Err(line) = self.run(session, length).await {
            self.owed.clear();
            self.owed.say(line);
        }
        if engine.verbosity() >= 2 {
            trace!(%peer, "< {}", escaped(&self.input[HEADER_BYTES..length]));
            trace!(%peer, "> {}", escaped(self.owed.chunk()));
        }
        if self.send(id, peer).await.is_err() {
            count(&engine.connections().dropped_datagrams);
        }
        // As large as it grew for this one, it would stay.
        self.owed = Owed::default();
    }

    /// Runs the requests of a datagram of `length` bytes; what is owed for them is in `owed` then. One that is cut off
    /// is forgotten, as in memcached.
    ///
    /// # Errors
    /// The line that is to be said instead.
    async fn run(&mut self, mut session: Session, length: usize) -> Result<(), &'static [u8]> {
        let (mut at, mut slices) = (HEADER_BYTES, 0);
        loop {
            let now = self.shared.clock.now();
            self.last_turn.store(now.0, Ordering::Relaxed);
            let turn = self.shared.engine.turn(&mut session, &self.input[at..length], &mut self.owed, now);
            at += turn.consumed;
            if self.owed.remaining() > DATAGRAMS_MAX * PAYLOAD_BYTES_MAX {
                return Err(reply::TOO_LARGE_FOR_UDP);
            }
            match turn.then {
                Then::Read { .. } | Then::Close => return Ok(()),
                // Nobody could leave the one or be told of the other, and anybody could say that he is somebody else to do
                // the third.
                Then::Watch | Then::Wait | Then::Retry | Then::Shutdown { .. } => {
                    return Err(reply::NOT_OVER_UDP);
                }
                Then::Again => {
                    slices += usize::from(session.is_at_work());
                    if slices > LONG_REPLY_SLICES_MAX {
                        return Err(reply::TOO_LARGE_FOR_UDP);
                    }
                    self.datagrams_since_yield = 0;
                    yield_now().await;
                }
            }
        }
    }

    /// Sends what is owed, in as many datagrams as it takes, until the system takes no more.
    async fn send(&mut self, id: u16, peer: SocketAddr) -> std::io::Result<()> {
        let total = self.owed.remaining().div_ceil(PAYLOAD_BYTES_MAX);
        for number in 0..total {
            let mut datagram = [0; DATAGRAM_BYTES_MAX];
            let (header, payload) = datagram.split_at_mut(HEADER_BYTES);
            header.copy_from_slice(&frame_header(id, number, total));
            let bytes = self.owed.remaining().min(PAYLOAD_BYTES_MAX);
            self.owed.copy_to_slice(&mut payload[..bytes]);
            // Without the rest of it nobody can use the reply, so a datagram that is not taken ends it.
            self.socket.try_send_to(&datagram[..HEADER_BYTES + bytes], peer)?;
            self.count_datagram().await;
        }
        Ok(())
    }

    /// Counts a datagram, and lets others go first when there were enough.
    async fn count_datagram(&mut self) {
        self.datagrams_since_yield += 1;
        if self.datagrams_since_yield >= DATAGRAMS_BEFORE_YIELD {
            self.datagrams_since_yield = 0;
            yield_now().await;
        }
    }
}

/// Whether a datagram from `peer` to `address` is to be dropped unread. One comes from too far if its address is public,
/// unless `-l` named the address it came to: `-l 0.0.0.0`, which will do for TCP, names none.
fn is_dropped(address: SocketAddr, peer: SocketAddr) -> bool {
    let is_far = address.ip().is_unspecified() && protected_mode::is_public(peer.ip());
    // From our own port, at another address, there may be another server's replies.
    is_far || peer.port() < CLIENT_PORT_MIN || peer.port() == address.port()
}

/// The id of the request that a datagram is; `None` if it is none, or a part of one, or may be a reply: two servers that
/// answer each other's errors go on for ever (CVE-2024-2169). As in memcached, its number in the message and the
/// reserved field are not looked at.
fn request_id(datagram: &[u8]) -> Option<u16> {
    let (header, request) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [id_high, id_low, _, _, total_high, total_low, _, _] = *header;
    let is_whole = u16::from_be_bytes([total_high, total_low]) == 1;
    let may_be_request = request.first().is_some_and(u8::is_ascii_lowercase);
    (is_whole && may_be_request).then(|| u16::from_be_bytes([id_high, id_low]))
}

/// The header of datagram `number`, counted from 0, of the `total` that answer request `id`.
fn frame_header(id: u16, number: usize, total: usize) -> [u8; HEADER_BYTES] {
    let field = |number: usize| u16::try_from(number).expect("a reply has fewer datagrams").to_be_bytes();
    let [id, number, total] = [id.to_be_bytes(), field(number), field(total)];
    [id[0], id[1], number[0], number[1], total[0], total[1], 0, 0]
}

/// How long a socket has not been asked for anything, in seconds.
pub(super) fn idle_seconds(last_turn: &AtomicU32, started: Tick, now: Tick) -> u32 {
    now.seconds_since(Tick(last_turn.load(Ordering::Relaxed).max(started.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_datagram_with_a_header_and_something_behind_it() {
        let frame = |header: [u8; HEADER_BYTES], request: &[u8]| [&header[..], request].concat();
        for (datagram, expected) in [
            (frame([0x12, 0x34, 0, 0, 0, 1, 0, 0], b"x"), Some(0x1234)),
            (frame([0xff, 0xff, 0, 0, 0, 1, 0, 0], b"get a\r\n"), Some(u16::MAX)),
            (frame([0, 1, 0, 9, 0, 1, 0xab, 0xcd], b"x"), Some(1)), // what is not looked at
            (frame([0, 1, 0, 0, 0, 2, 0, 0], b"x"), None),
            (frame([0, 1, 0, 1, 0, 2, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 0, 0, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 1, 1, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b""), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"ERROR\r\n"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"17\r\n"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"\r\nget a\r\n"), None),
            (b"\0\x01\0\0\0\x01\0".to_vec(), None),
            (b"get a\r\n".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(request_id(&datagram), expected, "{datagram:?}");
        }
    }

    #[test]
    fn headers_number_the_datagrams_of_a_reply() {
        assert_eq!(frame_header(0x1234, 0, 1), [0x12, 0x34, 0, 0, 0, 1, 0, 0]);
        assert_eq!(frame_header(0, 1023, DATAGRAMS_MAX), [0, 0, 3, 0xff, 4, 0, 0, 0]);
    }

    #[test]
    fn far_away_is_who_has_a_public_address_unless_ours_was_named() {
        for (address, peer, expected) in [
            ("0.0.0.0:11211", "127.0.0.1:40000", false),
            ("0.0.0.0:11211", "10.1.2.3:1024", false),
            ("0.0.0.0:11211", "198.51.100.7:40000", true),
            ("[::]:11211", "[2001:db8::7]:40000", true),
            ("[::]:11211", "[fd00::7]:40000", false),
            ("198.51.100.8:11211", "198.51.100.7:40000", false),
            ("127.0.0.1:11211", "127.0.0.1:1023", true),
            ("127.0.0.1:11211", "127.0.0.2:11211", true),
            ("198.51.100.8:11211", "198.51.100.7:0", true),
        ] {
            let is_closed = is_dropped(address.parse().unwrap(), peer.parse().unwrap());
            assert_eq!(is_closed, expected, "{peer} to {address}");
        }
    }
}
