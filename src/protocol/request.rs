//! What clients ask for, whatever their dialect.

use super::Step;
use super::binary::{Packet, Status};
use super::exptime::Exptime;
use super::meta::{Flags, Letters};
use super::style::Style;

/// What a client asks. Keys are as they came: [`Flags::plain_key`] is what the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Show an item.
    Fetch(Fetch<'a>),
    /// Store an item.
    Put(Put<'a>),
    /// Add to a number or take from it.
    Count(Count<'a>),
    /// Set a new exptime.
    Touch(Touch<'a>),
    /// Remove an item.
    Delete(Delete<'a>),
    /// Anything else: a line for the table of administrative commands.
    Admin {
        /// The line, without its end.
        line: &'a [u8],
    },
    /// A packet of the binary protocol that is not about one key.
    Control {
        /// What the reply repeats.
        packet: Packet,
        /// What it asks for.
        control: Control<'a>,
    },
}

/// One key of a retrieval line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// Whether the CAS id is to be told.
    pub with_cas: bool,
    /// The exptime to set on the way (`gat`, flag `T`).
    pub exptime: Option<Exptime>,
    /// Whether it is the last key of its line, after which the client waits for END.
    pub is_last: bool,
    /// Whose words.
    pub style: Style<'a>,
}

/// How a [`Put`] depends on what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Store in any case.
    Set,
    /// Store only what is not there.
    Add,
    /// Store only what is there.
    Replace,
    /// Put the value behind the one there is.
    Append,
    /// Put the value before the one there is.
    Prepend,
}

/// A request to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// Under which condition.
    pub mode: PutMode,
    /// Under which key.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// When it is to die.
    pub exptime: Exptime,
    /// The value; `None` if the bytes after it were not CRLF, or if it has not arrived yet.
    pub value: Option<&'a [u8]>,
    /// How long the value was announced to be, in bytes.
    pub value_bytes: u32,
    /// Whether to store only if the item's CAS id is still `cas`.
    pub compares: bool,
    /// The CAS id to compare with.
    pub cas: u64,
    /// Whether no reply is wanted.
    pub quiet: bool,
    /// Whose words.
    pub style: Style<'a>,
}

/// A request to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// By how much.
    pub delta: u64,
    /// Whether to take away.
    pub down: bool,
    /// The CAS id that the item must have; 0 is any.
    pub cas: u64,
    /// What to store if there is no such item; `None` is nothing.
    pub created: Option<Created>,
    /// Whether no reply is wanted.
    pub quiet: bool,
    /// Whose words.
    pub style: Style<'a>,
}

/// The counter that a request to count stores where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its number; the delta does not count.
    pub number: u64,
    /// When it is to die.
    pub exptime: Exptime,
}

/// A request to set a new exptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// When it is to die.
    pub exptime: Exptime,
    /// Whether no reply is wanted.
    pub quiet: bool,
}

/// A request to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// The CAS id that the item must have; `None` is any.
    pub cas: Option<u64>,
    /// Whether no reply is wanted.
    pub quiet: bool,
    /// Whose words.
    pub style: Style<'a>,
}

/// A packet that is not about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Drop everything stored so far, when `exptime` is reached.
    Flush {
        /// As in `flush_all`; 0 is now.
        exptime: u32,
    },
    /// Answer, so that the client knows that all before it is answered.
    Noop,
    /// Close the connection.
    Quit,
    /// Show what was counted.
    Stat {
        /// What would follow `stats` in text.
        words: &'a [u8],
    },
    /// Tell the version.
    Version,
    /// Tell the mechanisms of SASL.
    SaslList,
    /// Begin to log in.
    SaslAuth {
        /// The name of the mechanism.
        mechanism: &'a [u8],
        /// What the client begins with.
        data: &'a [u8],
    },
    /// Go on with a login.
    SaslStep {
        /// The name of the mechanism.
        mechanism: &'a [u8],
        /// What the client answers.
        data: &'a [u8],
    },
    /// Nothing that can be done.
    Refused {
        /// Why.
        status: Status,
        /// Whether the connection is to be closed, since nobody knows where the next packet begins.
        closes: bool,
    },
}

/// The flags of `mg` that may change the item, or tell the client that it is the one to change it.
const CHANGING: Letters = Letters::of(b"NRT");

impl<'a> Request<'a> {
    /// In whose words it was made.
    pub fn style(&self) -> Style<'a> {
        match self {
            Request::Fetch(fetch) => fetch.style,
            Request::Put(put) => put.style,
            Request::Count(count) => count.style,
            Request::Delete(delete) => delete.style,
            Request::Touch(_) | Request::Admin { .. } => Style::Classic,
            Request::Control { packet, .. } => Style::Binary(*packet),
        }
    }

    /// Whether it may change an item. A read-only user may send no request that does.
    pub fn changes(&self) -> bool {
        match self {
            Request::Fetch(fetch) => fetch.changes(),
            Request::Put(_) | Request::Count(_) | Request::Touch(_) | Request::Delete(_) => true,
            Request::Admin { .. } | Request::Control { .. } => false,
        }
    }

    /// Whether its client wants to hear neither how it ended nor of an error. A meta or binary request hides only
    /// success.
    pub fn is_silent(&self) -> bool {
        match self {
            Request::Put(put) => put.quiet && put.style == Style::Classic,
            Request::Count(count) => count.quiet && count.style == Style::Classic,
            Request::Delete(delete) => delete.quiet && delete.style == Style::Classic,
            Request::Touch(touch) => touch.quiet,
            Request::Fetch(_) | Request::Admin { .. } | Request::Control { .. } => false,
        }
    }
}

impl Fetch<'_> {
    /// Whether it may change the item, so that a look at it is not enough.
    #[inline]
    pub fn changes(&self) -> bool {
        self.changes_by(self.style.flags())
    }

    /// The same, where the flags of its style are at hand.
    #[inline]
    pub fn changes_by(&self, flags: Flags<'_>) -> bool {
        self.exptime.is_some() || flags.has_any(CHANGING)
    }
}

impl<'a> Put<'a> {
    /// This request with its value, if that is at the head of `after`, the input behind its line.
    #[inline(always)]
    pub(super) fn with_value(self, after: &'a [u8], line_bytes: usize) -> (Step<'a>, usize) {
        let length = self.value_bytes as usize; // at most VALUE_BYTES_MAX, which is 31 bits
        let Some(data) = after.get(..length + 2) else {
            return (Step::Announced { put: self, bytes: line_bytes + length + 2 }, 0);
        };
        let value = data.strip_suffix(b"\r\n");
        (Step::Request(Request::Put(Put { value, ..self })), line_bytes + length + 2)
    }
}
