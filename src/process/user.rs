//! The user of the process: changes from root to an unprivileged user, for good.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgroups, setgid, setgroups, setuid};

use super::ProcessError;

/// The users to become when root gives no `-u`: that of Debian's package, or else the one that every system has.
const USERS_FOR_ROOT: [&str; 2] = ["memcache", "nobody"];

/// A user that root can become.
struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Gives up being root: drops all supplementary groups, then becomes `user` for good. A process that is not root
/// stays what it is, whatever `user` says.
///
/// A `user` that is a number and no name is a user id, as in Kubernetes. If no account has that id, the group has the
/// same number; it is never that of root.
///
/// Without a `user`, root becomes `memcache` or else `nobody`. `root` itself may be named. Returns warnings for
/// the operator.
///
/// # Errors
///
/// When there is no such user, or the system does not allow the change.
pub fn become_user(user: Option<&str>) -> Result<Vec<String>, ProcessError> {
    if !Uid::current().is_root() && !Uid::effective().is_root() {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    let account = match user {
        Some(name) => account(name)?.ok_or_else(|| ProcessError::UserUnknown { user: name.to_owned() })?,
        None => {
            let account = account_for_root()?;
            warnings.push(format!("started as root without -u (--user): running as {}", account.name));
            account
        }
    };
    let failed = |step| {
        let user = account.name.clone();
        move |errno| ProcessError::UserChange { user, step, errno }
    };
    match setgroups(&[]) {
        Ok(()) => {}
        // A container may hold root without CAP_SETGID. As in memcached that is no reason not to start.
        Err(Errno::EPERM) => warnings.extend(groups_left()),
        Err(errno) => return Err(failed("setgroups")(errno)),
    }
    setgid(account.gid).map_err(failed("setgid"))?;
    setuid(account.uid).map_err(failed("setuid"))?;
    Ok(warnings)
}

/// What to tell the operator of the supplementary groups that could not be given up, if there are any.
fn groups_left() -> Option<String> {
    let groups: Vec<_> = getgroups().unwrap_or_default().iter().map(ToString::to_string).collect();
    (!groups.is_empty()).then(|| {
        format!(
            "the supplementary groups {} stay: setgroups() is not permitted; allow it (CAP_SETGID), or start without them",
            groups.join(", ")
        )
    })
}

fn account_for_root() -> Result<Account, ProcessError> {
    for name in USERS_FOR_ROOT {
        if let Some(account) = account(name)? {
            return Ok(account);
        }
    }
    Err(ProcessError::UserMissing)
}

fn account(name: &str) -> Result<Option<Account>, ProcessError> {
    let failed = |errno| ProcessError::UserLookup { user: name.to_owned(), errno };
    if let Some(User { name, uid, gid, .. }) = User::from_name(name).map_err(failed)? {
        return Ok(Some(Account { name, uid, gid }));
    }
    let Ok(number) = name.parse() else { return Ok(None) };
    let known = User::from_uid(Uid::from_raw(number)).map_err(failed)?;
    let gid = known.map_or(Gid::from_raw(number), |user| user.gid);
    Ok(Some(Account { name: name.to_owned(), uid: Uid::from_raw(number), gid }))
}
