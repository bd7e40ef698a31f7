//! Listening sockets: opening those that the settings name, and accepting connections.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::stream::AcceptedSocket;
use super::tls::{ClientAuth, Tls};
use crate::settings::{HttpAddress, ListenAddress, Protocol, Settings, TcpPort, TlsPrefix};

/// How many unsent bytes the system buffers for each connection. Without this limit it buffers 3 to 4 MB for a client
/// that does not read, which nothing accounts for. It does not limit the bytes in flight to a client that reads. As
/// much as one connection sends before others have their turn.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Why a socket could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A name of `-l` has no address.
    #[error("failed to find an address for -l {host}: {source}")]
    NoAddress {
        /// The name.
        host: String,
        /// The error of the resolver.
        source: io::Error,
    },
    /// The system refused a TCP port.
    #[error("failed to listen on TCP port {port}: {source}", port = address.port())]
    Tcp {
        /// The address tried.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The system refused a UDP port.
    #[error("failed to listen on UDP port {port}: {source}", port = address.port())]
    Udp {
        /// The address tried.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The system refused the path of `-s`.
    #[error("failed to listen on UNIX socket {path}: {source}", path = path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A descriptor that was handed in is no listening stream socket.
    #[error(
        "cannot listen on file descriptor {descriptor}, which was handed in: {complaint}; hand in listening stream \
         sockets, INET or UNIX ones (ListenStream= and Accept=no of systemd)"
    )]
    HandedIn {
        /// Its number.
        descriptor: RawFd,
        /// The reason.
        complaint: String,
    },
}

impl BindError {
    /// Whether another process has the port. A machine without the address family reports another error.
    fn is_address_in_use(&self) -> bool {
        matches!(self, BindError::Tcp { source, .. } | BindError::Udp { source, .. }
            if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// An address that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
    /// A UDP address.
    Udp(SocketAddr),
}

impl Endpoint {
    fn port(&self) -> Option<u16> {
        match self {
            Endpoint::Tcp(address) | Endpoint::Udp(address) => Some(address.port()),
            Endpoint::Unix(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(formatter, "{address}"),
            Endpoint::Unix(path) => write!(formatter, "{}", path.display()),
            Endpoint::Udp(address) => write!(formatter, "{address} (UDP)"),
        }
    }
}

/// One listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener, Spoken),
    Unix(UnixListener, SocketFile),
}

/// What clients of a TCP listener have to speak.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spoken {
    /// Which certificate they are asked for, if they have to speak TLS.
    pub(super) client_auth: Option<ClientAuth>,
    /// Which protocol; `None` is what `-B` says.
    pub(super) protocol: Option<Protocol>,
}

/// The file of a UNIX socket, which is removed when the listener is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The device and inode of the file that this server made: another may have put its own in that place since.
    made: Option<(u64, u64)>,
}

/// A connection that was just accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: AcceptedSocket,
    /// The client's address; for a UNIX socket, whose clients have no names, the path of the socket.
    pub(super) peer: Endpoint,
    /// The address that the client connected to.
    pub(super) local: Endpoint,
    /// What the client has to speak.
    pub(super) spoken: Spoken,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener, spoken) => {
                let (stream, peer) = listener.accept().await?;
                let socket = SockRef::from(&stream);
                socket.set_tcp_nodelay(true)?;
                socket.set_keepalive(true)?;
                let local = stream.local_addr()?;
                let socket = AcceptedSocket::Tcp(stream.into_std()?);
                let (peer, local) = (Endpoint::Tcp(peer), Endpoint::Tcp(local));
                Ok(Accepted { socket, peer, local, spoken: *spoken })
            }
            Listener::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let socket = AcceptedSocket::Unix(stream.into_std()?);
                let peer = Endpoint::Unix(file.path.clone());
                Ok(Accepted { socket, local: peer.clone(), peer, spoken: Spoken::default() })
            }
        }
    }

    /// The same listener, served by the runtime of the calling thread from now on.
    pub(super) fn moved_here(self) -> io::Result<Listener> {
        match self {
            Listener::Tcp(listener, spoken) => {
                Ok(Listener::Tcp(TcpListener::from_std(listener.into_std()?)?, spoken))
            }
            Listener::Unix(listener, file) => {
                Ok(Listener::Unix(UnixListener::from_std(listener.into_std()?)?, file))
            }
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Listener::Tcp(listener, _) => {
                Endpoint::Tcp(listener.local_addr().expect("a listening socket has an address"))
            }
            Listener::Unix(_, file) => Endpoint::Unix(file.path.clone()),
        }
    }

    /// Whether it listens on all addresses of its family, or on all of IPv4 mapped into IPv6.
    pub(super) fn is_everywhere(&self) -> bool {
        matches!(self.endpoint(), Endpoint::Tcp(address) if address.ip().to_canonical().is_unspecified())
    }

    /// Whether it serves only clients with a valid certificate.
    pub(super) fn requires_certificate(&self) -> bool {
        matches!(self, Listener::Tcp(_, Spoken { client_auth: Some(ClientAuth::Required), .. }))
    }

    pub(super) fn descriptor(&self) -> RawFd {
        match self {
            Listener::Tcp(listener, _) => listener.as_raw_fd(),
            Listener::Unix(listener, _) => listener.as_raw_fd(),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spoken = match self {
            Listener::Tcp(_, spoken) => *spoken,
            Listener::Unix(..) => Spoken::default(),
        };
        let tls = match spoken.client_auth {
            None => "",
            Some(ClientAuth::None) => " (TLS)",
            Some(ClientAuth::Optional) => " (TLS, certificates asked for)",
            Some(ClientAuth::Required) => " (TLS, certificates required)",
        };
        let protocol = spoken.protocol.map_or(String::new(), |protocol| format!(" ({protocol})"));
        write!(formatter, "{}{tls}{protocol}", self.endpoint())
    }
}

/// The device and inode of `path` itself, not of what a link points to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.made.is_some() && self.made == identity(&self.path) {
            // Another process may just have removed it, and the next start would anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Accepted {
    pub(super) fn descriptor(&self) -> RawFd {
        match &self.socket {
            AcceptedSocket::Tcp(socket) => socket.as_raw_fd(),
            AcceptedSocket::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

/// Opens every stream socket that `settings` name; those for TCP speak TLS if there is `tls`.
pub(super) fn bind_all(settings: &Settings, tls: Option<&Tls>) -> Result<Vec<Listener>, BindError> {
    if let Some(path) = &settings.unix_socket {
        return bind_unix(path, settings).map(|listener| vec![listener]);
    }
    let port = match settings.port {
        TcpPort::Off => return Ok(Vec::new()),
        TcpPort::Ephemeral => 0,
        TcpPort::Fixed(port) => port,
    };
    bind_each(&settings.listen, port, Listener::endpoint, |address, entry| {
        let client_auth = tls.and_then(|tls| tls.client_auth(entry.tls));
        bind_tcp(address, settings.backlog, Spoken { client_auth, protocol: entry.protocol })
    })
}

/// Opens the sockets of `--http`; they speak TLS if there is `tls`, as those of `-p` do.
pub(super) fn bind_http(settings: &Settings, tls: Option<&Tls>) -> Result<Vec<Listener>, BindError> {
    let Some(HttpAddress { host, listen, port }) = &settings.http else { return Ok(Vec::new()) };
    let chosen =
        host.as_ref().map(|host| vec![ListenAddress { host: host.clone(), ..ListenAddress::everywhere() }]);
    bind_each(chosen.as_ref().unwrap_or(listen), *port, Listener::endpoint, |address, entry| {
        let client_auth = tls.and_then(|tls| tls.client_auth(entry.tls));
        bind_tcp(address, settings.backlog, Spoken { client_auth, protocol: None })
    })
}

/// Calls `bind` for each address of `listen`, the entries of `-l`; without entries, for every address. `port` is for
/// entries without one.
pub(super) fn bind_each<S>(
    listen: &[ListenAddress],
    port: u16,
    endpoint: fn(&S) -> Endpoint,
    bind: impl Fn(SocketAddr, &ListenAddress) -> Result<S, BindError>,
) -> Result<Vec<S>, BindError> {
    let everywhere = [ListenAddress::everywhere()];
    let mut sockets = Vec::new();
    for entry in if listen.is_empty() { &everywhere } else { listen } {
        let (host, port) = (&entry.host, entry.port.unwrap_or(port));
        if host == "*" {
            sockets.extend(bind_everywhere(port, endpoint, |address| bind(address, entry))?);
            continue;
        }
        let addresses = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|source| BindError::NoAddress { host: host.clone(), source })?;
        for address in addresses {
            sockets.push(bind(address, entry)?);
        }
    }
    Ok(sockets)
}

/// Binds both families, or one where the other fails: a machine may lack one, or another server have its port.
fn bind_everywhere<S>(
    port: u16,
    endpoint: fn(&S) -> Endpoint,
    bind: impl Fn(SocketAddr) -> Result<S, BindError>,
) -> Result<Vec<S>, BindError> {
    let four = bind((Ipv4Addr::UNSPECIFIED, port).into());
    // The port that the system chose for one family is used for the other, too.
    let port = four.as_ref().ok().and_then(|socket| endpoint(socket).port()).unwrap_or(port);
    let four_is_here = four.is_ok();
    match (four, bind((Ipv6Addr::UNSPECIFIED, port).into())) {
        (Ok(four), Ok(six)) => Ok(vec![four, six]),
        (Ok(one), Err(error)) | (Err(error), Ok(one)) => {
            if error.is_address_in_use() {
                let taken = if four_is_here { "IPv6" } else { "IPv4" };
                warn!(
                    "{error}: another process has it on {taken}, so the server listens on {} only",
                    endpoint(&one)
                );
            }
            Ok(vec![one])
        }
        (Err(error), Err(_)) => Err(error),
    }
}

fn bind_tcp(address: SocketAddr, backlog: u32, spoken: Spoken) -> Result<Listener, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // The connections inherit it. A system that does not know the option keeps its own limit.
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::from_std(socket.into())
    };
    open()
        .map(|listener| Listener::Tcp(listener, spoken))
        .map_err(|source| BindError::Tcp { address, source })
}

/// Opens a UNIX socket at `path`. Its file mode follows the process's mask, which the caller sets.
fn bind_unix(path: &Path, settings: &Settings) -> Result<Listener, BindError> {
    let open = || {
        // Removes the socket that an earlier run has left; any other file stays and makes the bind fail.
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
        UnixListener::from_std(socket.into())
    };
    open()
        .map(|listener| Listener::Unix(listener, SocketFile { path: path.to_owned(), made: identity(path) }))
        .map_err(|source| BindError::Unix { path: path.to_owned(), source })
}

/// Listens on a socket that another process has bound. If it has a file, the file stays at the end.
pub(super) fn adopt(socket: OwnedFd, tls: Option<&Tls>) -> Result<Listener, BindError> {
    let descriptor = socket.as_raw_fd();
    let client_auth = tls.and_then(|tls| tls.client_auth(TlsPrefix::AsChosen));
    listen_on(Socket::from(socket), Spoken { client_auth, protocol: None })
        .map_err(|error| BindError::HandedIn { descriptor, complaint: error.to_string() })
}

fn listen_on(socket: Socket, spoken: Spoken) -> io::Result<Listener> {
    let refused = |complaint| Err(io::Error::new(io::ErrorKind::InvalidInput, complaint));
    if socket.r#type()? != Type::STREAM {
        return refused("it is not a stream socket");
    }
    if !socket.is_listener()? {
        return refused("it is not a listening socket");
    }
    socket.set_nonblocking(true)?;
    match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 => {
            TcpListener::from_std(socket.into()).map(|listener| Listener::Tcp(listener, spoken))
        }
        Domain::UNIX => {
            let listener = UnixListener::from_std(socket.into())?;
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
            // Any abstract name is shown as `@`, with which systemd begins them.
            let path = path.unwrap_or_else(|| PathBuf::from("@"));
            Ok(Listener::Unix(listener, SocketFile { path, made: None }))
        }
        _ => refused("it is neither an INET nor a UNIX socket"),
    }
}
