//! One byte stream to a client, whatever kind of socket carries it.
//!
//! Rule: what `poll_write` has taken, the socket has; so nothing is ever flushed. It may be pending with some of the
//! bytes already on their way (TLS), and is to be called again with the same ones.

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
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// In a box, for it is some hundred bytes larger than the others.
    Tls(Box<TlsStream>),
}

/// A connected socket on its way from the listener's runtime to a worker's.
#[derive(Debug)]
pub(super) enum Handover {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Handover {
    /// Registers the socket with the runtime of the calling thread.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        match self {
            Handover::Tcp(socket) => TcpStream::from_std(socket).map(Stream::Tcp),
            Handover::Unix(socket) => UnixStream::from_std(socket).map(Stream::Unix),
        }
    }

    /// As [`Handover::into_stream`], with TLS on a TCP socket; its handshake is still to come.
    pub(super) fn into_tls_stream(self, session: ServerConnection) -> io::Result<Stream> {
        Ok(match self.into_stream()? {
            Stream::Tcp(socket) => Stream::Tls(Box::new(TlsStream::new(socket, session))),
            other => other,
        })
    }
}

impl Stream {
    /// How many of `owed` bytes that are to be written this may hold itself until the socket takes them, encrypted.
    pub(super) fn held_bytes_max(&self, owed: usize) -> usize {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => 0,
            Stream::Tls(_) => owed.min(UNSENT_BYTES_MAX),
        }
    }

    /// Has the system hold about `bytes` of what the other end does not read, where it would hold megabytes.
    pub(super) fn bound_unsent(&self, bytes: usize) {
        let socket = match self {
            Stream::Tcp(socket) => SockRef::from(socket),
            Stream::Unix(socket) => SockRef::from(socket),
            Stream::Tls(stream) => stream.socket(),
        };
        // Where the system will not, its own bound stays.
        let _ = socket.set_send_buffer_size(bytes);
    }

    /// Has the system forget what it took and could not send, as soon as the connection is closed, and not keep it
    /// until the client has gone.
    pub(super) fn forget_unsent(&self) {
        let socket = match self {
            Stream::Tcp(socket) => SockRef::from(socket),
            Stream::Unix(socket) => SockRef::from(socket),
            Stream::Tls(stream) => stream.socket(),
        };
        // Where the system will not, it keeps it for some minutes.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// Says `words` to a client whose connection is about to be closed, if its socket takes them now.
    pub(super) fn say_last(&mut self, words: &[u8]) {
        // Who does not hear it sees the end of the connection.
        let _ = Pin::new(self).poll_write(&mut Context::from_waker(Waker::noop()), words);
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is held back
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
