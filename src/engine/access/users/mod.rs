//! Who may log in: the users of a file (`-Y`), or one user (`MEMCACHED_PASSWORD`); and whether what a client sends is
//! one of their passwords.
//!
//! A line of the file is `user:password` or `user:password:rights`. The first colon ends the user. What stands behind
//! the last one is the [`Rights`] if it is exactly that, and otherwise the end of a password that holds colons. As in
//! memcached there are no comments and no blank lines: a user's name may well begin with `#`.
//!
//! Rules:
//! - a password is never kept as it was written, and no error shows one;
//! - comparing takes the same time whichever byte differs, and a refusal takes the same time whether the user exists or
//!   not.

mod password;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use thiserror::Error;

use crate::engine::access::rights::Rights;
pub use crate::engine::access::users::password::{
    ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES_MAX, SecretError,
};
use crate::engine::access::users::password::{Cost, Secret, SessionKey};
use crate::settings::OneUser;

/// The longest file of users, in bytes: room for [`USERS_MAX`] lines with an argon2 hash in each.
pub const USERS_FILE_BYTES_MAX: usize = 16 << 20;
/// How many lines a file of users may have.
pub const USERS_MAX: usize = 100_000;
/// The longest line, in bytes without its end. An argon2 hash takes about 100; memcached takes 255 in all.
pub const USER_LINE_BYTES_MAX: usize = 1024;
/// How many passwords one user may have at a time: as many as memcached's file has lines. Each is tried in turn, so
/// each makes refusing slower.
pub const PASSWORDS_PER_USER_MAX: usize = 8;

/// What some editors put before a file's first byte to say that it is UTF-8 (RFC 3629, section 6). No part of a name.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Why a file of users cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UsersError {
    /// The file is longer than [`USERS_FILE_BYTES_MAX`].
    #[error("it has more than {USERS_FILE_BYTES_MAX} bytes, which is the most")]
    FileTooLong,
    /// The file is empty, so that nobody could log in. memcached has the words of a wrong line for it.
    #[error("has a malformed entry. Should be 'user:password'; it is empty")]
    Empty,
    /// The file has more lines than [`USERS_MAX`].
    #[error("it has more than {USERS_MAX} lines, which is the most")]
    TooManyUsers,
    /// One of its lines is wrong.
    #[error("line {line}: {wrong}")]
    Line {
        /// Which one, counted from 1.
        line: usize,
        /// How.
        wrong: LineError,
    },
}

/// Why a line of a file of users cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// It has no colon; a blank line has none either. The words are memcached's.
    #[error("has a malformed entry. Should be 'user:password'; comments and blank lines are none")]
    Malformed,
    /// It is longer than [`USER_LINE_BYTES_MAX`].
    #[error("is longer than {USER_LINE_BYTES_MAX} bytes")]
    TooLong,
    /// There is no name before the first colon.
    #[error("the user is empty")]
    UserEmpty,
    /// There is no password behind the first colon.
    #[error("the password is empty")]
    PasswordEmpty,
    /// A space or a control character, with which nobody could log in: clients send the two words `user password`.
    #[error("a user or password may hold no space and no control character")]
    Unsendable,
    /// The password has the form of a hash and is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The user has more than [`PASSWORDS_PER_USER_MAX`].
    #[error("that is more than {PASSWORDS_PER_USER_MAX} passwords for one user")]
    TooManyPasswords,
}

/// Whether a client can log in by these two words.
fn check_words(user: &[u8], password: &[u8]) -> Result<(), LineError> {
    if user.is_empty() {
        return Err(LineError::UserEmpty);
    }
    if password.is_empty() {
        return Err(LineError::PasswordEmpty);
    }
    let is_unsendable = |byte: &u8| *byte == b' ' || byte.is_ascii_control();
    match user.iter().chain(password).any(is_unsendable) {
        true => Err(LineError::Unsendable),
        false => Ok(()),
    }
}

/// What a client sends to log in: a user and a password. By default those of nobody.
///
/// As each connection may have one waiting, none is large: what is longer than any line of a file becomes the default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    user: Box<[u8]>,
    password: Box<[u8]>,
}

impl Credentials {
    /// Those of a text login: the user, which the first space ends, and the word behind it; as in memcached, further ones
    /// have no meaning. `None` if there is no such word. With a space in front the user has no name, so nobody is let in.
    pub fn of_text(text: &[u8]) -> Option<Credentials> {
        let space = text.iter().position(|&byte| byte == b' ')?;
        let password = crate::protocol::Words::new(&text[space..]).next()?;
        Some(Credentials::new(&text[..space], password))
    }

    /// Those of the mechanism PLAIN: whom to act for, the user and the password, with NULs between them (RFC 4616).
    /// `None` if they are not that, or if a user wants to act for another.
    pub fn of_plain(data: &[u8]) -> Option<Credentials> {
        let mut parts = data.splitn(3, |&byte| byte == 0);
        let (acts_for, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        let is_own = acts_for.is_empty() || acts_for == user;
        (is_own && !password.contains(&0)).then(|| Credentials::new(user, password))
    }

    /// Those of HTTP's basic authentication, which says where the one ends and the other begins.
    pub(in crate::engine) fn of_pair(user: &[u8], password: &[u8]) -> Credentials {
        Credentials::new(user, password)
    }

    fn new(user: &[u8], password: &[u8]) -> Credentials {
        match user.len() + 1 + password.len() {
            ..=USER_LINE_BYTES_MAX => Credentials { user: user.into(), password: password.into() },
            _ => Credentials::default(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The users of a file, or the only user there is, by name.
///
/// ```
/// use ferrocached::engine::access::users::{Credentials, Users};
///
/// let users = Users::parse(b"ann:sesame\nbob:a:b:ro\n")?;
/// let may_write = |login: &[u8]| users.verify(&Credentials::of_text(login)?).map(|rights| rights.may_write());
/// assert_eq!(may_write(b"ann sesame"), Some(true));
/// assert_eq!(may_write(b"bob a:b"), Some(false));
/// assert_eq!(may_write(b"ann a:b"), None);
/// # Ok::<(), ferrocached::engine::access::users::UsersError>(())
/// ```
#[derive(Default)]
pub struct Users {
    /// By user, an entry for each password.
    entries: HashMap<Box<[u8]>, Vec<Entry>>,
    passwords: usize,
    key: SessionKey,
    /// What a refusal has to cost: as much as all passwords of the user for whom that is most.
    cost_of_refusal: Cost,
}

struct Entry {
    secret: Secret,
    rights: Arc<Rights>,
}

impl Users {
    /// The users in `text`, which is that of a file.
    ///
    /// A last line without its end counts, as it does not in memcached, and a line may end in CRLF.
    ///
    /// # Errors
    /// At the first line that is wrong, and if there are none or too many of them.
    pub fn parse(text: &[u8]) -> Result<Users, UsersError> {
        if text.len() > USERS_FILE_BYTES_MAX {
            return Err(UsersError::FileTooLong);
        }
        let mut users = Users { key: session_key(), ..Users::default() };
        let mut rights_cache = RightsCache::default();
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return Err(UsersError::Empty);
        }
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if index == USERS_MAX {
                return Err(UsersError::TooManyUsers);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            users
                .add(line, &mut rights_cache)
                .map_err(|wrong| UsersError::Line { line: index + 1, wrong })?;
        }
        let costs = users.entries.values().map(|entries| cost(entries));
        users.cost_of_refusal = costs.max().unwrap_or_default();
        Ok(users)
    }

    /// The only user there is, who may do everything.
    ///
    /// # Errors
    /// If the name or the password is empty, or if no client could send them: because of a space or a control
    /// character, or because they are longer than a line of a file.
    pub fn of_one(user: &OneUser) -> Result<Users, LineError> {
        let OneUser { name, password } = user;
        check_words(name, password)?;
        if name.len() + 1 + password.len() > USER_LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        let key = session_key();
        let entry = Entry { secret: Secret::plain(password, &key), rights: Arc::default() };
        let entries = HashMap::from([(name.as_slice().into(), vec![entry])]);
        Ok(Users { entries, passwords: 1, key, cost_of_refusal: Cost::default() })
    }

    /// The users in `text`, which is that of the file of `MEMCACHED_SASL_PWDB`: lines `user:password`, and perhaps more
    /// behind a second colon. A password is taken as it is written, and all users may do everything. Source: memcached.
    ///
    /// # Errors
    /// As [`Users::parse`]; but a blank line is skipped, and there may be spaces in names and passwords.
    pub fn parse_pwdb(text: &[u8]) -> Result<Users, UsersError> {
        if text.len() > USERS_FILE_BYTES_MAX {
            return Err(UsersError::FileTooLong);
        }
        let mut users = Users { key: session_key(), ..Users::default() };
        let rights = Arc::<Rights>::default();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii_end();
            if index == USERS_MAX {
                return Err(UsersError::TooManyUsers);
            }
            if !line.is_empty() {
                users
                    .add_plain(line, &rights)
                    .map_err(|wrong| UsersError::Line { line: index + 1, wrong })?;
            }
        }
        if users.is_empty() { Err(UsersError::Empty) } else { Ok(users) }
    }

    fn add_plain(&mut self, line: &[u8], rights: &Arc<Rights>) -> Result<(), LineError> {
        if line.len() > USER_LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(user), Some(password)) = (fields.next(), fields.next()) else {
            return Err(LineError::Malformed);
        };
        if user.is_empty() {
            return Err(LineError::UserEmpty);
        }
        if password.is_empty() {
            return Err(LineError::PasswordEmpty);
        }
        self.push(user, Secret::plain(password, &self.key), Arc::clone(rights))
    }

    fn push(&mut self, user: &[u8], secret: Secret, rights: Arc<Rights>) -> Result<(), LineError> {
        let entries = self.entries.entry(user.into()).or_default();
        if entries.len() == PASSWORDS_PER_USER_MAX {
            return Err(LineError::TooManyPasswords);
        }
        entries.push(Entry { secret, rights });
        self.passwords += 1;
        Ok(())
    }

    fn add<'a>(&mut self, line: &'a [u8], rights_cache: &mut RightsCache<'a>) -> Result<(), LineError> {
        if line.len() > USER_LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(LineError::Malformed)?;
        let (user, rest) = (&line[..colon], &line[colon + 1..]);
        let (password, rights) = split_rights(rest, rights_cache);
        check_words(user, password)?;
        let secret = Secret::parse(password, &self.key)?;
        self.push(user, secret, rights)
    }

    /// How many passwords there are.
    pub fn len(&self) -> usize {
        self.passwords
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.passwords == 0
    }

    /// The rights that `credentials` give, if they can be verified in microseconds: if the password is not hashed with
    /// argon2, or was verified before. `None` is not a refusal: only [`Users::verify`] refuses.
    pub fn verify_at_once(&self, credentials: &Credentials) -> Option<Arc<Rights>> {
        let matches = |entry: &&Entry| entry.secret.is_known_to_be(&credentials.password, &self.key);
        self.of(&credentials.user).iter().find(matches).map(|entry| Arc::clone(&entry.rights))
    }

    /// The rights that `credentials` give; `None` if the password is wrong or there is no such user. Takes as long as
    /// argon2 takes: with the parameters of the file, often tenths of a second.
    pub fn verify(&self, credentials: &Credentials) -> Option<Arc<Rights>> {
        let known = self.verify_at_once(credentials);
        if known.is_some() {
            return known;
        }
        let entries = self.of(&credentials.user);
        let found = entries.iter().find(|entry| entry.secret.is(&credentials.password, &self.key));
        if found.is_none() {
            self.cost_of_refusal.less(cost(entries)).spend(&credentials.password);
        }
        found.map(|entry| Arc::clone(&entry.rights))
    }

    /// Whether every password is known as it was written, so that CRAM-MD5 works for each user.
    pub fn know_passwords(&self) -> bool {
        self.entries.values().flatten().all(|entry| entry.secret.is_plain())
    }

    /// Something to be signed by CRAM-MD5, another one each time (RFC 2195).
    pub fn challenge() -> String {
        let random = RandomState::new();
        format!("<{:016x}{:016x}@ferrocached>", random.hash_one(0), random.hash_one(1))
    }

    /// The rights of `user`, if `digest` is what CRAM-MD5 makes of `challenge` and a password of that user.
    pub fn verify_digest(&self, user: &[u8], challenge: &[u8], digest: &[u8]) -> Option<Arc<Rights>> {
        let entries = self.of(user);
        if entries.is_empty() {
            // To take as long as for a user that there is.
            std::hint::black_box(Secret::plain(b"", &self.key).signs(challenge, digest));
        }
        // All are tried, whichever is right.
        entries.iter().fold(None, |found, entry| {
            entry.secret.signs(challenge, digest).then(|| Arc::clone(&entry.rights)).or(found)
        })
    }

    fn of(&self, user: &[u8]) -> &[Entry] {
        self.entries.get(user).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Users").field("passwords", &self.passwords).finish_non_exhaustive()
    }
}

fn cost(entries: &[Entry]) -> Cost {
    entries.iter().fold(Cost::default(), |sum, entry| sum.and(entry.secret.cost()))
}

/// The rights of the lines so far, so that users with equal rights share them.
#[derive(Default)]
struct RightsCache<'a> {
    all: Arc<Rights>,
    by_field: HashMap<&'a [u8], Arc<Rights>>,
}

/// The password and the rights of what stands behind a user's colon.
fn split_rights<'a>(rest: &'a [u8], cache: &mut RightsCache<'a>) -> (&'a [u8], Arc<Rights>) {
    if let Some(colon) = rest.iter().rposition(|&byte| byte == b':') {
        let (password, field) = (&rest[..colon], &rest[colon + 1..]);
        if let Some(rights) = cache.by_field.get(field) {
            return (password, Arc::clone(rights));
        }
        if let Some(Ok(rights)) = std::str::from_utf8(field).ok().map(Rights::parse) {
            return (password, Arc::clone(cache.by_field.entry(field).or_insert(Arc::new(rights))));
        }
    }
    (rest, Arc::clone(&cache.all))
}

/// A random key that no other process knows.
fn session_key() -> SessionKey {
    let random = RandomState::new();
    let mut key = SessionKey::default();
    for (number, part) in key.chunks_exact_mut(size_of::<u64>()).enumerate() {
        part.copy_from_slice(&random.hash_one(number).to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests;
