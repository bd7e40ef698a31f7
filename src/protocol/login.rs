//! What a client sends to log in, from bytes: `set <any key> <any flags> <any exptime> <bytes>` and, as its value,
//! `user password`.
//!
//! A decoder of its own, for those who have nothing to say but this: what an unknown client sends meets as little code
//! as can be.

use super::replies::reply;
use super::tokens::{Words, unsigned};
use super::{LINE_BYTES_MAX, VALUE_BYTES_MAX};

/// The longest `user password`, in bytes. Source: memcached.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// What a client that has not logged in sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStep<'a> {
    /// `user password`, if it is that.
    Token(&'a [u8]),
    /// A value that is too long to be that; so many bytes of it follow, and CRLF.
    TooLong(u64),
    /// Anything else, and what is to be said to it.
    Say(&'static [u8]),
    /// Nothing whole: at least this many bytes of input are needed.
    Incomplete {
        /// In bytes.
        bytes_min: usize,
    },
    /// A line that does not end: the connection is to be closed without a word.
    Hopeless,
}

/// What stands at the head of `input`, and how many bytes of it that takes.
pub fn login_step(input: &[u8]) -> (LoginStep<'_>, usize) {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE_BYTES_MAX + 1)]) else {
        let is_too_long = input.len() > LINE_BYTES_MAX;
        let sent = if is_too_long {
            LoginStep::Hopeless
        } else {
            LoginStep::Incomplete { bytes_min: input.len() + 1 }
        };
        return (sent, 0);
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let after = &input[end + 1..];
    match announced(line) {
        None => (LoginStep::Say(reply::UNAUTHENTICATED), end + 1),
        Some(bytes) if bytes > TOKEN_BYTES_MAX => (LoginStep::TooLong(bytes), end + 1),
        Some(bytes) => {
            let all = bytes as usize + 2; // at most TOKEN_BYTES_MAX
            let Some(value) = after.get(..all) else {
                return (LoginStep::Incomplete { bytes_min: end + 1 + all }, 0);
            };
            let sent =
                value.strip_suffix(b"\r\n").map_or(LoginStep::Say(reply::BAD_TERMINATION), LoginStep::Token);
            (sent, end + 1 + all)
        }
    }
}

/// How long the value is that a `set` announces; `None` for everything else.
fn announced(line: &[u8]) -> Option<u64> {
    let mut words = Words::new(line);
    if words.next() != Some(b"set") {
        return None;
    }
    // Behind key, flags and exptime, which may be anything.
    let length = words.nth(3)?;
    let length = length.strip_prefix(b"+").unwrap_or(length);
    unsigned(length).filter(|&bytes| bytes <= VALUE_BYTES_MAX.into())
}
