//! The decoder on whatever bytes come, at once and in pieces.
//!
//! What it makes of a connection's input must not depend on how the input was cut, must get on with every step, and
//! must be within the bounds that the floors above rely on.

use ferrocached::protocol::{
    Control, Decoder, Flags, KEY_BYTES_MAX, KeyBuffer, LINE_BYTES_MAX, Put, Request, Step, Style,
    VALUE_BYTES_MAX, decode_key, encode_key,
};
use ferrocached::settings::Protocol;

/// Values that are announced to be longer than this are refused, as a server does with those above `-I`.
const VALUE_ACCEPTED_BYTES_MAX: u32 = 300;
/// How many words may stand on a meta line. Source: memcached's `MFLAG_MAX_OPT_LENGTH`.
const META_WORDS_MAX: usize = 20;
/// How long an opaque may be, with its letter, in bytes. Source: memcached's `MFLAG_MAX_OPAQUE_LENGTH`.
const OPAQUE_BYTES_MAX: usize = 32;

/// How long the data of a step of a SASL login may be, in bytes.
const LOGIN_BYTES_MAX: usize = 16 << 10;
/// The longest input that a packet other than a store waits for, in bytes: header, mechanism and data.
const PACKET_BYTES_MAX: usize = 24 + 32 + LOGIN_BYTES_MAX;

/// Two bytes say how long pieces are; what is behind them is a connection's input as it is.
pub(super) fn classic(data: &[u8]) {
    let [odd, even, input @ ..] = data else { return };
    check(input, [*odd, *even], Protocol::Auto);
}

/// Two bytes say how long pieces are; what is behind them is the input of a connection that speaks the binary protocol.
pub(super) fn binary(data: &[u8]) {
    let [odd, even, input @ ..] = data else { return };
    check(input, [*odd, *even], Protocol::Binary);
}

/// Two bytes say how long pieces are; behind them are lines, of which each begins with a byte that says which of the
/// meta commands it is for. Values are lines, too.
pub(super) fn meta(data: &[u8]) {
    let [odd, even, lines @ ..] = data else { return };
    let mut input = Vec::with_capacity(2 * lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let (first, rest) = line.split_first().expect("a line has a byte, be it the last");
        match first {
            b'G' => input.extend(b"mg "),
            b'S' => input.extend(b"ms "),
            b'D' => input.extend(b"md "),
            b'A' => input.extend(b"ma "),
            _ => input.push(*first),
        }
        input.extend(rest);
    }
    check(&input, [*odd, *even], Protocol::Ascii);
}

/// One step, and where it ended in the whole input.
type Taken<'a> = (Step<'a>, usize);

fn check(input: &[u8], lengths: [u8; 2], protocol: Protocol) {
    let whole = take(input, protocol, &mut [input.len()].into_iter());
    let mut pieces = lengths.into_iter().cycle().map(|length| 1 + usize::from(length));
    assert_eq!(whole, take(input, protocol, &mut pieces), "it depends on how the input was cut");
}

/// All steps that there are in `input` when it arrives in pieces of these lengths, with the decoder's last state.
fn take<'a>(
    input: &'a [u8],
    protocol: Protocol,
    lengths: &mut dyn Iterator<Item = usize>,
) -> (Vec<Taken<'a>>, Decoder) {
    let mut decoder = Decoder::new(protocol);
    let mut taken = Vec::new();
    let (mut at, mut arrived, mut awaited) = (0, 0, 0);
    loop {
        let before = decoder;
        let (step, used) = one_step(&mut decoder, &input[at..arrived]);
        assert!(used <= arrived - at, "{used} of {} bytes were used", arrived - at);
        let is_early = arrived - at < awaited;
        assert!(
            !is_early || decoder == before && used == 0,
            "it had asked for more, and yet something was done"
        );
        at += used;
        match step {
            Step::Request(request) => {
                check_request(&request);
                assert!(used > 0, "a request takes no bytes: {request:?}");
                match request {
                    Request::Put(put) if put.value_bytes > VALUE_ACCEPTED_BYTES_MAX => {
                        taken.push((refused(put), at));
                    }
                    _ => taken.push((step, at)),
                }
            }
            Step::Announced { put, bytes } => {
                assert_eq!((used, put.value), (0, None), "it will be decoded again");
                assert!(bytes > arrived - at, "the value is there");
                assert!(bytes - put.value_bytes as usize <= LINE_BYTES_MAX + 3, "{bytes}");
                check_request(&Request::Put(put));
                if put.value_bytes > VALUE_ACCEPTED_BYTES_MAX {
                    decoder.swallow(bytes);
                    taken.push((refused(put), at + bytes));
                    continue;
                }
                awaited = bytes;
            }
            // What is said at the end of something refused is nothing.
            Step::Say(b"") => assert!(used > 0, "nothing was said about nothing"),
            Step::Say(_) => {
                assert!(used > 0 || decoder != before, "the same will be said for ever");
                taken.push((step, at));
            }
            Step::Incomplete { bytes_min } => {
                let left = arrived - at;
                assert!(
                    left < bytes_min && bytes_min <= PACKET_BYTES_MAX.max(LINE_BYTES_MAX + 1),
                    "{left}, and {bytes_min} are wanted"
                );
                awaited = bytes_min;
            }
            Step::Hopeless => {
                taken.push((step, at));
                return (taken, decoder);
            }
        }
        if matches!(step, Step::Announced { .. } | Step::Incomplete { .. }) {
            if arrived == input.len() {
                return (taken, decoder);
            }
            let length = lengths.next().expect("there are more pieces while there is more input");
            arrived = (arrived + length).min(input.len());
        } else {
            awaited = 0;
        }
    }
}

/// One step; where there is a short way to take it, that must end in the same.
fn one_step<'a>(decoder: &mut Decoder, input: &'a [u8]) -> (Step<'a>, usize) {
    let mut other = *decoder;
    let before = *decoder;
    let plain = if other.is_at_packet() { other.plain_packet(input) } else { other.plain_fetch(input) };
    let (step, used) = decoder.step(input);
    match plain {
        Some((fetch, plain_used)) => {
            assert_eq!((Step::Request(Request::Fetch(fetch)), plain_used), (step, used));
            assert_eq!(other, *decoder);
        }
        None => assert_eq!(other, before, "nothing was found, and yet something was done"),
    }
    (step, used)
}

/// A refused request, the same whether its value had arrived or not.
fn refused(put: Put<'_>) -> Step<'_> {
    Step::Announced { put: Put { value: None, ..put }, bytes: 0 }
}

fn check_request(request: &Request<'_>) {
    let (key, style) = match request {
        Request::Fetch(fetch) => (fetch.key, fetch.style),
        Request::Put(put) => {
            assert!(put.value_bytes <= VALUE_BYTES_MAX);
            assert!(put.value.is_none_or(|value| value.len() == put.value_bytes as usize));
            (put.key, put.style)
        }
        Request::Count(count) => (count.key, count.style),
        Request::Touch(touch) => (touch.key, Style::Classic),
        Request::Delete(delete) => (delete.key, delete.style),
        Request::Admin { line } => {
            let has_word = line.iter().any(|byte| *byte != b' ');
            assert!(has_word && line.len() <= LINE_BYTES_MAX && !line.contains(&b'\n'), "{line:?}");
            return;
        }
        Request::Control { control, .. } => {
            match control {
                Control::Stat { words } => assert!(words.len() <= KEY_BYTES_MAX),
                Control::SaslAuth { mechanism, data } | Control::SaslStep { mechanism, data } => {
                    assert!((1..=32).contains(&mechanism.len()) && data.len() <= LOGIN_BYTES_MAX);
                }
                _ => {}
            }
            return;
        }
    };
    assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
    // A key of the binary protocol may be of any bytes.
    let is_word = !key.iter().any(|byte| matches!(byte, b' ' | b'\n'));
    assert!(is_word || matches!(style, Style::Binary(_)), "{key:?}");
    if let Style::Meta(flags) = style {
        check_flags(flags, key);
    }
}

/// What the engine takes for granted of flags.
fn check_flags(flags: Flags<'_>, key: &[u8]) {
    let mut seen = [false; 256];
    let mut words = 2;
    for (letter, word) in flags.each() {
        assert!(letter.is_ascii_alphabetic() && flags.has(letter), "{word:?}");
        assert!(!std::mem::replace(&mut seen[usize::from(letter)], true), "{letter} comes twice");
        match letter {
            b'C' | b'D' | b'E' | b'F' | b'J' => assert!(flags.number(letter).is_some(), "{word:?}"),
            b'N' | b'R' | b'T' => {
                let exptime = flags.exptime(letter).expect("it is a number");
                assert!(i32::try_from(exptime).is_ok(), "{word:?}");
            }
            b'O' => assert!(word.len() <= OPAQUE_BYTES_MAX, "{word:?}"),
            _ => {}
        }
        words += 1;
    }
    assert!(words <= META_WORDS_MAX, "{words} words");
    let mut buffer = KeyBuffer::new();
    let plain = flags.plain_key(key, &mut buffer);
    assert!((1..=KEY_BYTES_MAX).contains(&plain.len()), "a key of {} bytes", plain.len());
    if flags.has(b'b') {
        let mut again = KeyBuffer::new();
        let is_same = encode_key(plain, |text| decode_key(text, &mut again) == Some(plain));
        assert!(is_same, "{plain:?} does not come back");
    } else {
        assert_eq!(plain, key);
    }
}
