//! Notifies the service manager that the server is ready, reloads or stops. The protocol is systemd's, sd_notify(3).
//!
//! Rule: the socket is opened at the start, because none can be opened once the system calls are restricted.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// How long a service manager that does not read may hold up the server.
const SENDING_TIME_MAX: Duration = Duration::from_secs(1);

/// The service manager to notify.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The one that listens at `place`, as `NOTIFY_SOCKET` names it: a path, or `@` and an abstract name.
    ///
    /// # Errors
    ///
    /// When the place has another form, or no socket can be opened. Whether anybody listens there is not checked.
    pub fn at(place: &OsStr) -> io::Result<Notifier> {
        let address = match place.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(place)?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SENDING_TIME_MAX))?;
        Ok(Notifier { socket, address })
    }

    /// Says that the server serves, or serves again after reloading; `status` is a line for people.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.say(&format!("READY=1\nSTATUS={status}\n"))
    }

    /// Says that what was read at the start is being read again; [`Notifier::ready`] has to follow.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn reloading(&self) -> io::Result<()> {
        // With the time, systemd from 253 on can tell this reload from an earlier one.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.num_microseconds()))
    }

    /// Says that the server works (`WATCHDOG_USEC`).
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn alive(&self) -> io::Result<()> {
        self.say("WATCHDOG=1\n")
    }

    /// Says that the server is about to end.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn stopping(&self) -> io::Result<()> {
        self.say("STOPPING=1\n")
    }

    fn say(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_at_a_path_and_at_an_abstract_name() {
        let name = format!("ferrocached-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (listener, place) in [
            (UnixDatagram::bind(&path), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstract_name), format!("@{name}")),
        ] {
            let listener = listener.unwrap();
            let notifier = Notifier::at(OsStr::new(&place)).unwrap();
            notifier.ready("all is well").unwrap();
            notifier.reloading().unwrap();
            notifier.alive().unwrap();
            notifier.stopping().unwrap();
            let heard = || {
                let mut buffer = [0; 100];
                let length = listener.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            assert_eq!(heard(), "READY=1\nSTATUS=all is well\n");
            let reloading = heard();
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.trim_end().parse::<u64>().unwrap() > 0);
            assert_eq!(heard(), "WATCHDOG=1\n");
            assert_eq!(heard(), "STOPPING=1\n");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn one_that_does_not_read_is_not_waited_for_long() {
        let address =
            SocketAddr::from_abstract_name(format!("ferrocached-deaf-{}", std::process::id())).unwrap();
        let deaf = UnixDatagram::bind_addr(&address).unwrap();
        let place = format!("@ferrocached-deaf-{}", std::process::id());
        let notifier = Notifier::at(OsStr::new(&place)).unwrap();
        // Until its queue is full: some ten or some hundred messages, as the system is set (max_dgram_qlen).
        let refused = (0..10_000).find_map(|_| notifier.ready("still here").err());
        assert_eq!(refused.expect("a queue has an end").kind(), io::ErrorKind::WouldBlock);
        drop(deaf);
    }

    #[test]
    fn a_place_that_is_none_is_told() {
        assert!(Notifier::at(OsStr::new("vsock:2:1234")).is_err());
        assert!(Notifier::at(OsStr::new("/nonexistent/notify")).unwrap().ready("").is_err());
    }
}
