//! One byte stream to a client, over TCP, TLS or a UNIX socket.
//!
//! Rule: the socket has all bytes that `poll_write` has taken, so nothing needs to be flushed. With TLS, `poll_write`
//! may return `Pending` with some of the bytes already on their way; call it again with the same bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{TlsStream, UNSENT_BYTES_MAX};

/// A connected socket.
#[derive(Debug)]
pub(super) enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// In a box, because it is some hundred bytes larger than the others.
    Tls(Box<TlsStream>),
}

/// A connected socket between the listener's runtime and a worker's, registered with neither.
#[derive(Debug)]
pub(super) enum AcceptedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl AcceptedSocket {
    /// Registers the socket with the runtime of the calling thread.
    pub(super) fn into_stream(self) -> io::Result<ClientStream> {
        match self {
            AcceptedSocket::Tcp(socket) => TcpStream::from_std(socket).map(ClientStream::Tcp),
            AcceptedSocket::Unix(socket) => UnixStream::from_std(socket).map(ClientStream::Unix),
        }
    }

    /// Registers the socket as [`AcceptedSocket::into_stream`] does; a TCP socket will begin with a handshake of
    /// `session`.
    pub(super) fn into_tls_stream(self, session: ServerConnection) -> io::Result<ClientStream> {
        Ok(match self.into_stream()? {
            ClientStream::Tcp(socket) => ClientStream::Tls(Box::new(TlsStream::new(socket, session))),
            other => other,
        })
    }
}

impl ClientStream {
    /// How many of `owed` bytes to be written the stream may itself hold, encrypted, until the socket takes them.
    pub(super) fn encrypted_bytes_max(&self, owed: usize) -> usize {
        match self {
            ClientStream::Tcp(_) | ClientStream::Unix(_) => 0,
            ClientStream::Tls(_) => owed.min(UNSENT_BYTES_MAX),
        }
    }

    /// Limits the unsent data that the system buffers to about `bytes`, instead of megabytes.
    pub(super) fn limit_send_buffer(&self, bytes: usize) {
        let socket = match self {
            ClientStream::Tcp(socket) => SockRef::from(socket),
            ClientStream::Unix(socket) => SockRef::from(socket),
            ClientStream::Tls(stream) => stream.socket(),
        };
        // If the system refuses, its own limit stays.
        let _ = socket.set_send_buffer_size(bytes);
    }

    /// Makes the system discard unsent data when the connection is closed, instead of keeping it until the client has
    /// gone.
    pub(super) fn discard_unsent_at_close(&self) {
        let socket = match self {
            ClientStream::Tcp(socket) => SockRef::from(socket),
            ClientStream::Unix(socket) => SockRef::from(socket),
            ClientStream::Tls(stream) => stream.socket(),
        };
        // If the system refuses, it keeps the data for some minutes.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// Sends `words` to a client whose connection is about to be closed, if its socket takes them at once.
    pub(super) fn try_write_last(&mut self, words: &[u8]) {
        // Otherwise the client just sees the end of the connection.
        let _ = Pin::new(self).poll_write(&mut Context::from_waker(Waker::noop()), words);
    }
}

impl AsyncRead for ClientStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            ClientStream::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            ClientStream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            ClientStream::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            ClientStream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            ClientStream::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            ClientStream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // `poll_write` holds nothing back
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            ClientStream::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            ClientStream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
