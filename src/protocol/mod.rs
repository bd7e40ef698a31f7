//! Bytes to requests, replies to bytes. No sockets, no items, no settings: only words.
//!
//! A [`Decoder`] stands at one place of one connection's input and takes one [`Step`] at a time. What it yields
//! borrows from the input; a key is known to fit, a number to be a number. Long retrieval lines are taken key by key
//! as they arrive, so they may be of any length without ever being held.

mod binary;
mod classic;
mod exptime;
mod login;
mod meta;
mod owed;
mod replies;
mod request;
mod stat_lines;
mod style;
mod tokens;
pub(crate) mod uri;

use crate::settings::Protocol;

pub use binary::{Packet, REQUEST_MAGIC, Status};
pub use exptime::Exptime;
pub use login::{LoginStep, login_step};
pub use meta::{Flags, KeyBuffer, Letters, SecondsLeft, Shown, decode_key, encode_key};
pub use owed::Owed;
pub use replies::{Hit, Outcome, Refusal, reply};
pub use request::{Control, Count, Created, Delete, Fetch, Put, PutMode, Request, Touch};
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
        if plain.is_none() && self.mode == Mode::Line { meta::plain_fetch(input) } else { plain }
    }

    /// The same for a packet.
    #[inline(always)]
    pub fn plain_packet<'a>(&self, input: &'a [u8]) -> Option<(Fetch<'a>, usize)> {
        if self.is_at_packet() { binary::plain_fetch(input) } else { None }
    }

    /// Whether a packet starts here.
    #[inline]
    pub fn is_at_packet(&self) -> bool {
        self.mode == Mode::Packet
    }

    fn begin<'a>(&mut self, input: &'a [u8]) -> (Step<'a>, usize) {
        self.mode = match input.first() {
            None => return (Step::Incomplete { bytes_min: 1 }, 0),
            Some(&binary::REQUEST_MAGIC) => Mode::Packet,
            Some(_) => Mode::Line,
        };
        self.step(input)
    }

    /// Whether what comes next is the rest of a refused packet.
    pub fn discards_packet(&self) -> bool {
        matches!(self.mode, Mode::RefusedBody(_))
    }

    /// Whether the client speaks the binary protocol, as far as `input` tells, which is what stands here.
    pub fn speaks_packets(&self, input: &[u8]) -> bool {
        match self.mode {
            Mode::Start => input.first() == Some(&REQUEST_MAGIC),
            Mode::Packet | Mode::RefusedBody(_) => true,
            Mode::Line | Mode::Keys(_) | Mode::RefusedLine | Mode::RefusedValue(_) => false,
        }
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
