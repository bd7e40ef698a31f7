//! Refusing a client with one line that says why, and closing its connection so that the line arrives.
//!
//! When a socket is closed while input is unread or still to come, the system answers with a reset, and the reset can
//! overtake the line: the client then sees `connection reset` and no reason. So the server sends the line and the end
//! of the stream, and then, for a short while, lingers: it discards what the client sends until the client has closed,
//! too.
//!
//! Rule: a refusal costs the server next to nothing. At most [`LINGERING_MAX`] sockets linger, which do not count as
//! connections; further ones are closed at once.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::net::stream::AcceptedSocket;

/// How many sockets may linger at once. Half of the descriptors that the server reserves for other things than
/// connections.
const LINGERING_MAX: usize = 16;

/// How long a socket may linger. Enough for a round trip of any length on Earth and a retransmission of the line, whose
/// first time-out is 1 s (RFC 6298).
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How much a client may send meanwhile, in bytes: about as much as its system sends before it hears anything.
const LINGER_BYTES_MAX: usize = 64 << 10;

/// How much of it one read discards, in bytes.
const READ_BYTES_MAX: usize = 4 << 10;

/// Refuses clients.
#[derive(Debug)]
pub(super) struct Refuser {
    lingering: Arc<Semaphore>,
}

impl Refuser {
    pub(super) fn new() -> Refuser {
        Refuser { lingering: Arc::new(Semaphore::new(LINGERING_MAX)) }
    }

    /// Sends `line` and closes, without looking at what the client sent. The socket is new and does not block: the line
    /// fits its buffer, or the client has gone. As in memcached the line is plain text even where the listener speaks
    /// TLS, because a handshake is work. To be called within a tokio runtime.
    pub(super) fn refuse(&self, socket: AcceptedSocket, line: &[u8]) {
        match socket {
            AcceptedSocket::Tcp(mut socket) => {
                if socket.write_all(line).is_err() || socket.shutdown(Shutdown::Write).is_err() {
                    return;
                }
                let Ok(slot) = Arc::clone(&self.lingering).try_acquire_owned() else { return };
                let Ok(socket) = TcpStream::from_std(socket) else { return };
                tokio::spawn(async move {
                    // It does not matter whether the client left or its time is over.
                    let _ = tokio::time::timeout(LINGER_TIME_MAX, linger(socket)).await;
                    drop(slot);
                });
            }
            AcceptedSocket::Unix(mut socket) => {
                // A UNIX socket delivers what it took even when it is closed.
                let _ = socket.write_all(line);
            }
        }
    }
}

/// Discards input until the client closes or has sent too much.
async fn linger(mut socket: TcpStream) {
    let mut scratch = [0; READ_BYTES_MAX];
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX {
        match socket.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(read) => discarded += read,
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

    /// Leaves the runtime to others for `time`.
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
    async fn few_sockets_linger_for_a_short_time_and_the_rest_is_closed_at_once() {
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
            assert_eq!(read, LINE, "a client whose socket does not linger is told all the same");
        }
        while refuser.lingering.available_permits() < LINGERING_MAX {
            assert!(begun.elapsed() < 10 * LINGER_TIME_MAX, "they linger for ever");
            let_pass(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= LINGER_TIME_MAX);
    }

    #[tokio::test]
    async fn a_client_that_goes_on_sending_does_not_linger_for_long() {
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
