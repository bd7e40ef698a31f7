//! Bytes to requests, replies to bytes. No sockets, no items, no settings: only words.
//!
//! A [`Decoder`] stands at one place of one connection's input and takes one [`Step`] at a time. What it yields
//! borrows from the input; a key is known to fit, a number to be a number. Long retrieval lines are taken key by key
//! as they arrive, so they may be of any length without ever being held.

mod binary;
mod classic;
mod login;
mod meta;
mod owed;
mod replies;
mod stat_lines;
mod style;
mod tokens;
pub(crate) mod uri;

use crate::settings::Protocol;

pub use binary::{Control, Packet, REQUEST_MAGIC, Status};
pub use login::{LoginStep, login_step};
pub use meta::{Flags, KeyBuffer, Letters, SecondsLeft, Shown, decode_key, encode_key};
pub use owed::Owed;
pub use replies::{Hit, Outcome, Refusal, reply};
pub use stat_lines::StatLines;
pub use style::Style;
pub use tokens::{Words, cut_exptime, signed, unsigned};

/// The longest key, in bytes. Source: memcached's protocol document.
pub const KEY_BYTES_MAX: usize = 250;
/// The longest line without its LF, in bytes; retrieval lines are not held and so not bounded. Source:
/// memcached closes a connection that has sent more without a LF.
pub const LINE_BYTES_MAX: usize = 2048;
/// The greatest announced length of a value, in bytes. Source: memcached (`INT_MAX - 2`).
pub const VALUE_BYTES_MAX: u32 = i32::MAX as u32 - 2;

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
    pub exptime: Option<i64>,
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
    pub exptime: i64,
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
    pub exptime: i64,
}

/// A request to set a new exptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// When it is to die.
    pub exptime: i64,
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
        self.exptime.is_some() || self.style.flags().has_any(CHANGING)
    }
}

impl<'a> Put<'a> {
    /// This request with its value, if that is at the head of `after`, the input behind its line.
    #[inline(always)]
    fn with_value(self, after: &'a [u8], line_bytes: usize) -> (Step<'a>, usize) {
        let length = self.value_bytes as usize; // at most VALUE_BYTES_MAX, which is 31 bits
        let Some(data) = after.get(..length + 2) else {
            return (Step::Announced { put: self, bytes: line_bytes + length + 2 }, 0);
        };
        let value = data.strip_suffix(b"\r\n");
        (Step::Request(Request::Put(Put { value, ..self })), line_bytes + length + 2)
    }
}

/// What the decoder found at its place in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole request.
    Request(Request<'a>),
    /// A request to store whose value has not arrived in full. It will be decoded again, unless
    /// [`Decoder::swallow`] is called.
    Announced {
        /// The request, without its value.
        put: Put<'a>,
        /// How many bytes of input it takes, from its first to the last behind its value.
        bytes: usize,
    },
    /// Bytes owed whatever the store holds: the end of a retrieval, or an error of form.
    Say(&'static [u8]),
    /// Nothing whole: at least this many bytes of input are needed, from the decoder's place on.
    Incomplete {
        /// In bytes.
        bytes_min: usize,
    },
    /// The connection is to be closed without a word.
    Hopeless,
}

/// A place in a connection's input: what the bytes there belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    mode: Mode,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// The start of a connection that may speak any protocol: its first byte tells which.
    #[default]
    Start,
    /// The start of a line.
    Line,
    /// Keys of a retrieval line, or its end.
    Keys(classic::Retrieval),
    /// The rest of a refused line, up to its LF.
    RefusedLine,
    /// So many bytes of a refused value, behind which a line starts.
    RefusedValue(u64),
    /// The start of a packet of the binary protocol.
    Packet,
    /// So many bytes of a refused packet.
    RefusedBody(u64),
}

impl Decoder {
    /// A decoder at the start of a connection that may speak `protocol`.
    pub fn new(protocol: Protocol) -> Decoder {
        let mode = match protocol {
            Protocol::Auto => Mode::Start,
            Protocol::Ascii => Mode::Line,
            Protocol::Binary => Mode::Packet,
        };
        Decoder { mode }
    }

    /// Takes one step at the head of `input`: what is there, and how many bytes of input it used up.
    ///
    /// ```
    /// use ferrocached::protocol::{Decoder, Delete, Request, Step, Style};
    ///
    /// let mut decoder = Decoder::default();
    /// let (step, used) = decoder.step(b"delete k noreply\r\nversion\r\n");
    /// let delete = Delete { key: b"k", cas: None, quiet: true, style: Style::Classic };
    /// assert_eq!(step, Step::Request(Request::Delete(delete)));
    /// assert_eq!(used, 18);
    /// ```
    pub fn step<'a>(&mut self, input: &'a [u8]) -> (Step<'a>, usize) {
        match self.mode {
            Mode::Line => classic::line(&mut self.mode, input),
            Mode::Start => self.begin(input),
            Mode::Keys(retrieval) => classic::keys(&mut self.mode, retrieval, input),
            Mode::RefusedLine => self.skip_line(input),
            Mode::RefusedValue(left) => self.skip(left, input, Mode::RefusedValue, Mode::Line),
            Mode::Packet => binary::step(&mut self.mode, input),
            Mode::RefusedBody(left) => self.skip(left, input, Mode::RefusedBody, Mode::Packet),
        }
    }

    /// Takes one step as [`Decoder::step`] would, if that finds a key of a plain `get` or `mg`; else does nothing. It
    /// may be left out, but most of what a cache is asked is decoded twice as fast by it.
    #[inline(always)]
    pub fn plain_fetch<'a>(&mut self, input: &'a [u8]) -> Option<(Fetch<'a>, usize)> {
        let plain = classic::plain_key(&mut self.mode, input);
        match self.mode {
            Mode::Line if plain.is_none() => meta::plain_fetch(input),
            Mode::Packet => binary::plain_fetch(input),
            _ => plain,
        }
    }

    fn begin<'a>(&mut self, input: &'a [u8]) -> (Step<'a>, usize) {
        self.mode = match input.first() {
            None => return (Step::Incomplete { bytes_min: 1 }, 0),
            Some(&binary::REQUEST_MAGIC) => Mode::Packet,
            Some(_) => Mode::Line,
        };
        self.step(input)
    }

    /// Throws the store of `bytes` at the head of the input away as it arrives, of which [`Step::Announced`] has told.
    pub fn swallow(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.mode =
            if self.mode == Mode::Packet { Mode::RefusedBody(bytes) } else { Mode::RefusedValue(bytes) };
    }

    /// Has what is left of the line thrown away as it arrives, if a retrieval's last key was not its line's last.
    pub fn refuse_keys(&mut self) {
        if let Mode::Keys(_) = self.mode {
            self.mode = Mode::RefusedLine;
        }
    }

    fn skip_line<'a>(&mut self, input: &[u8]) -> (Step<'a>, usize) {
        match memchr::memchr(b'\n', input) {
            Some(end) => {
                self.mode = Mode::Line;
                (Step::Say(b""), end + 1)
            }
            None => (Step::Incomplete { bytes_min: 1 }, input.len()),
        }
    }

    /// Throws away what there is of `left` bytes: more of them are the mode `more`, none are the mode `behind`.
    fn skip<'a>(
        &mut self,
        left: u64,
        input: &[u8],
        more: fn(u64) -> Mode,
        behind: Mode,
    ) -> (Step<'a>, usize) {
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let left = left - used as u64;
        if left == 0 {
            self.mode = behind;
            return (Step::Say(b""), used);
        }
        self.mode = more(left);
        (Step::Incomplete { bytes_min: 1 }, used)
    }
}
