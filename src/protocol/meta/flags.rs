//! The flags of meta requests: which there are, what may be glued to each, and what is said of wrong ones.

use super::super::replies::reply;
use super::super::tokens::{Words, exptime, unsigned};

/// The most words on a meta line, flags and all. Source: memcached (`MFLAG_MAX_OPT_LENGTH`).
const LINE_WORDS_MAX: usize = 20;
/// The longest opaque, its letter included, in bytes. Source: memcached (`MFLAG_MAX_OPAQUE_LENGTH`).
const OPAQUE_BYTES_MAX: usize = 32;

/// The flags that memcached knows; a request may have any, whether they mean something to it or not.
const KNOWN: &[u8] = b"bcfhklqstuvxCDEFIJLMNOPRT";

/// For the low six bits of each known letter, which tell it from all others, a bit of its own.
const BITS: [u32; 64] = {
    let mut bits = [0; 64];
    let mut at = 0;
    while at < KNOWN.len() {
        bits[(KNOWN[at] & 63) as usize] = 1 << at;
        at += 1;
    }
    bits
};

/// A set of flag letters, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters(u32);

impl Letters {
    /// Those whose arguments are looked at by the decoder.
    const WITH_ARGUMENT: Letters = Letters::of(b"CDEFJNORT");

    /// Those that say all by being there, but for `b`.
    const PLAIN: Letters = Letters::of(b"cfhklqstuvx");

    /// The set of these letters, each of them known.
    pub const fn of(letters: &[u8]) -> Letters {
        let mut bits = 0;
        let mut at = 0;
        while at < letters.len() {
            assert!(Letters::bit(letters[at]) != 0, "no request has such a flag");
            bits |= Letters::bit(letters[at]);
            at += 1;
        }
        Letters(bits)
    }

    /// The bit of an ASCII letter; 0 if it is not known.
    const fn bit(letter: u8) -> u32 {
        BITS[(letter & 63) as usize]
    }

    #[inline]
    pub(super) const fn has(self, letter: u8) -> bool {
        self.0 & Letters::bit(letter) != 0
    }
}

/// The flags of a meta request, in the order the client gave them. The decoder has found them right: none comes
/// twice, and what has to be a number is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags<'a> {
    text: &'a [u8],
    letters: Letters,
    /// Whether the key came in base64, and was decoded since. No letter, because a `bool` has room for the other kinds of
    /// `Style`, which so stays as short as this: a batch holds 64 of them.
    is_key_decoded: bool,
}

impl<'a> Flags<'a> {
    /// The flags in `text`, before which the line has `words` words.
    ///
    /// # Errors
    /// What the client is told, if a flag is wrong.
    #[inline]
    pub(super) fn parse(text: &'a [u8], words: usize) -> Result<Flags<'a>, &'static [u8]> {
        let mut letters = Letters::default();
        let mut count = words;
        for word in Words::new(text) {
            let letter = word[0];
            let is_known = letter.is_ascii_alphabetic() && Letters::bit(letter) != 0;
            count += 1;
            if !is_known || letters.has(letter) || count > LINE_WORDS_MAX {
                return Err(fault(text, words, letter, is_known));
            }
            letters.0 |= Letters::bit(letter);
            if Letters::WITH_ARGUMENT.has(letter)
                && let Some(wrong) = argument_fault(letter, &word[1..])
            {
                return Err(if is_too_long(text, words) { reply::TOO_MANY_FLAGS } else { wrong });
            }
        }
        Ok(Flags { text, letters, is_key_decoded: false })
    }

    /// The flags at the head of `input`, where each is a letter that wants no argument and is no `b`, one space goes
    /// before each, and CRLF ends them: as most clients ask. `None` for all else, which `parse` takes as well.
    #[inline(always)]
    pub(super) fn plain(input: &'a [u8]) -> Option<Flags<'a>> {
        let mut letters = Letters::default();
        let mut at = 0;
        while let [b' ', letter, b' ' | b'\r', ..] = input[at..] {
            if !letter.is_ascii_lowercase() || !Letters::PLAIN.has(letter) || letters.has(letter) {
                return None;
            }
            letters.0 |= Letters::bit(letter);
            at += 2;
        }
        input[at..].starts_with(b"\r\n").then_some(Flags {
            text: &input[..at],
            letters,
            is_key_decoded: false,
        })
    }

    /// Whether the key of the request is to be decoded before it is looked up.
    #[inline]
    pub fn has_encoded_key(self) -> bool {
        self.has(b'b') && !self.is_key_decoded
    }

    /// The same flags, of a request whose key was decoded if it came in base64.
    #[must_use]
    pub fn with_decoded_key(self) -> Flags<'a> {
        Flags { is_key_decoded: true, ..self }
    }

    /// How many bytes they take on their line.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.text.len()
    }

    /// Whether there is a flag `letter`.
    #[inline]
    pub fn has(self, letter: u8) -> bool {
        self.letters.has(letter)
    }

    /// Whether any of `letters` is there.
    #[inline]
    pub fn has_any(self, letters: Letters) -> bool {
        self.letters.0 & letters.0 != 0
    }

    /// Every flag: its letter, and the whole word.
    #[inline]
    pub fn each(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        Words::new(self.text).map(|word| (word[0], word))
    }

    /// The number glued to `C`, `E`, `D`, `F` or `J`, if that flag is there.
    #[inline]
    pub fn number(self, letter: u8) -> Option<u64> {
        unsigned(self.argument(letter)?)
    }

    /// The exptime glued to `T`, `N` or `R`, if that flag is there.
    #[inline]
    pub fn exptime(self, letter: u8) -> Option<i64> {
        exptime(self.argument(letter)?)
    }

    /// The letter glued to `M`, if that flag is there.
    pub(super) fn mode(self) -> Option<u8> {
        self.argument(b'M').map(|argument| argument.first().copied().unwrap_or(b' '))
    }

    /// Whether both are there, `first` before `second`.
    pub fn has_in_order(self, first: u8, second: u8) -> bool {
        let place = |letter| self.each().position(|(other, _)| other == letter);
        self.has(first) && self.has(second) && place(first) < place(second)
    }

    #[inline]
    fn argument(self, letter: u8) -> Option<&'a [u8]> {
        if !self.has(letter) {
            return None;
        }
        self.each().find(|&(other, _)| other == letter).map(|(_, word)| &word[1..])
    }
}

/// The error of a flag that begins with `letter`, where it is unknown, comes twice, or is one too many.
#[cold]
fn fault(text: &[u8], words: usize, letter: u8, is_known: bool) -> &'static [u8] {
    if is_too_long(text, words) {
        reply::TOO_MANY_FLAGS
    } else if is_known || letter >= 127 {
        // memcached has no room to remember letters from 127 on, and takes them for seen.
        reply::DUPLICATE_FLAG
    } else {
        reply::INVALID_FLAG
    }
}

fn is_too_long(text: &[u8], words: usize) -> bool {
    words + Words::new(text).count() > LINE_WORDS_MAX
}

fn argument_fault(letter: u8, argument: &[u8]) -> Option<&'static [u8]> {
    let (is_right, words) = match letter {
        b'T' | b'N' | b'R' => (exptime(argument).is_some(), reply::BAD_TOKEN),
        b'C' | b'E' => (unsigned(argument).is_some(), reply::BAD_TOKEN),
        b'F' => (unsigned(argument).is_some_and(|flags| u32::try_from(flags).is_ok()), reply::BAD_LINE),
        b'J' => (unsigned(argument).is_some(), reply::BAD_INITIAL),
        b'D' => (unsigned(argument).is_some(), reply::BAD_META_DELTA),
        b'O' => (argument.len() < OPAQUE_BYTES_MAX, reply::OPAQUE_TOO_LONG),
        _ => (true, reply::INVALID_FLAG),
    };
    (!is_right).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &[u8]>) {
        let parsed = Flags::parse(text.as_bytes(), 2);
        let letters =
            parsed.map(|flags| flags.each().map(|(letter, _)| char::from(letter)).collect::<String>());
        assert_eq!(letters.as_deref().map_err(|words| *words), expected, "{text}");
    }

    #[test]
    fn known_letters_are_flags_whatever_is_glued_to_those_without_an_argument() {
        check("", Ok(""));
        check("  v  T30 O k  x1 ", Ok("vTOkx"));
        check("b c f h k l q s t u v x", Ok("bcfhklqstuvx"));
        check("C1 D2 E3 F4 I J5 Lany M P N6 O R7 T-8", Ok("CDEFIJLMPNORT"));
        check("vfoo k1", Ok("vk"));
    }

    #[test]
    fn every_other_byte_is_no_flag() {
        for byte in 0..=255u8 {
            if matches!(byte, b' ' | b'\n') {
                continue;
            }
            let text = [byte, b'1'];
            let expected = match byte {
                127.. => Err(reply::DUPLICATE_FLAG),
                _ if b"bcfhklqstuvxCDEFIJLMNOPRT".contains(&byte) => Ok(()),
                _ => Err(reply::INVALID_FLAG),
            };
            assert_eq!(Flags::parse(&text, 2).map(drop), expected, "{byte}");
        }
    }

    #[test]
    fn wrong_arguments_have_words_of_their_own() {
        for letter in ["T", "N", "R", "C", "E"] {
            for argument in ["", "x", "1x", "99999999999999999999"] {
                check(&format!("{letter}{argument}"), Err(reply::BAD_TOKEN));
            }
        }
        check("T2147483648", Err(reply::BAD_TOKEN));
        check("C-1", Err(reply::BAD_TOKEN));
        check("F4294967296", Err(reply::BAD_LINE));
        check("J", Err(reply::BAD_INITIAL));
        check("D-1", Err(reply::BAD_META_DELTA));
    }

    #[test]
    fn an_opaque_has_at_most_32_bytes_with_its_letter() {
        check(&format!("O{}", "o".repeat(31)), Ok("O"));
        check(&format!("O{}", "o".repeat(32)), Err(reply::OPAQUE_TOO_LONG));
    }

    #[test]
    fn a_line_has_at_most_20_words_and_that_is_said_first() {
        let all = "b c f h k l q s t u v x I L M O P C1";
        check(all, Ok("bcfhklqstuvxILMOPC"));
        check(&format!("{all} D1"), Err(reply::TOO_MANY_FLAGS));
        check(&format!("v v {all}"), Err(reply::TOO_MANY_FLAGS));
        check(&format!("Tx {all} D1"), Err(reply::TOO_MANY_FLAGS));
    }

    #[test]
    fn plain_flags_are_what_parse_makes_of_them() {
        for text in ["", " v", " k v", " s v t f c k h l q u x"] {
            let line = format!("{text}\r\nmg k");
            assert_eq!(Flags::plain(line.as_bytes()), Flags::parse(text.as_bytes(), 2).ok(), "{text}");
        }
        for other in [" v", " v\n", " v \r\n", "  v\r\n", " v v\r\n", " b\r\n", " T1\r\n", " I\r\n", " v\r"] {
            assert_eq!(Flags::plain(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_key_is_decoded_once() {
        let flags = Flags::parse(b"b v", 2).unwrap();
        assert!(flags.has_encoded_key() && flags.has(b'b'));
        let decoded = flags.with_decoded_key();
        assert!(!decoded.has_encoded_key() && decoded.has(b'b') && decoded.has(b'v'));
        assert!(decoded.each().eq(flags.each()));
        let plain = Flags::parse(b"v", 2).unwrap();
        assert!(!plain.has_encoded_key() && !plain.with_decoded_key().has_encoded_key());
        assert_eq!(Letters::of(KNOWN).0.count_ones() as usize, KNOWN.len(), "each has its own bit");
    }

    #[test]
    fn a_flag_may_come_once() {
        check("v v", Err(reply::DUPLICATE_FLAG));
        check("t T1 t", Err(reply::DUPLICATE_FLAG));
        check("z z", Err(reply::INVALID_FLAG));
    }

    #[test]
    fn arguments_and_order_can_be_asked_for() {
        let flags = Flags::parse(b"T30 v C5 N-1", 2).unwrap();
        assert_eq!(
            (flags.exptime(b'T'), flags.exptime(b'N'), flags.exptime(b'R')),
            (Some(30), Some(-1), None)
        );
        assert_eq!((flags.number(b'C'), flags.number(b'E')), (Some(5), None));
        assert!(flags.has_in_order(b'T', b'N') && !flags.has_in_order(b'N', b'T'));
        assert!(!flags.has_in_order(b'T', b'R') && !flags.has_in_order(b'R', b'T'));
    }
}
