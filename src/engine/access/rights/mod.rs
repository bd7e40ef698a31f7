//! What a user may do: only read or also write, all items or only those under a prefix of its own.
//!
//! A user with a prefix never sees it: `get k` of a user with `prefix=shop` looks up `shop:k` and answers `VALUE k`.
//! The separator is put in by the server and no prefix may hold it, so no stored key belongs to two users, even if
//! the prefix of one begins with that of another: `a` and `ab` store under `a:` and `ab:`, whatever bytes the keys
//! behind have. The rejected alternatives: without a separator the users file would have to be searched for such
//! pairs, and users of an older one that are still connected with it; and a separator that no key can hold would
//! be a space or a line end, so that a user who sees all keys could name those with a prefix only in base64.
//! The one taken is the delimiter of memcached's prefix statistics, so that `stats prefixes` and
//! `stats detail` count users apart by themselves.

pub(in crate::engine) mod admission;
mod allowed;

use std::sync::Arc;

use thiserror::Error;

pub use allowed::Allowed;

/// What the server puts between a user's prefix and the keys of that user. Source: memcached's default for `-D`.
pub const SEPARATOR: u8 = b':';

/// The longest prefix, in bytes without its [`SEPARATOR`]: at least 121 of a key's 250 bytes are left to the user.
pub const PREFIX_BYTES_MAX: usize = 128;

/// What a user may do. By default everything.
///
/// ```
/// use ferrocached::engine::access::rights::Rights;
///
/// let rights = Rights::parse("ro,prefix=shop").unwrap();
/// assert!(!rights.may_write());
/// assert_eq!(rights.prefix(), b"shop:");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    may_write: bool,
    /// With its separator; empty if there is none.
    prefix: Box<[u8]>,
}

/// Why a list of rights cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RightsError {
    /// A word that is not one of them.
    #[error("there is no right {0:?}; say rw, ro or prefix=<prefix>, with commas between them")]
    Unknown(String),
    /// `rw` or `ro` beside another, or two prefixes.
    #[error("{0:?} comes after another of its kind; say rw or ro once, and prefix=<prefix> once")]
    Again(String),
    /// A prefix of a length that there cannot be.
    #[error("the prefix has {bytes} bytes; it must have 1 to {PREFIX_BYTES_MAX}")]
    PrefixLength {
        /// In bytes.
        bytes: usize,
    },
    /// A prefix with a byte that it may not have.
    #[error(
        "the prefix {0:?} may hold only printable ASCII characters, no space and no ':', which the server puts behind it"
    )]
    PrefixByte(String),
}

impl Default for Rights {
    fn default() -> Rights {
        Rights { may_write: true, prefix: Box::default() }
    }
}

impl Rights {
    /// The rights in `field`: `rw` (which is the default), `ro`, `prefix=<prefix>`, with commas between them.
    ///
    /// # Errors
    /// If a word is none of these or comes twice, or if the prefix does not have 1 to [`PREFIX_BYTES_MAX`] bytes, each
    /// a printable ASCII character that is no space, no comma and no [`SEPARATOR`].
    pub fn parse(field: &str) -> Result<Rights, RightsError> {
        let mut may_write = None;
        let mut prefix = None;
        for word in field.split(',') {
            let is_again = match word {
                "rw" => may_write.replace(true).is_some(),
                "ro" => may_write.replace(false).is_some(),
                _ => match word.strip_prefix("prefix=") {
                    Some(given) => prefix.replace(parse_prefix(given)?).is_some(),
                    None => return Err(RightsError::Unknown(word.to_owned())),
                },
            };
            if is_again {
                return Err(RightsError::Again(word.to_owned()));
            }
        }
        Ok(Rights { may_write: may_write.unwrap_or(true), prefix: prefix.unwrap_or_default() })
    }

    /// Whether the user may change items, or the server.
    pub fn may_write(&self) -> bool {
        self.may_write
    }

    /// What every key of the user begins with in the store, [`SEPARATOR`] included; empty if the user sees all keys.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether the user may do everything.
    pub fn are_all(&self) -> bool {
        self.may_write && self.prefix.is_empty()
    }
}

fn parse_prefix(given: &str) -> Result<Box<[u8]>, RightsError> {
    if !(1..=PREFIX_BYTES_MAX).contains(&given.len()) {
        return Err(RightsError::PrefixLength { bytes: given.len() });
    }
    if !given.bytes().all(|byte| byte.is_ascii_graphic() && byte != SEPARATOR) {
        return Err(RightsError::PrefixByte(given.to_owned()));
    }
    Ok(given.bytes().chain([SEPARATOR]).collect())
}

/// The rights of a session's user, in a form that is quick to check.
#[derive(Debug, Default)]
pub(in crate::engine) struct Granted {
    /// `None` for everything.
    rights: Option<Arc<Rights>>,
    /// How many bytes the user's prefix has; 0 without one.
    prefix_bytes: usize,
}

impl Granted {
    pub(in crate::engine) fn new(rights: Arc<Rights>) -> Granted {
        let prefix_bytes = rights.prefix().len();
        Granted { rights: Some(rights).filter(|rights| !rights.are_all()), prefix_bytes }
    }

    /// The rights, if they are not all there are.
    #[inline]
    pub(in crate::engine) fn limits(&self) -> Option<&Rights> {
        self.rights.as_deref()
    }

    /// What every key that the user may see begins with.
    pub(in crate::engine) fn prefix(&self) -> &[u8] {
        self.limits().map_or(b"", Rights::prefix)
    }

    /// Whether the user may change items. Only such users are told to recache an item.
    pub(in crate::engine) fn may_write(&self) -> bool {
        self.limits().is_none_or(Rights::may_write)
    }

    /// `key` without the user's prefix. It has no branch, because every retrieval calls it.
    #[inline]
    pub(in crate::engine) fn shown_key<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        &key[self.prefix_bytes.min(key.len())..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &str, may_write: bool, prefix: &str) {
        let rights = Rights::parse(field).unwrap_or_else(|error| panic!("{field}: {error}"));
        assert_eq!((rights.may_write(), rights.prefix()), (may_write, prefix.as_bytes()), "{field}");
        assert_eq!(rights.are_all(), may_write && prefix.is_empty(), "{field}");
    }

    #[test]
    fn rights_are_words_in_any_order() {
        check("rw", true, "");
        check("ro", false, "");
        check("prefix=a", true, "a:");
        check("rw,prefix=a", true, "a:");
        check("ro,prefix=ab", false, "ab:");
        check("prefix=shop/2=x,ro", false, "shop/2=x:");
        assert_eq!(Rights::parse("rw"), Ok(Rights::default()));
    }

    #[test]
    fn what_is_no_right_is_refused() {
        for field in ["", "RW", "ro,", "rw,,ro", "prefix", "write", " ro", "ro rw", "prefix=a,b"] {
            assert!(matches!(Rights::parse(field), Err(RightsError::Unknown(_))), "{field}");
        }
        for field in ["rw,ro", "ro,ro", "prefix=a,prefix=b", "prefix=a,ro,prefix=a"] {
            assert!(matches!(Rights::parse(field), Err(RightsError::Again(_))), "{field}");
        }
        for prefix in ["a:", ":", "a b", "a\t", "a\u{7f}", "é"] {
            let parsed = Rights::parse(&format!("prefix={prefix}"));
            assert_eq!(parsed, Err(RightsError::PrefixByte(prefix.to_owned())));
        }
    }

    #[test]
    fn a_prefix_has_1_to_128_bytes() {
        let longest = "p".repeat(PREFIX_BYTES_MAX);
        check(&format!("prefix={longest}"), true, &format!("{longest}:"));
        for bytes in [0, PREFIX_BYTES_MAX + 1] {
            let parsed = Rights::parse(&format!("prefix={}", "p".repeat(bytes)));
            assert_eq!(parsed, Err(RightsError::PrefixLength { bytes }));
        }
    }
}
