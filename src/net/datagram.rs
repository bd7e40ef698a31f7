//! UDP (`-U`): a datagram brings requests, and datagrams bring the reply.
//!
//! Each datagram begins with a frame header of four numbers of 16 bits in network order: an id that the client chose
//! and finds in the reply, the number of the datagram in its message, how many datagrams the message has, and 0
//! (memcached's protocol document). A request must fit one datagram; one message answers all requests of a datagram.
//!
//! Rules:
//! - The sender of a datagram can forge its address, and so make a server that answers flood another machine. So the
//!   server does not answer datagrams from public addresses at all, not even with an error, nor any that could begin an
//!   endless exchange. It never answers a reply, whatever port that comes from: requests begin with a small letter or
//!   the magic of a packet, and no reply does.
//! - The server keeps nothing between datagrams: each is a session of its own. A reply that does not fit is replaced by
//!   a line that says so, or dropped where the client speaks the binary protocol, and datagrams that the system does not take at once are dropped. Each socket has one datagram
//!   and one reply in memory.
//! - A socket belongs to one worker: memcached wakes all workers for each datagram, of which one gets it, and replies
//!   to one client overtake each other. For more than one worker can do there is TCP.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Buf;
use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tracing::{debug, trace};

use super::connection::{SECRET, escaped};
use super::datagram_socket::DatagramSocket;
use super::protected_mode;
use super::shared::Shared;
use crate::engine::{Session, Then};
use crate::protocol::{Owed, REQUEST_MAGIC, reply};

/// The longest datagram, in bytes: its length, with the header of UDP, is a number of 16 bits (RFC 768).
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The length of the frame header, in bytes. Source: memcached's protocol document.
const HEADER_BYTES: usize = 8;

/// The longest datagram of a reply, in bytes, with the frame header. Source: memcached (`UDP_MAX_PAYLOAD_SIZE`); with
/// the headers of IP and UDP it fits a frame of Ethernet.
const DATAGRAM_BYTES_MAX: usize = 1400;

/// How many bytes of a reply one datagram carries.
const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES;

/// How many datagrams one reply has at most: enough for the largest value of the default `-I`. memcached stops at
/// 65,535, where its numbers end.
const DATAGRAMS_MAX: usize = 1024;

/// How many slices a long reply (`stats conns`, a dump) may take, each some tens of microseconds; meanwhile the
/// socket's other datagrams wait.
const LONG_REPLY_SLICES_MAX: usize = 64;

/// After so many datagrams received and sent, the socket yields to the worker's connections. As with their turns, that
/// is after about 0.1 ms, or 90 KB.
const DATAGRAMS_BEFORE_YIELD: usize = 64;

/// The lowest port that clients send from. Services have the ports below, and may answer a reply, and so on without end
/// (CVE-2024-2169).
const CLIENT_PORT_MIN: u16 = 1024;

/// Serves the datagrams of one socket.
pub(super) struct DatagramServer {
    socket: UdpSocket,
    address: SocketAddr,
    last_turn: Arc<AtomicU32>,
    worker: usize,
    shared: Arc<Shared>,
    input: Box<[u8]>,
    owed: Owed,
    /// How many datagrams were received and sent since this last yielded to the connections.
    datagrams_since_yield: usize,
}

impl DatagramServer {
    /// Serves `socket` as worker number `worker`. To be called within the worker's runtime.
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

    /// Serves until the worker ends.
    pub(super) async fn serve(mut self) {
        loop {
            match self.socket.recv_from(&mut self.input).await {
                Ok((length, peer)) => self.answer(length, peer).await,
                Err(error) => debug!(address = %self.address, %error, "cannot receive a datagram"),
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
        let mut session = engine.session(self.worker).with_descriptor(self.socket.as_raw_fd());
        if let Err(line) = self.run(&mut session, length).await {
            self.owed.clear();
            if self.input[HEADER_BYTES] == REQUEST_MAGIC {
                count(&engine.connections().dropped_datagrams);
                return;
            }
            self.owed.say(line);
        }
        if engine.verbosity() >= 2 {
            let is_secret = session.take_secrecy();
            let shown = if is_secret { SECRET } else { &self.input[HEADER_BYTES..length] };
            trace!(%peer, "< {}", escaped(shown));
            trace!(%peer, "> {}", escaped(self.owed.chunk()));
        }
        if self.send(id, peer).await.is_err() {
            count(&engine.connections().dropped_datagrams);
        }
        // A new buffer, or this one would stay as large as it has grown.
        self.owed = Owed::default();
    }

    /// Runs the requests of a datagram of `length` bytes, and puts the replies into `owed`. As in memcached, a request
    /// that is cut off gets no reply.
    ///
    /// # Errors
    /// The line to send in place of the replies.
    async fn run(&mut self, session: &mut Session, length: usize) -> Result<(), &'static [u8]> {
        let (mut at, mut slices) = (HEADER_BYTES, 0);
        loop {
            let now = self.shared.clock.now();
            self.last_turn.store(now.0, Ordering::Relaxed);
            let turn = self.shared.engine.turn(session, &self.input[at..length], &mut self.owed, now);
            at += turn.consumed;
            if self.owed.remaining() > DATAGRAMS_MAX * PAYLOAD_BYTES_MAX {
                return Err(reply::TOO_LARGE_FOR_UDP);
            }
            match turn.then {
                Then::Read { .. } | Then::Close => return Ok(()),
                // A client could not stop watching, nor be answered later; and any sender could forge an address to
                // stop the server.
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

    /// Sends the reply in as many datagrams as it needs; stops when the system takes no more.
    async fn send(&mut self, id: u16, peer: SocketAddr) -> std::io::Result<()> {
        let total = self.owed.remaining().div_ceil(PAYLOAD_BYTES_MAX);
        for number in 0..total {
            let mut datagram = [0; DATAGRAM_BYTES_MAX];
            let (header, payload) = datagram.split_at_mut(HEADER_BYTES);
            header.copy_from_slice(&frame_header(id, number, total));
            let bytes = self.owed.remaining().min(PAYLOAD_BYTES_MAX);
            self.owed.copy_to_slice(&mut payload[..bytes]);
            // The client cannot use a part of a reply, so the first datagram that the system does not take ends it.
            self.socket.try_send_to(&datagram[..HEADER_BYTES + bytes], peer)?;
            self.count_datagram().await;
        }
        Ok(())
    }

    /// Counts a datagram, and yields to the connections after [`DATAGRAMS_BEFORE_YIELD`] of them.
    async fn count_datagram(&mut self) {
        self.datagrams_since_yield += 1;
        if self.datagrams_since_yield >= DATAGRAMS_BEFORE_YIELD {
            self.datagrams_since_yield = 0;
            yield_now().await;
        }
    }
}

/// Whether the server drops a datagram from `peer` to `address` unread: if it comes from a public address, unless `-l`
/// named the address it came to (`-l 0.0.0.0`, which is enough for TCP, names none), or from the port of a service.
fn is_dropped(address: SocketAddr, peer: SocketAddr) -> bool {
    let is_far = address.ip().is_unspecified() && protected_mode::is_public(peer.ip());
    // Another server like this one may send its replies from the same port.
    is_far || peer.port() < CLIENT_PORT_MIN || peer.port() == address.port()
}

/// The id of a request; `None` if the datagram is no request, or a part of one, or may be a reply: two servers that
/// answer each other's errors would never stop (CVE-2024-2169). As in memcached, the server ignores the datagram's
/// number in the message and the reserved field.
fn request_id(datagram: &[u8]) -> Option<u16> {
    let (header, request) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [id_high, id_low, _, _, total_high, total_low, _, _] = *header;
    let is_whole = u16::from_be_bytes([total_high, total_low]) == 1;
    let may_be_request =
        request.first().is_some_and(|byte| byte.is_ascii_lowercase() || *byte == REQUEST_MAGIC);
    (is_whole && may_be_request).then(|| u16::from_be_bytes([id_high, id_low]))
}

/// The frame header of datagram `number`, counted from 0, of the `total` datagrams that answer request `id`.
fn frame_header(id: u16, number: usize, total: usize) -> [u8; HEADER_BYTES] {
    let field = |number: usize| u16::try_from(number).expect("a reply has fewer datagrams").to_be_bytes();
    let [id, number, total] = [id.to_be_bytes(), field(number), field(total)];
    [id[0], id[1], number[0], number[1], total[0], total[1], 0, 0]
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
            (frame([0, 1, 0, 9, 0, 1, 0xab, 0xcd], b"x"), Some(1)), // in fields that are ignored
            (frame([0, 1, 0, 0, 0, 2, 0, 0], b"x"), None),
            (frame([0, 1, 0, 1, 0, 2, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 0, 0, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 1, 1, 0, 0], b"x"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b""), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"ERROR\r\n"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"17\r\n"), None),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"\x80\x0a"), Some(1)),
            (frame([0, 1, 0, 0, 0, 1, 0, 0], b"\x81\x0a"), None),
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
    fn datagrams_from_public_addresses_are_dropped_unless_l_names_the_address_they_came_to() {
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
