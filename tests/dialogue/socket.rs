//! A server behind a socket as a peer: the real binary, or a real memcached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::{ALL_VERSIONS, ClientConfig};

use super::certificates::{self, Authority, TlsClient};
use super::text::Dialogue;
use super::walk::{More, Peer};

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long silence is listened to.
const LINGER_TIME: Duration = Duration::from_millis(60);

/// How long a server may take to start or to stop.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// The user who may do everything, in a file of users made for their rights. The others are named by their connections.
const EVERYTHING: usize = 0;

/// What a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
    /// TLS on TCP.
    Tls,
}

/// A running server and connections to it; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    directory: PathBuf,
    address: Address,
    /// What the users of some connections may do. If there is one, all log in.
    rights: BTreeMap<usize, String>,
    connections: BTreeMap<usize, Client>,
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Tls(SocketAddr, Arc<ClientConfig>),
}

struct Client {
    stream: Stream,
    received: Vec<u8>,
    closed: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsClient>),
}

impl Server {
    /// Starts `program` as `dialogue` wants it, and waits until it listens.
    pub(crate) fn start(program: &Path, dialogue: &Dialogue, transport: Transport) -> Result<Server, String> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        // Not below the target directory: the path of a unix socket is limited to about 100 bytes.
        let directory = std::env::temp_dir().join(format!("dialogue-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|error| format!("cannot make {directory:?}: {error}"))?;
        let (ports, socket, log) = (directory.join("ports"), directory.join("socket"), directory.join("log"));
        let log_file = File::create(&log).map_err(|error| format!("cannot make {log:?}: {error}"))?;

        let mut command = Command::new(program);
        match transport {
            Transport::Tcp | Transport::Tls => {
                command.args(["-p", "-1", "-l", "127.0.0.1"]).env("MEMCACHED_PORT_FILENAME", &ports)
            }
            Transport::Unix => command.arg("-s").arg(&socket),
        };
        let tls = (transport == Transport::Tls).then(|| certificates(&directory)).transpose()?;
        if let Some((option, _)) = &tls {
            command.args(["-Z", "-o", option]);
        }
        if nix::unistd::geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        let mut users = dialogue.users.clone();
        if !dialogue.rights.is_empty() {
            users.push(format!("{EVERYTHING}:x:rw"));
            users.extend(dialogue.rights.iter().map(|(user, rights)| format!("{user}:x:{rights}")));
        }
        if !users.is_empty() {
            let file = directory.join("users");
            std::fs::write(&file, users.join("\n") + "\n")
                .map_err(|error| format!("cannot make {file:?}: {error}"))?;
            command.arg("-Y").arg(file);
        }
        command.args(&dialogue.options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        let child = command.spawn().map_err(|error| format!("cannot start {program:?}: {error}"))?;
        let mut server = Server {
            child,
            directory,
            address: Address::Unix(socket),
            rights: dialogue.rights.clone(),
            connections: BTreeMap::new(),
        };
        let begin = Instant::now();
        while !server.listens(transport, &ports) {
            let exited = server.child.try_wait().map_err(|error| error.to_string())?;
            if exited.is_some() || begin.elapsed() > START_TIME_MAX {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{program:?} does not listen ({exited:?}); it said {said:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if let (Address::Tcp(address), Some((_, config))) = (&server.address, tls) {
            server.address = Address::Tls(*address, config);
        }
        if transport == Transport::Unix {
            server.log_in(1)?;
        }
        Ok(server)
    }

    fn listens(&mut self, transport: Transport, ports: &Path) -> bool {
        if transport != Transport::Unix {
            let text = std::fs::read_to_string(ports).unwrap_or_default();
            let port = text.lines().find_map(|line| line.strip_prefix("TCP INET: "));
            let Some(port) = port.and_then(|port| port.trim().parse().ok()) else { return false };
            self.address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
            return true;
        }
        // A connection made to find out is the first one the dialogue uses, so that none is counted twice.
        match self.connect() {
            Ok(client) => self.connections.insert(1, client).is_none(),
            Err(_) => false,
        }
    }

    fn connect(&self) -> std::io::Result<Client> {
        let stream = match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Stream::Unix(stream)
            }
            Address::Tls(address, config) => {
                let stream = certificates::connect(config, *address)?;
                stream.sock.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Stream::Tls(Box::new(stream))
            }
        };
        Ok(Client { stream, received: Vec::new(), closed: false })
    }

    fn client(&mut self, number: usize) -> Result<&mut Client, String> {
        if !self.connections.contains_key(&number) {
            let client = self.connect().map_err(|error| format!("cannot connect: {error}"))?;
            self.connections.insert(number, client);
            self.log_in(number)?;
        }
        Ok(self.connections.get_mut(&number).expect("it was just made"))
    }

    /// Has a new connection log in, where it takes that to have its rights.
    fn log_in(&mut self, number: usize) -> Result<(), String> {
        if self.rights.is_empty() {
            return Ok(());
        }
        let user = if self.rights.contains_key(&number) { number } else { EVERYTHING };
        let token = format!("{user} x");
        let client = self.connections.get_mut(&number).expect("it is new");
        client.write(format!("set login 0 0 {}\r\n{token}\r\n", token.len()).as_bytes())?;
        const ANSWER: &[u8] = b"STORED\r\n";
        while client.received.len() < ANSWER.len() && client.read(ANSWER_TIME_MAX)? == More::Bytes {}
        if client.received != ANSWER {
            let said = String::from_utf8_lossy(&client.received);
            return Err(format!("connection {number} could not log in: {said:?}"));
        }
        client.received.clear();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, and the directory with it; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Client {
    /// Reads what comes within `time`.
    fn read(&mut self, time: Duration) -> Result<More, String> {
        if self.closed {
            return Ok(More::Closed);
        }
        let mut buffer = [0; 16 << 10];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(time)).and_then(|()| stream.read(&mut buffer))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(time)).and_then(|()| stream.read(&mut buffer))
            }
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(Some(time)).and_then(|()| stream.read(&mut buffer))
            }
        };
        match read {
            Ok(0) => self.closed = true,
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(More::Nothing),
                // A server that closes with input unread resets the connection.
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed = true,
                _ => return Err(format!("cannot read: {error}")),
            },
        }
        Ok(if self.closed { More::Closed } else { More::Bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        match written {
            // What the server sent before it closed can still be read.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Ok(())
            }
            Err(error) => Err(format!("cannot write: {error}")),
            Ok(()) => Ok(()),
        }
    }
}

impl Peer for Server {
    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String> {
        self.client(connection)?.write(bytes)
    }

    fn received(&mut self, connection: usize) -> &mut Vec<u8> {
        let client = self.client(connection).unwrap_or_else(|error| panic!("{error}"));
        &mut client.received
    }

    fn more(&mut self, connection: usize) -> Result<More, String> {
        self.client(connection)?.read(ANSWER_TIME_MAX)
    }

    fn linger(&mut self, connection: usize) -> Result<More, String> {
        self.client(connection)?.read(LINGER_TIME)
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        std::thread::sleep(time);
        Ok(())
    }

    fn unix_seconds(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("the clock of the machine is past 1970").as_secs()
    }

    fn stopped(&mut self, _: usize, _: bool) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < START_TIME_MAX {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("the server ended with {status}"))
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server does not stop".to_owned())
    }

    fn leave(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) if !status.success() => Err(format!("the server ended with {status}")),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Certificates in `directory`: the option that names them, and clients that trust them.
fn certificates(directory: &Path) -> Result<(String, Arc<ClientConfig>), String> {
    let authority = Authority::new("dialogue");
    let identity = authority.identity();
    let file = directory.join("server.pem");
    std::fs::write(&file, identity.certificate + &identity.key)
        .map_err(|error| format!("cannot write {file:?}: {error}"))?;
    let config = certificates::client_config(&authority, None, ALL_VERSIONS);
    Ok((format!("ssl_chain_cert={}", file.display()), config))
}
