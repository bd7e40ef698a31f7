//! One last line to a client that is turned away, in a way that it arrives.
//!
//! A socket that is closed while something it was sent is unread, or still to come, answers with a reset, and a reset
//! can overtake the line: the client then sees `connection reset` and no reason. So the line is sent, the end behind
//! it, and for a short while what the client sends is thrown away unread, until it has closed, too.
//!
//! Rule: it costs the server next to nothing. Those who linger are few, hold no place among the connections, and
//! are closed at once when there are more.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::net::stream::AcceptedSocket;

/// How many may linger at once. Half of the descriptors that are kept for what is no connection.
const LINGERING_MAX: usize = 16;

/// How long one may linger. Enough for a round trip of any length on Earth and a retransmission of the line, whose
/// first time-out is 1 s (RFC 6298).
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How much one may send meanwhile, in bytes: about what a client's system sends before it hears anything.
const LINGER_BYTES_MAX: usize = 64 << 10;

/// How much of it one read throws away, in bytes.
const READ_BYTES_MAX: usize = 4 << 10;

/// Turns clients away.
#[derive(Debug)]
pub(super) struct Refuser {
    lingering: Arc<Semaphore>,
}

impl Refuser {
    pub(super) fn new() -> Refuser {
        Refuser { lingering: Arc::new(Semaphore::new(LINGERING_MAX)) }
    }

    /// Sends `line` and closes. Nothing the client sent is looked at. The socket is fresh and does not block: the
    /// line fits its buffer, or the client has gone and does not miss it. As with
    /// memcached it is plain text even where TLS is spoken: a handshake is work. Within a tokio runtime.
    pub(super) fn refuse(&self, socket: AcceptedSocket, line: &[u8]) {
        match socket {
            AcceptedSocket::Tcp(mut socket) => {
                if socket.write_all(line).is_err() || socket.shutdown(Shutdown::Write).is_err() {
                    return;
                }
                let Ok(slot) = Arc::clone(&self.lingering).try_acquire_owned() else { return };
                let Ok(socket) = TcpStream::from_std(socket) else { return };
                tokio::spawn(async move {
                    // Whether it left or has to does not matter.
                    let _ = tokio::time::timeout(LINGER_TIME_MAX, linger(socket)).await;
                    drop(slot);
                });
            }
            AcceptedSocket::Unix(mut socket) => {
                // Nothing is lost on its way within a machine.
                let _ = socket.write_all(line);
            }
        }
    }
}

/// Throws away what comes, until the other end closes or has sent too much.
async fn linger(mut socket: TcpStream) {
    let mut scratch = [0; READ_BYTES_MAX];
    let mut thrown_away = 0;
    while thrown_away < LINGER_BYTES_MAX {
        match socket.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(read) => thrown_away += read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as Client};
    use std::time::Instant;

    use crate::net::refuse::*;

    const LINE: &[u8] = b"SERVER_ERROR go away\r\n";

    /// A client, and the other end of its connection.
    fn pair(listener: &TcpListener) -> (Client, AcceptedSocket) {
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (client, AcceptedSocket::Tcp(socket))
    }

    /// Has `refuser` go on for `time`.
    async fn let_pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test]
    async fn a_client_that_sends_before_and_after_still_reads_the_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refuser = Refuser::new();
        let (mut client, socket) = pair(&listener);
        client.write_all(b"get a\r\n").unwrap();
        refuser.refuse(socket, LINE);
        for _ in 0..10 {
            let_pass(Duration::from_millis(10)).await;
            client.write_all(b"get a\r\n").expect("no reset while it lingers");
        }
        let mut read = Vec::new();
        client.read_to_end(&mut read).expect("an end, not a reset");
        assert_eq!(read, LINE);
    }

    #[tokio::test]
    async fn few_linger_for_a_short_time_and_the_rest_is_closed_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refuser = Refuser::new();
        let begun = Instant::now();
        let clients: Vec<_> = (0..LINGERING_MAX + 4)
            .map(|_| {
                let (client, socket) = pair(&listener);
                refuser.refuse(socket, LINE);
                client
            })
            .collect();
        assert_eq!(refuser.lingering.available_permits(), 0);
        for mut client in &clients {
            let mut read = Vec::new();
            client.read_to_end(&mut read).unwrap();
            assert_eq!(read, LINE, "who does not linger is told all the same");
        }
        while refuser.lingering.available_permits() < LINGERING_MAX {
            assert!(begun.elapsed() < 10 * LINGER_TIME_MAX, "they linger for ever");
            let_pass(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= LINGER_TIME_MAX);
    }

    #[tokio::test]
    async fn one_who_goes_on_sending_does_not_linger_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, socket) = pair(&listener);
        let AcceptedSocket::Tcp(socket) = socket else { unreachable!("it is a pair of TCP") };
        let lingering = tokio::spawn(linger(TcpStream::from_std(socket).unwrap()));
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while !lingering.is_finished() {
            // It may be full for a moment, or closed by now.
            sent += (&client).write(&[b'x'; READ_BYTES_MAX]).unwrap_or(0);
            let_pass(Duration::from_millis(1)).await;
        }
        assert!(sent >= LINGER_BYTES_MAX, "{sent}");
    }
}
