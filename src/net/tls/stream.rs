//! A TCP socket with TLS, which waits and fails as the socket itself does.
//!
//! Rules:
//! - one read of the socket, one write to it: all that one read brings is decrypted, and all that is written at once is
//!   sent at once, up to `UNSENT_BYTES_MAX`;
//! - `poll_write` returns `Pending` until the socket has all bytes it has taken, and must be called again with the same
//!   bytes; so nothing has to be flushed;
//! - while there is something to send, nothing is read;
//! - after as much ciphertext as one read may bring, the connection yields to others, whatever that decrypts to:
//!   records of one byte, or of none, cost as much as long ones.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::net::turns::{Turns, yield_to_others};

/// How much one read of the socket may bring, in bytes: as much as one of a socket without TLS.
const READ_BYTES_MAX: usize = 64 << 10;

/// With less room than this, in bytes, the session itself reads ciphertext, into its own buffer of this length; then it
/// may keep some plaintext.
const ROOM_BYTES_MIN: usize = 4096;

/// How much a client may send in one handshake, and afterwards without any data in it, in bytes: the session may have
/// to hold all of it. Twice the length of a record, and enough for some ten certificates; rustls would accept 64 KB.
const DATALESS_BYTES_MAX: usize = 32 << 10;

thread_local! {
    /// Ciphertext between the socket and its session, of one connection at a time and only within one read.
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice());
}

/// One TLS connection.
#[derive(Debug)]
pub(in crate::net) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// How many bytes the session has taken in `poll_write` whose ciphertext is not sent yet.
    taken: usize,
    /// Whether the client has sent anything.
    has_received: bool,
    /// How many bytes were read since the connection last yielded to others.
    bytes_since_yield: usize,
    /// How many bytes were read since the last that carried data, or since the handshake ended.
    dataless_bytes: usize,
}

impl TlsStream {
    pub(in crate::net) fn new(socket: TcpStream, session: ServerConnection) -> TlsStream {
        TlsStream { socket, session, taken: 0, has_received: false, bytes_since_yield: 0, dataless_bytes: 0 }
    }

    pub(in crate::net) fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.socket)
    }

    /// Runs the handshake; `false` if the client left without sending anything, as health checks do. Each piece that
    /// the client sends waits for its turn in the queue of handshakes.
    ///
    /// # Errors
    /// When the handshake fails. The client was told, if it reads.
    pub(in crate::net) async fn shake_hands(&mut self, turns: &Turns) -> io::Result<bool> {
        loop {
            // After the end of the handshake, too: tickets.
            poll_fn(|cx| self.poll_drain(cx)).await?;
            if !self.session.is_handshaking() {
                self.dataless_bytes = 0;
                return Ok(true);
            }
            self.socket.readable().await?;
            turns.handshakes.join().await;
            match poll_fn(|cx| Poll::Ready(self.poll_feed(cx))).await {
                Poll::Ready(Ok(0)) if self.has_received => return Err(ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(0)) => return Ok(false),
                Poll::Ready(fed) => drop(fed?),
                // The socket was not readable after all.
                Poll::Pending => {}
            }
        }
    }

    /// Whether the handshake began a session, rather than resuming one.
    pub(in crate::net) fn is_new_session(&self) -> bool {
        self.session.handshake_kind() != Some(rustls::HandshakeKind::Resumed)
    }

    /// Sends all ciphertext that the session has.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let socket = &mut Socket { socket: &mut self.socket, cx };
            match self.session.write_tls(socket) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the session read from the socket itself; 0 at the end. To be called when the session holds no plaintext.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.session.read_tls(&mut Socket { socket: &mut self.socket, cx }) {
            Ok(read) => {
                self.has_received |= read > 0;
                self.bytes_since_yield += read;
                self.dataless_bytes += read;
                Poll::Ready(self.process().map(|()| read))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Reads from the socket once, and decrypts all of that into `buffer`.
    ///
    /// It reads no more than `buffer` has room for. So the plaintext without room is at most that of a record which had
    /// begun before: the session can keep that, and no ciphertext is left.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            let room = buffer.remaining().min(ciphertext.len());
            let mut read = ReadBuf::new(&mut ciphertext[..room]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let mut rest = read.filled();
            self.bytes_since_yield += rest.len();
            if rest.is_empty() {
                self.session.read_tls(&mut io::empty())?; // tells the session that this is the end
            }
            while !rest.is_empty() {
                let fed = self.session.read_tls(&mut rest)?;
                if fed == 0 {
                    break; // the session ignores input behind the client's close_notify
                }
                self.dataless_bytes += fed;
                self.process()?;
                self.take(buffer)?;
            }
            Poll::Ready(Ok(()))
        })
    }

    fn process(&mut self) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(_) if self.dataless_bytes > DATALESS_BYTES_MAX => {
                let error = rustls::Error::General(format!("{DATALESS_BYTES_MAX} bytes without any data"));
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.send_without_waiting();
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }

    /// Moves plaintext into `buffer`; `true` if there was some, or will never be any.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        if buffer.remaining() == 0 {
            return Ok(true);
        }
        // The session never holds more than one read and one record, so this takes all there is.
        let room = buffer.remaining().min(2 * READ_BYTES_MAX);
        match self.session.reader().read(buffer.initialize_unfilled_to(room)) {
            Ok(read) => {
                buffer.advance(read);
                self.dataless_bytes = 0;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            // Many clients close without a close_notify. Whatever else they might have sent needs no reply.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends as much as the socket takes at once.
    fn send_without_waiting(&mut self) {
        while self.session.wants_write() {
            match self.session.write_tls(&mut NonblockingSocket(&self.socket)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return, // the client does not read
            }
        }
    }

    fn poll_write_by(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            ready!(self.poll_drain(cx))?;
            self.taken = write(&mut self.session.writer())?;
        }
        ready!(self.poll_drain(cx))?;
        Poll::Ready(Ok(mem::take(&mut self.taken)))
    }
}

impl Drop for TlsStream {
    /// Sends a close_notify, so that the client knows that the end was intended.
    fn drop(&mut self) {
        self.session.send_close_notify();
        self.send_without_waiting();
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let before = buffer.filled().len();
        loop {
            // First the plaintext that an earlier read has left: nothing more may come from the socket.
            if stream.take(buffer)? || buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            ready!(stream.poll_drain(cx))?;
            if stream.bytes_since_yield >= READ_BYTES_MAX {
                stream.bytes_since_yield = 0;
                yield_to_others(cx);
                return Poll::Pending;
            }
            if buffer.remaining() < ROOM_BYTES_MIN {
                ready!(stream.poll_feed(cx))?;
            } else {
                ready!(stream.poll_fill(cx, buffer))?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_by(cx, |writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_by(cx, |writer| writer.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.session.send_close_notify();
        ready!(stream.poll_drain(cx))?;
        Pin::new(&mut stream.socket).poll_shutdown(cx)
    }
}

/// The socket as the session sees it: a call that would block fails, and wakes the task once the socket is ready.
struct Socket<'s, 'c, 'w> {
    socket: &'s mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl Read for Socket<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // sockets hold nothing back
    }
}

/// The socket of a connection that is about to end: a call that would block fails, and wakes no task.
struct NonblockingSocket<'s>(&'s TcpStream);

impl Write for NonblockingSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Client};
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

    use super::*;
    use crate::net::turns::turns;

    /// Both ends of a connection after the handshake.
    async fn pair() -> (StreamOwned<ClientConnection, Client>, TlsStream) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = || Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Enough for all that a test sends.
        SockRef::from(&listener).set_recv_buffer_size(4 << 20).unwrap();
        let address = listener.local_addr().unwrap();
        let connecting = std::thread::spawn(move || {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(Arc::new(client), name).unwrap();
            let mut stream = StreamOwned::new(session, Client::connect(address).unwrap());
            stream.conn.complete_io(&mut stream.sock).unwrap();
            stream
        });
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let session = ServerConnection::new(Arc::new(server)).unwrap();
        let mut stream = TlsStream::new(TcpStream::from_std(socket).unwrap(), session);
        let (turns, schedulers) = turns();
        tokio::select! {
            agreed = stream.shake_hands(&turns) => assert!(agreed.unwrap()),
            () = schedulers.run() => unreachable!("there are queues"),
        }
        (connecting.join().unwrap(), stream)
    }

    #[tokio::test]
    async fn the_connection_yields_to_others_however_little_its_records_hold() {
        const RECORDS: usize = 10_000;
        let (mut client, mut stream) = pair().await;
        let mut ciphertext = Vec::new();
        for _ in 0..RECORDS {
            client.conn.writer().write_all(b"x").unwrap();
            client.conn.write_tls(&mut ciphertext).unwrap();
        }
        assert!(ciphertext.len() > 3 * READ_BYTES_MAX, "{}", ciphertext.len());
        let sending = std::thread::spawn(move || client.sock.write_all(&ciphertext).map(|()| client));
        let mut waiting = vec![0; 3 * READ_BYTES_MAX];
        while stream.socket.peek(&mut waiting).await.unwrap() < waiting.len() {
            tokio::task::yield_now().await;
        }

        let (mut all, mut turns) = (0, 0);
        while all < RECORDS {
            let before = all;
            poll_fn(|cx| {
                let mut bytes = vec![0; READ_BYTES_MAX];
                loop {
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(read) => read.unwrap(),
                        Poll::Pending => return if all > before { Poll::Ready(()) } else { Poll::Pending },
                    }
                    all += buffer.filled().len();
                    if all == RECORDS {
                        return Poll::Ready(());
                    }
                }
            })
            .await;
            turns += 1;
            assert!(all - before <= 2 * READ_BYTES_MAX / 22, "{} records in a turn", all - before);
        }
        assert!(turns >= 3, "{turns}");
        sending.join().unwrap().unwrap();
    }
}
