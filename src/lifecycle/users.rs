//! The file of those who may log in (`-Y`): read at the start and at SIGHUP.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::reload::Reload;
use crate::engine::Engine;
use crate::engine::auth::{USERS_FILE_BYTES_MAX, Users, UsersError};

/// The permission bits that let others than owner and group read a file, or write to it.
const OTHERS: u32 = 0o006;

/// Why a file of users cannot be used. The words are memcached's where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsersFileError {
    #[error(
        "Could not open authfile [{path}] for reading: {error}; -Y (--auth-file) must name a file that the user of -u can read",
        path = path.display()
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("Authfile [{path}] {error}", path = path.display())]
    Wrong { path: PathBuf, error: UsersError },
}

/// The users in the file at `path`, and what else an operator should know about it.
pub(super) fn read(path: &Path) -> Result<(Users, Vec<String>), UsersFileError> {
    let unreadable = |error| UsersFileError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut text = Vec::new();
    file.take(USERS_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    let users =
        Users::parse(&text).map_err(|error| UsersFileError::Wrong { path: path.to_owned(), error })?;
    let shown = path.display();
    let mut warnings = Vec::new();
    if mode & OTHERS != 0 {
        warnings.push(format!("Authfile [{shown}] is open to everybody on this machine: chmod 640 it"));
    }
    if users.is_empty() {
        warnings.push(format!("Authfile [{shown}] names nobody: nobody can log in"));
    }
    Ok((users, warnings))
}

/// Reading the file at `path` again.
pub(super) fn reload(engine: Arc<Engine>, path: PathBuf) -> Reload {
    let again = move || {
        let (users, warnings) = read(&path).map_err(|error| error.to_string())?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let count = users.len();
        engine.set_users(users);
        Ok(format!("{count} passwords; who is logged in stays so"))
    };
    Reload { name: "the users", again: Box::new(again) }
}
