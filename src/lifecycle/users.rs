//! The file of users (`-Y`): read at the start and at SIGHUP.
//!
//! At the start it may be a pipe, such as `/dev/stdin` or `<(...)` of a shell, so that passwords need not be on a disk.
//! A pipe is read to its end. If no process has opened it for writing, that is an error, because waiting could last for
//! ever. A pipe can be read only once, so SIGHUP accepts regular files only.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::warn;

use super::reload::Reload;
use crate::engine::Engine;
use crate::engine::access::users::{USERS_FILE_BYTES_MAX, Users, UsersError};
use crate::settings::Settings;

/// The permission bits that let others than owner and group read a file, or write to it.
const OTHERS: u32 = 0o006;

/// How long to wait before reading again a file that is empty, or whose last line has no end: it may just be written.
const SETTLING_TIME: Duration = Duration::from_secs(1);

/// How often to wait so, before giving up on a file that changes all the time.
const SETTLING_TIMES_MAX: usize = 10;

/// Why a file of users cannot be used. The words are memcached's where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsersFileError {
    #[error(
        "Could not open authfile [{path}] for reading: {error}; -Y (--auth-file) or MEMCACHED_SASL_PWDB must name a file that the user of -u can read",
        path = path.display()
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("Authfile [{path}] {error}", path = path.display())]
    Wrong { path: PathBuf, error: UsersError },
    #[error("Authfile [{path}] is still being written; end its last line", path = path.display())]
    Unfinished { path: PathBuf },
}

/// How the text of a file of users is read: [`Users::parse`], or [`Users::parse_pwdb`].
pub(super) type Parse = fn(&[u8]) -> Result<Users, UsersError>;

/// How the file of users that `settings` name is read.
pub(super) fn parse_of(settings: &Settings) -> Parse {
    if settings.auth_file_is_pwdb { Users::parse_pwdb } else { Users::parse }
}

/// The users in the file or pipe at `path`, and what else an operator should know about it.
pub(super) fn read(path: &Path, parse: Parse) -> Result<(Users, Vec<String>), UsersFileError> {
    let (text, mode) = text(path)?;
    checked(path, &text, mode, parse)
}

/// [`read`] for a regular file that may just be written; `wait` lets time pass. Half a line must not be used: without
/// the rights at its end, its user could do everything. And a file that is being replaced is empty for a moment, which
/// is no error.
fn read_settled(
    path: &Path,
    parse: Parse,
    mut wait: impl FnMut(),
) -> Result<(Users, Vec<String>), UsersFileError> {
    // A pipe is good for the start, but has no content the second time.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let error = io::Error::other("it is no regular file and can be read once only");
        return Err(UsersFileError::Unreadable { path: path.to_owned(), error });
    }
    let (mut before, mut mode) = text(path)?;
    for _ in 0..SETTLING_TIMES_MAX {
        if before.ends_with(b"\n") {
            return checked(path, &before, mode, parse);
        }
        wait();
        let now = text(path)?;
        if now.0 == before {
            return checked(path, &before, mode, parse);
        }
        (before, mode) = now;
    }
    Err(UsersFileError::Unfinished { path: path.to_owned() })
}

/// The content of the file or pipe at `path`, and its permissions.
fn text(path: &Path) -> Result<(Vec<u8>, u32), UsersFileError> {
    let read = || {
        // Without the flag, opening a pipe would wait until a process opens it for writing.
        let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?; // reading is to wait for the writer
        }
        let mut text = Vec::new();
        file.take(USERS_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        if text.is_empty() && metadata.file_type().is_fifo() {
            return Err(io::Error::other("it is a pipe, and nobody has written to it"));
        }
        Ok((text, metadata.permissions().mode()))
    };
    read().map_err(|error| UsersFileError::Unreadable { path: path.to_owned(), error })
}

fn checked(
    path: &Path,
    text: &[u8],
    mode: u32,
    parse: Parse,
) -> Result<(Users, Vec<String>), UsersFileError> {
    let users = parse(text).map_err(|error| UsersFileError::Wrong { path: path.to_owned(), error })?;
    let mut warnings = Vec::new();
    if mode & OTHERS != 0 {
        warnings.push(format!(
            "Authfile [{}] is open to everybody on this machine: chmod 640 it",
            path.display()
        ));
    }
    Ok((users, warnings))
}

/// The reload of the file at `path`.
pub(super) fn reload(engine: Arc<Engine>, path: PathBuf) -> Reload {
    let parse = parse_of(engine.settings());
    let again = move || {
        let (users, warnings) =
            read_settled(&path, parse, || sleep(SETTLING_TIME)).map_err(|error| error.to_string())?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let count = users.len();
        engine.set_users(users);
        Ok(format!("{count} passwords; who is logged in stays so"))
    };
    Reload { name: "the users", again: Box::new(again) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Reads a file that grows by one of `parts` whenever time passes. Says how many users it had, and how often time
    /// passed.
    fn settled(name: &str, parts: &[&str]) -> (Result<usize, String>, usize) {
        let path = std::env::temp_dir().join(format!("ferrocached-users-{name}-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"ann:x\nbob:y").unwrap();
        let mut waited = 0;
        let read = read_settled(&path, Users::parse, || {
            file.write_all(parts.get(waited).map_or(b"", |part| part.as_bytes())).unwrap();
            waited += 1;
        });
        std::fs::remove_file(&path).unwrap();
        (read.map(|(users, _)| users.len()).map_err(|error| error.to_string()), waited)
    }

    #[test]
    fn a_line_without_an_end_is_waited_for_but_not_for_ever() {
        assert_eq!(settled("ended", &[":r", "o\n"]), (Ok(2), 2));
        assert_eq!(settled("same", &[":ro"]), (Ok(2), 2), "what stays so is meant so");
        let (read, waited) = settled("endless", &["z"; SETTLING_TIMES_MAX + 5]);
        assert!(read.unwrap_err().ends_with("is still being written; end its last line"));
        assert_eq!(waited, SETTLING_TIMES_MAX);
    }
}
