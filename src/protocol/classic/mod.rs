//! The classic text commands, from bytes to requests.
//!
//! Where memcached's releases differ, this follows the parser of 1.6.40 and later (specific errors, refused
//! values swallowed, further words at the end of a line ignored) and accepts what either accepts.
//!
//! A retrieval of up to [`LINE_BYTES_MAX`] bytes is begun when all of it is there, so that nothing is done for one that has
//! to be refused. A longer one is taken key by key as it arrives, and is never held.

mod replies;

use super::reply;
use super::tokens::{Words, cut_exptime, cut_flags, plain_word, unsigned, value_bytes, word_end};
use super::{
    Count, Delete, Exptime, Fetch, KEY_BYTES_MAX, LINE_BYTES_MAX, Mode, Put, PutMode, Request, Step, Style,
    Touch, meta,
};

/// A shorter line, its end included, is not looked at for a command, in bytes; but `mn` may end in LF alone. Source:
/// memcached.
const COMMAND_BYTES_MIN: usize = 4;

/// What the keys of a retrieval line are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retrieval {
    with_cas: bool,
    exptime: WantedExptime,
    any_key: bool,
}

/// The exptime of `gat`, which is the first word of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedExptime {
    /// Not a `gat`.
    Keep,
    /// Still to come.
    Awaited,
    /// This one.
    Set(Exptime),
    /// It was no number; the client is told as soon as a key shows the line to be long enough.
    Invalid,
}

/// The next key of a `get` written as clients write it: one space before it, a space or CRLF behind. `None`, and
/// nothing done, for everything else, which [`line()`] and [`keys`] decode as well as this.
#[inline(always)]
pub(super) fn plain_key<'a>(mode: &mut Mode, input: &'a [u8]) -> Option<(Fetch<'a>, usize)> {
    const GET: Retrieval = Retrieval { with_cas: false, exptime: WantedExptime::Keep, any_key: true };
    let start = match mode {
        Mode::Line if input.starts_with(b"get ") => 4,
        Mode::Keys(retrieval) if *retrieval == GET && input.starts_with(b" ") => 1,
        _ => return None,
    };
    let (key, is_last) = plain_word(&input[start..])?;
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return None;
    }
    if start == 4 && !is_last && retrieval_line(input, 0) != RetrievalLine::Sound {
        return None;
    }
    *mode = if is_last { Mode::Line } else { Mode::Keys(GET) };
    let fetch = Fetch { key, with_cas: false, exptime: None, is_last, style: Style::Classic };
    Some((fetch, start + key.len() + if is_last { 2 } else { 0 }))
}

/// One step at the start of a line.
pub(super) fn line<'a>(mode: &mut Mode, input: &'a [u8]) -> (Step<'a>, usize) {
    let spaces = input.iter().position(|&byte| byte != b' ').unwrap_or(input.len());
    // They all begin so: nothing else is compared with each.
    if input.get(spaces) == Some(&b'g') {
        for (verb, with_cas, exptime) in [
            (&b"get "[..], false, WantedExptime::Keep),
            (b"gets ", true, WantedExptime::Keep),
            (b"gat ", false, WantedExptime::Awaited),
            (b"gats ", true, WantedExptime::Awaited),
        ] {
            if spaces + verb.len() <= LINE_BYTES_MAX + 1 && input[spaces..].starts_with(verb) {
                return begin_keys(
                    mode,
                    input,
                    spaces,
                    verb.len(),
                    Retrieval { with_cas, exptime, any_key: false },
                );
            }
        }
    }
    match whole_line(input) {
        Ok((text, used)) => command(mode, text, &input[used..], used),
        Err(step) => (step, 0),
    }
}

/// The line at the head of `input` without its end, and how many bytes it takes with it.
#[inline]
fn whole_line<'a>(input: &'a [u8]) -> Result<(&'a [u8], usize), Step<'a>> {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE_BYTES_MAX + 1)]) else {
        if input.len() > LINE_BYTES_MAX {
            return Err(Step::Hopeless);
        }
        return Err(Step::Incomplete { bytes_min: input.len() + 1 });
    };
    Ok((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), end + 1))
}

/// What stands at the start of a retrieval line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetrievalLine {
    /// It is not whole, and may become so within [`LINE_BYTES_MAX`].
    Cut,
    /// It is whole, and so many bytes long with its LF; it has a word that is longer than a key may be.
    WordTooLong(usize),
    /// All its words are short enough; or it is so long that it is not looked through.
    Sound,
}

/// What the line at the head of `input` is, which has a word right behind `spaces`.
#[inline(never)] // a get of one key needs none of it
fn retrieval_line(input: &[u8], spaces: usize) -> RetrievalLine {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE_BYTES_MAX + 1)]) else {
        return if input.len() > LINE_BYTES_MAX { RetrievalLine::Sound } else { RetrievalLine::Cut };
    };
    let text = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    // From space to space, each time to the last one that a key could end at: a few steps for dozens of keys.
    let mut at = spaces;
    while text.len() - at > KEY_BYTES_MAX {
        match text[at..at + KEY_BYTES_MAX + 1].iter().rposition(|&byte| byte == b' ') {
            Some(space) => at += space + 1,
            None => return RetrievalLine::WordTooLong(end + 1),
        }
    }
    RetrievalLine::Sound
}

/// The first step of the retrieval line at the head of `input`, whose verb of `verb_bytes` comes behind `spaces`.
fn begin_keys<'a>(
    mode: &mut Mode,
    input: &'a [u8],
    spaces: usize,
    verb_bytes: usize,
    retrieval: Retrieval,
) -> (Step<'a>, usize) {
    let used = spaces + verb_bytes;
    match retrieval_line(input, spaces) {
        RetrievalLine::Cut => (Step::Incomplete { bytes_min: input.len() + 1 }, 0),
        RetrievalLine::Sound => {
            let (step, more) = keys(mode, retrieval, &input[used..]);
            (step, used + more)
        }
        RetrievalLine::WordTooLong(line_bytes) => {
            let (mut inner, mut at, mut said) = (Mode::Keys(retrieval), used, reply::BAD_LINE);
            // Up to that word, to say what is wrong: nothing is done for the keys before it.
            while let Mode::Keys(retrieval) = inner {
                let (step, more) = keys(&mut inner, retrieval, &input[at..line_bytes]);
                at += more;
                if let Step::Say(words) = step {
                    said = words;
                }
            }
            (Step::Say(said), line_bytes)
        }
    }
}

/// One step within a retrieval line: its next key, or its end.
pub(super) fn keys<'a>(mode: &mut Mode, mut retrieval: Retrieval, input: &'a [u8]) -> (Step<'a>, usize) {
    let mut at = 0;
    loop {
        while input.get(at) == Some(&b' ') {
            at += 1;
        }
        let Some(end) = word_end(input, at) else {
            *mode = Mode::Keys(retrieval);
            // A CR may still turn out to be a part of the line's end rather than of the key.
            if input.len() - at > KEY_BYTES_MAX + 1 {
                *mode = Mode::RefusedLine;
                let awaited = retrieval.exptime == WantedExptime::Awaited;
                return (Step::Say(if awaited { reply::BAD_EXPTIME } else { reply::BAD_LINE }), at);
            }
            return (Step::Incomplete { bytes_min: input.len() - at + 1 }, at);
        };
        let word = &input[at..end];
        let word = if input[end] == b'\n' { word.strip_suffix(b"\r").unwrap_or(word) } else { word };
        if word.is_empty() {
            *mode = Mode::Line;
            return (Step::Say(if retrieval.any_key { reply::END } else { reply::BAD_LINE }), end + 1);
        }
        if retrieval.exptime == WantedExptime::Awaited {
            if word.len() > KEY_BYTES_MAX {
                *mode = Mode::RefusedLine;
                return (Step::Say(reply::BAD_EXPTIME), at);
            }
            let exptime = cut_exptime(word).map(Exptime::signed);
            retrieval.exptime = exptime.map_or(WantedExptime::Invalid, WantedExptime::Set);
            at += word.len();
            continue;
        }
        if word.len() > KEY_BYTES_MAX || retrieval.exptime == WantedExptime::Invalid {
            *mode = Mode::RefusedLine;
            let too_long = word.len() > KEY_BYTES_MAX;
            return (Step::Say(if too_long { reply::BAD_LINE } else { reply::BAD_EXPTIME }), at);
        }
        let is_last = input[end] == b'\n';
        retrieval.any_key = true;
        *mode = if is_last { Mode::Line } else { Mode::Keys(retrieval) };
        let exptime = if let WantedExptime::Set(exptime) = retrieval.exptime { Some(exptime) } else { None };
        let fetch =
            Fetch { key: word, with_cas: retrieval.with_cas, exptime, is_last, style: Style::Classic };
        return (Step::Request(Request::Fetch(fetch)), end + usize::from(is_last));
    }
}

/// A whole line that is no retrieval; `after` is the input behind it, of which a value may take a part.
fn command<'a>(mode: &mut Mode, text: &'a [u8], after: &'a [u8], line_bytes: usize) -> (Step<'a>, usize) {
    let mut words = Words::new(text);
    let Some(verb) = words.next() else { return (Step::Say(reply::BAD_LINE), line_bytes) };
    let (put_mode, compares) = match verb {
        b"set" => (PutMode::Set, false),
        b"add" => (PutMode::Add, false),
        b"replace" => (PutMode::Replace, false),
        b"append" => (PutMode::Append, false),
        b"prepend" => (PutMode::Prepend, false),
        b"cas" => (PutMode::Set, true),
        b"incr" => return (count(words, false), line_bytes),
        b"decr" => return (count(words, true), line_bytes),
        b"touch" => return (touch(words), line_bytes),
        b"delete" => return (delete(words), line_bytes),
        b"ms" => return meta::put(mode, words, after, line_bytes),
        b"mg" => return (meta::fetch(words), line_bytes),
        b"md" => return (meta::delete(words), line_bytes),
        b"ma" => return (meta::count(words), line_bytes),
        // The forms with a space behind were taken as retrievals: these have no key.
        b"get" | b"gets" | b"gat" | b"gats" => return (Step::Say(reply::BAD_LINE), line_bytes),
        _ if line_bytes < COMMAND_BYTES_MIN && verb != b"mn" => {
            return (Step::Say(reply::BAD_LINE), line_bytes);
        }
        _ => return (Step::Request(Request::Admin { line: text }), line_bytes),
    };
    put(mode, put_mode, compares, words, after, line_bytes)
}

#[inline(always)]
fn put<'a>(
    mode: &mut Mode,
    put_mode: PutMode,
    compares: bool,
    mut words: Words<'a>,
    after: &'a [u8],
    line_bytes: usize,
) -> (Step<'a>, usize) {
    let all = words.clone();
    let (Some(key), Some(flags), Some(exptime), Some(length)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return (refuse(is_quiet(&all), reply::BAD_LINE), line_bytes);
    };
    let Some(value_bytes) = value_bytes(length) else {
        return (refuse(is_quiet(&all), reply::BAD_LINE), line_bytes);
    };
    let cas = if compares { words.next().and_then(unsigned) } else { Some(0) };
    let quiet = is_quiet(&words);
    let (Some(cas), Some(flags), Some(exptime), 1..=KEY_BYTES_MAX) =
        (cas, cut_flags(flags), cut_exptime(exptime), key.len())
    else {
        *mode = Mode::RefusedValue(u64::from(value_bytes) + 2);
        return (refuse(is_quiet(&all), reply::BAD_LINE), line_bytes);
    };
    let style = Style::Classic;
    let exptime = Exptime::signed(exptime);
    let put =
        Put { mode: put_mode, key, flags, exptime, value: None, value_bytes, compares, cas, quiet, style };
    put.with_value(after, line_bytes)
}

fn count<'a>(mut words: Words<'a>, down: bool) -> Step<'a> {
    let all = words.clone();
    let (Some(key), Some(delta)) = (words.next(), words.next()) else {
        return refuse(is_quiet(&all), reply::BAD_LINE);
    };
    let quiet = is_quiet(&words);
    if key.len() > KEY_BYTES_MAX {
        return refuse(quiet, reply::BAD_LINE);
    }
    let Some(delta) = unsigned(delta) else { return refuse(is_quiet(&all), reply::BAD_DELTA) };
    let style = Style::Classic;
    Step::Request(Request::Count(Count { key, delta, down, cas: 0, created: None, quiet, style }))
}

fn touch<'a>(mut words: Words<'a>) -> Step<'a> {
    let all = words.clone();
    let (Some(key), Some(when)) = (words.next(), words.next()) else {
        return refuse(is_quiet(&all), reply::BAD_LINE);
    };
    let quiet = is_quiet(&words);
    if key.len() > KEY_BYTES_MAX {
        return refuse(quiet, reply::BAD_LINE);
    }
    let Some(exptime) = cut_exptime(when) else { return refuse(is_quiet(&all), reply::BAD_EXPTIME) };
    Step::Request(Request::Touch(Touch { key, exptime: Exptime::signed(exptime), quiet }))
}

fn delete<'a>(mut words: Words<'a>) -> Step<'a> {
    let Some(key) = words.next() else { return Step::Say(reply::BAD_LINE) };
    let quiet = is_quiet(&words);
    if key.len() > KEY_BYTES_MAX {
        return refuse(quiet, reply::BAD_LINE);
    }
    Step::Request(Request::Delete(Delete { key, cas: None, quiet, style: Style::Classic }))
}

/// Whether the last of the words that are left asks for silence.
#[inline(always)]
fn is_quiet(rest: &Words<'_>) -> bool {
    !rest.rest().is_empty() && rest.last_word() == Some(b"noreply")
}

fn refuse<'a>(quiet: bool, words: &'static [u8]) -> Step<'a> {
    Step::Say(if quiet { b"" } else { words })
}

#[cfg(test)]
mod tests {
    use crate::protocol::{Decoder, Request, Step, reply};

    #[test]
    fn a_retrieval_of_a_word_too_long_is_refused_as_a_whole_if_its_line_is_held() {
        let long = "0".repeat(251);
        for (line, expected) in [
            (format!("get a {long}"), reply::BAD_LINE),
            (format!("gets a {long} b"), reply::BAD_LINE),
            (format!("  get {long}"), reply::BAD_LINE),
            (format!("gat {long} a"), reply::BAD_EXPTIME),
            (format!("gat x a {long}"), reply::BAD_EXPTIME),
            (format!("gats 1 a {long}"), reply::BAD_LINE),
            (format!("gat {long}"), reply::BAD_EXPTIME),
        ] {
            for end in ["\r\n", "\n", " \r\n"] {
                let input = format!("{line}{end}version\r\n");
                let whole = line.len() + end.len();
                for cut in 0..whole {
                    let mut decoder = Decoder::default();
                    let (step, used) = decoder.step(&input.as_bytes()[..cut]);
                    assert!(
                        matches!(step, Step::Incomplete { .. }) && used == 0,
                        "{line} cut at {cut}: {step:?}"
                    );
                }
                let mut decoder = Decoder::default();
                assert_eq!(decoder.step(input.as_bytes()), (Step::Say(expected), whole), "{line}");
                assert!(matches!(decoder.step(&input.as_bytes()[whole..]).0, Step::Request(_)), "{line}");
            }
        }
    }

    #[test]
    fn plain_keys_are_decoded_as_any_others() {
        let lines = [
            "mg k v\r\n",
            "mg k\r\n",
            "mg k \r\n",
            "mg k v\n",
            "mg k v t\r\n",
            "mg k v v\r\n",
            "mg k T1 b\r\n",
            "get k\r\n",
            "get  k\r\n",
            "get k \r\n",
            "get k\n",
            "get kk l  m\r\n",
            "gets k\r\n",
            "get \r\n",
        ];
        let long = format!("get {} {}\r\nget {}\r\n", "k".repeat(250), "l".repeat(250), "m".repeat(251));
        let mut plain_ones = 0;
        for first in lines.iter().chain([&&long[..]]) {
            for second in lines {
                let input = format!("{first}{second}");
                for end in 0..=input.len() {
                    let (mut decoder, mut at) = (Decoder::default(), 0);
                    loop {
                        let input = &input.as_bytes()[at..end];
                        let mut other = decoder;
                        let plain = other.plain_fetch(input);
                        let (step, used) = decoder.step(input);
                        if let Some((fetch, plain_used)) = plain {
                            assert_eq!((Step::Request(Request::Fetch(fetch)), plain_used), (step, used));
                            assert_eq!(other, decoder);
                            plain_ones += 1;
                        }
                        at += used;
                        if !matches!(step, Step::Request(_) | Step::Say(_)) {
                            break;
                        }
                    }
                }
            }
        }
        assert!(plain_ones > 1000);
    }
}
