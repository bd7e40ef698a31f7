//! Sockets that a service manager has opened and hands in (socket activation, sd_listen_fds(3)).

use std::os::fd::{IntoRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::ProcessError;

/// How many sockets may be handed in; more than any server needs.
const SOCKETS_MAX: usize = 64;

/// Takes the sockets that are meant for this very process, which `LISTEN_PID` names; there may be none.
///
/// To be called once, and before anything is opened, for they are known by their numbers only.
///
/// # Errors
///
/// When what the environment says about them makes no sense, or one of them is not open.
pub fn sockets_handed_in() -> Result<Vec<OwnedFd>, ProcessError> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // Checked before they are collected, because memory for as many as are announced is reserved.
    if number("LISTEN_PID") == Some(u64::from(std::process::id()))
        && number("LISTEN_FDS").is_some_and(|count| count > SOCKETS_MAX as u64)
    {
        return Err(ProcessError::HandedIn(format!("LISTEN_FDS says more than {SOCKETS_MAX}")));
    }
    let announced = sd_listen_fds::get().map_err(|error| ProcessError::HandedIn(error.to_string()))?;
    let mut sockets = announced.into_iter().map(|(_, socket)| socket.into_std());
    let mut taken = Vec::new();
    while let Some(socket) = sockets.next() {
        match fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) => taken.push(socket),
            Err(errno) => {
                // A descriptor that is not open must not be closed.
                let number = socket.into_raw_fd();
                sockets.for_each(std::mem::forget);
                return Err(ProcessError::HandedIn(format!("file descriptor {number}: {errno}")));
            }
        }
    }
    Ok(taken)
}
