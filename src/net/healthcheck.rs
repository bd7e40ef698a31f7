//! Asking a server whether it serves (`--healthcheck`), as a client of it: over the transport, the protocol and the
//! certificates that its settings name.
//!
//! Rules:
//! - whatever a server answers that a worker has to have a turn for is good, a refusal too: an orchestrator would not help
//!   by starting it anew;
//! - a password is sent only to a server that asks for one, and over TLS only to one that shows the certificate that the
//!   settings name; otherwise it would be told to whoever has the port.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::net::tls::client::{Checked, Stream, check_over};
use crate::protocol::reply;
use crate::settings::{ListenAddress, OneUser, Protocol, Settings, TcpPort, TlsPrefix};

/// How long all of it may take: less than the platforms of containers wait by default, and more than any turn takes.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(5);

/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 2048;

/// The packet of the binary protocol that asks for the version.
const VERSION_PACKET: [u8; 24] = {
    let mut packet = [0; 24];
    (packet[0], packet[1]) = (0x80, 0x0b);
    packet
};

/// Where and how to ask.
#[derive(Debug)]
struct Target {
    place: Place,
    speaks_tls: bool,
    protocol: Protocol,
}

#[derive(Debug)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Asks the server that `settings` start on this machine, or the one at `address` if that is not empty: `PORT`,
/// `ADDRESS:PORT` or the path of a UNIX socket. `port_file` tells a port that the system chose; `user` is who logs in.
/// Takes [`CHECK_TIME_MAX`] at most.
///
/// # Errors
/// The reason why it does not serve, in words.
pub fn healthcheck(
    settings: &Settings,
    address: &str,
    port_file: Option<&Path>,
    user: Option<&OneUser>,
) -> Result<String, String> {
    let target = target(settings, address, port_file)?;
    let place = target.place.to_string();
    let (settings, user) = (settings.clone(), user.cloned());
    let (tell, told) = mpsc::sync_channel(1);
    // On a thread that may be left behind: looking up a name has no bound of its own.
    let asking = std::thread::Builder::new().spawn(move || {
        // Nobody listens any more if the time is over.
        let _ = tell.send(ask(&target, &settings, user.as_ref()));
    });
    asking.map_err(|error| error.to_string())?;
    match told.recv_timeout(CHECK_TIME_MAX) {
        Ok(Ok(answer)) => Ok(format!("{place} {answer}")),
        Ok(Err(error)) => Err(format!("{place}: {error}")),
        Err(_) => Err(format!("{place} has not answered for {} seconds", CHECK_TIME_MAX.as_secs())),
    }
}

fn target(settings: &Settings, address: &str, port_file: Option<&Path>) -> Result<Target, String> {
    let everywhere = ListenAddress::everywhere();
    let first = settings.listen.first().unwrap_or(&everywhere);
    let speaks_tls = settings.tls.enabled && first.tls != TlsPrefix::Notls;
    let protocol = first.protocol.unwrap_or(settings.protocol);
    let on_tcp = |host: &str, port| {
        let host = if host == "*" { Ipv4Addr::LOCALHOST.to_string() } else { host.to_owned() };
        Target { place: Place::Tcp(host, port), speaks_tls, protocol }
    };
    let on_socket = |path: PathBuf| {
        let protocol = settings.protocol;
        Target { place: Place::Unix(path), speaks_tls: false, protocol }
    };
    let named = address.strip_prefix("unix:").or(address.starts_with('/').then_some(address));
    if let Some(path) = named {
        return Ok(on_socket(path.into()));
    }
    if let Ok(port) = address.parse() {
        return Ok(on_tcp(&first.host, port));
    }
    if !address.is_empty() {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts
            .ok_or("--healthcheck takes a port, an address with a port, or the path of a UNIX socket")?;
        return Ok(on_tcp(host.trim_start_matches('[').trim_end_matches(']'), port));
    }
    if let Some(path) = &settings.unix_socket {
        return Ok(on_socket(path.clone()));
    }
    let port = match (first.port, settings.port) {
        (Some(port), _) | (None, TcpPort::Fixed(port)) => port,
        (None, TcpPort::Off) => return Err("-p 0 turns TCP off, and there is no UNIX socket (-s)".to_owned()),
        (None, TcpPort::Ephemeral) => port_file.and_then(port_in).ok_or(
            "-p -1 has the system choose the port, and MEMCACHED_PORT_FILENAME does not tell which it is",
        )?,
    };
    Ok(on_tcp(&first.host, port))
}

/// The port that a server has written down.
fn port_in(file: &Path) -> Option<u16> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("TCP INET")?.rsplit(' ').next()?.parse().ok())
}

fn ask(target: &Target, settings: &Settings, user: Option<&OneUser>) -> Result<String, String> {
    let told = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => error.to_string(),
    };
    match &target.place {
        Place::Unix(path) => {
            let socket = UnixStream::connect(path).map_err(told)?;
            socket.set_read_timeout(Some(CHECK_TIME_MAX)).map_err(told)?;
            converse(socket, target.protocol, user).map_err(told)
        }
        Place::Tcp(host, port) => {
            let socket = connect(host, *port).map_err(told)?;
            socket.set_read_timeout(Some(CHECK_TIME_MAX)).map_err(told)?;
            if !target.speaks_tls {
                return converse(socket, target.protocol, user).map_err(told);
            }
            let converse = |stream: &mut dyn Stream, is_known: bool| {
                converse(stream, target.protocol, user.filter(|_| is_known))
            };
            match check_over(socket, &settings.tls, converse).map_err(told)? {
                Checked::Answered(answer) => Ok(answer),
                Checked::Refused => Ok("answers, and wants another certificate".to_owned()),
            }
        }
    }
}

/// Connects to the first address of `host` that takes it; where `host` is every address of IPv6, to this machine.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "it has no address");
    for mut address in (host, port).to_socket_addrs()? {
        if address.ip().is_unspecified() {
            let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
            address.set_ip(if address.is_ipv4() { four } else { six });
        }
        match TcpStream::connect_timeout(&address, CHECK_TIME_MAX) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks for the version, and logs in if that is refused for want of a login.
fn converse(stream: impl Read + Write, protocol: Protocol, user: Option<&OneUser>) -> io::Result<String> {
    let mut stream = BufReader::new(stream);
    if protocol == Protocol::Binary {
        stream.get_mut().write_all(&VERSION_PACKET)?;
        stream.get_mut().flush()?;
        let mut magic = [0];
        stream.read_exact(&mut magic)?;
        return match magic[0] {
            0x81 => Ok("serves".to_owned()),
            _ => Err(io::Error::other("it answers in another protocol")),
        };
    }
    let answer = line(&mut stream, b"version\r\n")?;
    if answer.starts_with(b"VERSION ") {
        return Ok("serves".to_owned());
    }
    if reply::TOO_MANY_CONNECTIONS.starts_with(&answer) {
        return Ok("serves as many connections as -c allows".to_owned());
    }
    if !answer.starts_with(b"CLIENT_ERROR unauthenticated") {
        let words = String::from_utf8_lossy(&answer).trim_end().to_owned();
        return Err(io::Error::other(format!("it answers {words:?}")));
    }
    let Some(OneUser { name, password }) = user else {
        return Ok("serves clients that log in".to_owned());
    };
    let login = [name, &b" "[..], password].concat();
    let login = [format!("set auth 0 0 {}\r\n", login.len()).as_bytes(), &login, b"\r\n"].concat();
    match &*line(&mut stream, &login)? {
        b"STORED\r\n" => Ok("serves, and has let this user in".to_owned()),
        other => {
            let words = String::from_utf8_lossy(other).trim_end().to_owned();
            Err(io::Error::other(format!("it does not let this user in: {words:?}")))
        }
    }
}

/// The first line of the answer to `request`.
fn line(stream: &mut BufReader<impl Read + Write>, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.get_mut().write_all(request)?;
    stream.get_mut().flush()?;
    let mut answer = Vec::new();
    stream.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it closes the connection without an answer"));
    }
    Ok(answer)
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Place::Tcp(host, port) => write!(formatter, "{host}:{port}"),
            Place::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(settings: &Settings, address: &str) -> String {
        target(settings, address, None).map_or_else(|error| error, |target| target.place.to_string())
    }

    #[test]
    fn it_asks_where_the_server_listens() {
        let on =
            |host: &str, port| ListenAddress { host: host.to_owned(), port, ..ListenAddress::everywhere() };
        let listening = |listen| Settings { listen, ..Settings::default() };
        assert_eq!(place(&Settings::default(), ""), "127.0.0.1:11211");
        assert_eq!(place(&listening(vec![on("10.0.0.1", None), on("::1", None)]), ""), "10.0.0.1:11211");
        assert_eq!(place(&listening(vec![on("::1", Some(7))]), ""), "[::1]:7");
        assert_eq!(place(&listening(vec![on("::1", Some(7))]), "8"), "[::1]:8");
        let path = Some("/run/socket".into());
        let local = Settings { unix_socket: path, port: TcpPort::Off, ..Settings::default() };
        assert_eq!(place(&local, ""), "/run/socket");
        for (address, expected) in [
            ("[::1]:9", "[::1]:9"),
            ("cache:9", "cache:9"),
            ("/a", "/a"),
            ("unix:b", "b"),
            ("9", "127.0.0.1:9"),
        ] {
            assert_eq!(place(&local, address), expected);
        }
        assert!(place(&local, "cache").starts_with("--healthcheck takes"));
        let off = Settings { port: TcpPort::Off, ..Settings::default() };
        assert!(place(&off, "").starts_with("-p 0"));
        let chosen = Settings { port: TcpPort::Ephemeral, ..Settings::default() };
        assert!(place(&chosen, "").starts_with("-p -1"));
    }
}
