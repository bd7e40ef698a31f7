//! Who the process is: from root to somebody harmless, for good.

use nix::errno::Errno;
use nix::unistd::{Uid, User, setgid, setgroups, setuid};

use super::ProcessError;

/// Whom to become when root names nobody with `-u`: Debian's user, then everybody's.
const USERS_FOR_ROOT: [&str; 2] = ["memcache", "nobody"];

/// Gives up being root: drops all supplementary groups, then becomes `user` for good. A process that is not root
/// stays what it is, whatever `user` says.
///
/// Without a `user`, root becomes `memcache` or else `nobody`; the line that is returned then says so.
/// `root` itself may be named.
///
/// # Errors
///
/// When there is no such user, or the system does not allow the change.
pub fn become_user(user: Option<&str>) -> Result<Option<String>, ProcessError> {
    if !Uid::current().is_root() && !Uid::effective().is_root() {
        return Ok(None);
    }
    let (account, told) = match user {
        Some(name) => {
            let account = account(name)?;
            (account.ok_or_else(|| ProcessError::UserUnknown { user: name.to_owned() })?, None)
        }
        None => {
            let account = account_for_root()?;
            let told = format!("started as root without -u (--user): running as {}", account.name);
            (account, Some(told))
        }
    };
    let failed = |step| {
        let user = account.name.clone();
        move |errno| ProcessError::UserChange { user, step, errno }
    };
    match setgroups(&[]) {
        // A container may hold root without CAP_SETGID; then there are no groups to lose, or setgid will fail.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(failed("setgroups")(errno)),
    }
    setgid(account.gid).map_err(failed("setgid"))?;
    setuid(account.uid).map_err(failed("setuid"))?;
    Ok(told)
}

fn account_for_root() -> Result<User, ProcessError> {
    for name in USERS_FOR_ROOT {
        if let Some(account) = account(name)? {
            return Ok(account);
        }
    }
    Err(ProcessError::UserMissing)
}

fn account(name: &str) -> Result<Option<User>, ProcessError> {
    User::from_name(name).map_err(|errno| ProcessError::UserLookup { user: name.to_owned(), errno })
}
