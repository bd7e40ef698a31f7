//! The meta commands, from bytes to requests. Each is one of the requests that the classic commands make, with
//! flags: `mg` a retrieval, `ms` a store, `md` a delete, `ma` a count. (`mn` and `me` are administrative.)
//!
//! Errors are those of memcached 1.6.40 and later.

mod flags;
mod key;
mod replies;

pub use flags::{Flags, Letters};
pub use key::{KeyBuffer, decode as decode_key, encode as encode_key};
pub use replies::{SecondsLeft, Shown};

use super::replies::reply;
use super::tokens::{Words, plain_word, value_bytes};
use super::{
    Count, Created, Delete, Exptime, Fetch, KEY_BYTES_MAX, Mode, Put, PutMode, Request, Step, Style,
};

impl<'a> Flags<'a> {
    /// `key` as it is looked up: decoded into `buffer` if it came in base64.
    #[inline]
    pub fn plain_key<'k>(self, key: &'k [u8], buffer: &'k mut KeyBuffer) -> &'k [u8] {
        if self.has_encoded_key() { key::decode(key, buffer).expect("the decoder has tried it") } else { key }
    }
}

/// An `mg` line written as most clients write it, with [plain](Flags::plain) flags. `None` for everything else.
#[inline(always)]
pub(super) fn plain_fetch<'a>(input: &'a [u8]) -> Option<(Fetch<'a>, usize)> {
    const VERB_BYTES: usize = 3;
    if !input.starts_with(b"mg ") {
        return None;
    }
    let (key, _) = plain_word(&input[VERB_BYTES..])?;
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return None;
    }
    let flags = Flags::plain(&input[VERB_BYTES + key.len()..])?;
    let style = Style::Meta(flags);
    let fetch = Fetch { key, with_cas: false, exptime: None, is_last: false, style };
    Some((fetch, VERB_BYTES + key.len() + flags.bytes() + 2))
}

/// A line after `mg`.
#[inline]
pub(super) fn fetch<'a>(words: Words<'a>) -> Step<'a> {
    let (key, flags) = match key_and_flags(words) {
        Ok(both) => both,
        Err(said) => return Step::Say(said),
    };
    let exptime = flags.exptime(b'T').map(exptime_of);
    let style = Style::Meta(flags);
    Step::Request(Request::Fetch(Fetch { key, with_cas: false, exptime, is_last: false, style }))
}

/// A line after `md`.
pub(super) fn delete<'a>(words: Words<'a>) -> Step<'a> {
    match key_and_flags(words) {
        Ok((key, flags)) => {
            let (cas, quiet, style) = (flags.number(b'C'), flags.has(b'q'), Style::Meta(flags));
            Step::Request(Request::Delete(Delete { key, cas, quiet, style }))
        }
        Err(said) => Step::Say(said),
    }
}

/// A line after `ma`, which has one word for whatever is wrong with a flag.
pub(super) fn count<'a>(mut words: Words<'a>) -> Step<'a> {
    let Some(key) = words.next().filter(|key| key.len() <= KEY_BYTES_MAX) else {
        return Step::Say(reply::BAD_LINE);
    };
    let flags = match flags_for(key, words.rest(), 2) {
        Ok(flags) => flags,
        Err(said @ (reply::TOO_MANY_FLAGS | reply::OPAQUE_TOO_LONG)) => return Step::Say(said),
        Err(_) => return Step::Say(reply::BAD_COUNT_FLAG),
    };
    let down = match flags.mode() {
        None | Some(b'I' | b'+') => false,
        Some(b'D' | b'-') => true,
        Some(_) => return Step::Say(reply::BAD_COUNT_MODE),
    };
    let created = flags.exptime(b'N').map(|created| Created {
        number: flags.number(b'J').unwrap_or(0),
        // The later of the two decides.
        exptime: exptime_of(
            flags.exptime(b'T').filter(|_| flags.has_in_order(b'N', b'T')).unwrap_or(created),
        ),
    });
    Step::Request(Request::Count(Count {
        key,
        delta: flags.number(b'D').unwrap_or(1),
        down,
        cas: flags.number(b'C').unwrap_or(0),
        created,
        quiet: flags.has(b'q'),
        style: Style::Meta(flags),
    }))
}

/// A line after `ms`; `after` is the input behind it, of which a value may take a part.
#[inline(never)] // or a classic set would pay for its frame
pub(super) fn put<'a>(
    mode: &mut Mode,
    mut words: Words<'a>,
    after: &'a [u8],
    line_bytes: usize,
) -> (Step<'a>, usize) {
    let (Some(key), Some(length)) = (words.next(), words.next()) else {
        return (Step::Say(reply::BAD_LINE), line_bytes);
    };
    let Some(value_bytes) = value_bytes(length) else {
        return (Step::Say(reply::BAD_LINE), line_bytes);
    };
    let said = match flags_for(key, words.rest(), 3) {
        Ok(flags) => match put_mode(flags) {
            Some(put_mode) => {
                let put = Put {
                    mode: put_mode,
                    key,
                    flags: flags.number(b'F').and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
                    exptime: exptime_of(flags.exptime(b'T').unwrap_or(0)),
                    compares: flags.has(b'C'),
                    cas: flags.number(b'C').unwrap_or(0),
                    value: None,
                    value_bytes,
                    quiet: flags.has(b'q'),
                    style: Style::Meta(flags),
                };
                return put.with_value(after, line_bytes);
            }
            None => reply::BAD_PUT_MODE,
        },
        Err(said) => said,
    };
    *mode = Mode::RefusedValue(u64::from(value_bytes) + 2);
    (Step::Say(said), line_bytes)
}

/// The exptime of a flag, which the decoder has found to be of 32 bits.
fn exptime_of(number: i64) -> Exptime {
    Exptime::signed(i32::try_from(number).expect("the decoder has tried it"))
}

fn put_mode(flags: Flags<'_>) -> Option<PutMode> {
    Some(match flags.mode() {
        None | Some(b'S') => PutMode::Set,
        Some(b'E') => PutMode::Add,
        Some(b'A') => PutMode::Append,
        Some(b'P') => PutMode::Prepend,
        Some(b'R') => PutMode::Replace,
        Some(_) => return None,
    })
}

/// The key and the flags of a line of which the verb was taken, or what the client is told.
#[inline]
fn key_and_flags(mut words: Words<'_>) -> Result<(&[u8], Flags<'_>), &'static [u8]> {
    let key = words.next().ok_or(reply::BAD_LINE)?;
    Ok((key, flags_for(key, words.rest(), 2)?))
}

#[inline]
fn flags_for<'a>(key: &[u8], text: &'a [u8], words: usize) -> Result<Flags<'a>, &'static [u8]> {
    if key.len() > KEY_BYTES_MAX {
        return Err(reply::BAD_LINE);
    }
    let flags = Flags::parse(text, words)?;
    if flags.has(b'b') && key::decode(key, &mut KeyBuffer::new()).is_none() {
        return Err(reply::BAD_KEY);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, LINE_BYTES_MAX};
    use super::*;

    #[test]
    fn meta_does_not_make_requests_much_longer() {
        // A batch holds 64 of them on the stack; before there were flags they had 72 bytes each.
        assert!(size_of::<Request<'_>>() <= 88, "{}", size_of::<Request<'_>>());
    }

    #[test]
    fn a_line_of_the_longest_length_is_taken_and_a_longer_one_is_hopeless() {
        for (verb, tail) in [("mg k", "\n"), ("mg k", "\r\n"), ("md k", "\n"), ("ma k", "\n")] {
            let line = |bytes: usize| format!("{verb}{}", " ".repeat(bytes - verb.len()));
            let whole = line(LINE_BYTES_MAX + 1 - tail.len()) + tail;
            let (step, used) = Decoder::default().step(whole.as_bytes());
            assert!(matches!(step, Step::Request(_)), "{step:?}");
            assert_eq!(used, whole.len());
            let long = line(LINE_BYTES_MAX + 1) + tail;
            assert_eq!(Decoder::default().step(long.as_bytes()), (Step::Hopeless, 0));
            let cut = line(LINE_BYTES_MAX);
            let wants = Step::Incomplete { bytes_min: LINE_BYTES_MAX + 1 };
            assert_eq!(Decoder::default().step(cut.as_bytes()), (wants, 0));
        }
    }

    #[test]
    fn every_line_of_known_flags_is_a_request() {
        for verb in ["mg", "md", "ma"] {
            for flags in ["", " v", " O k q", " T1 N2 R3 C4 E5 F6 J7 D8 MI"] {
                let input = format!("{verb} key{flags}\r\n");
                let (step, used) = Decoder::default().step(input.as_bytes());
                assert!(matches!(step, Step::Request(_)), "{input}: {step:?}");
                assert_eq!(used, input.len());
            }
        }
    }
}
