//! A file of users (`-Y`) of whatever bytes, and who may log in by it.
//!
//! The lines are read once more here, simply, except for what is in a hash: a password that is written in the open must
//! open what its line says, and nothing else must.

use std::collections::HashMap;

use ferrocached::engine::access::rights::{PREFIX_BYTES_MAX, Rights, SEPARATOR};
use ferrocached::engine::access::users::{
    Credentials, PASSWORDS_PER_USER_MAX, USER_LINE_BYTES_MAX, Users, UsersError,
};

/// The longest message: longer ones would be showing something of the file.
const MESSAGE_BYTES_MAX: usize = 200;

/// A line as it should be understood.
struct Line<'a> {
    user: &'a [u8],
    password: &'a [u8],
    rights: Rights,
    is_hash: bool,
}

/// The bytes are those of the file.
pub(super) fn authfile(text: &[u8]) {
    let lines = lines(text);
    match Users::parse(text) {
        Ok(users) => {
            assert_eq!(users.len(), lines.len());
            assert!(!users.is_empty());
            let lines: Vec<_> = lines.into_iter().map(|line| read(line).expect("it was taken")).collect();
            lines.iter().filter(|line| !line.is_hash).for_each(|line| check_login(&users, &lines, line));
        }
        Err(error) => check_error(&error, &lines),
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

/// What is in a line; `None` if it is wrong, hashes apart.
fn read(line: &[u8]) -> Option<Line<'_>> {
    let is_wrong = |byte: &u8| matches!(byte, 0..=b' ' | 0x7f);
    if line.len() > USER_LINE_BYTES_MAX || line.iter().any(is_wrong) {
        return None;
    }
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (user, rest) = (&line[..colon], &line[colon + 1..]);
    let last = rest.iter().rposition(|byte| *byte == b':');
    let rights = last.and_then(|last| Rights::parse(str::from_utf8(&rest[last + 1..]).ok()?).ok());
    let password = if rights.is_some() { &rest[..last?] } else { rest };
    if user.is_empty() || password.is_empty() {
        return None;
    }
    let is_hash = [&b"{SHA256}"[..], b"{SSHA256}", b"$argon2"].iter().any(|mark| password.starts_with(mark));
    Some(Line { user, password, rights: rights.unwrap_or_default(), is_hash })
}

/// What a line opens is what the first line says that has its user and its password.
fn check_login(users: &Users, lines: &[Line<'_>], line: &Line<'_>) {
    let check = |password: &[u8]| {
        let wanted = lines
            .iter()
            .find(|other| !other.is_hash && other.user == line.user && other.password == password);
        let token = [line.user, b" ", password].concat();
        let credentials = Credentials::of_text(&token).expect("it is two words");
        let rights = users.verify_at_once(&credentials);
        assert_eq!(rights.as_deref(), wanted.map(|line| &line.rights), "{:?}", line.user.escape_ascii());
    };
    check(line.password);
    check(&[line.password, b"x"].concat());
    if line.password.len() > 1 {
        check(&line.password[1..]);
    }
    let prefix = line.rights.prefix();
    assert!(prefix.is_empty() || prefix.ends_with(&[SEPARATOR]) && prefix.len() <= PREFIX_BYTES_MAX + 1);
}

/// The first line that is wrong is named, and nothing that stands in it.
fn check_error(error: &UsersError, lines: &[&[u8]]) {
    let message = error.to_string();
    assert!(message.len() <= MESSAGE_BYTES_MAX && !message.contains(char::is_control), "{message:?}");
    let named = match error {
        UsersError::Line { line, .. } => line,
        UsersError::Empty => return assert!(lines.is_empty(), "{message}"),
        UsersError::FileTooLong | UsersError::TooManyUsers => panic!("no fuzzer writes that much: {message}"),
    };
    let before = &lines[..*named - 1];
    let before: Vec<_> = before.iter().map(|line| read(line).expect("an earlier line is wrong")).collect();
    let Some(line) = read(lines[*named - 1]) else { return };
    let mut passwords = HashMap::<_, usize>::new();
    before.iter().for_each(|line| *passwords.entry(line.user).or_default() += 1);
    let has_most = passwords.get(line.user) == Some(&PASSWORDS_PER_USER_MAX);
    assert!(line.is_hash || has_most, "a line is refused that is right: {message}");
}
