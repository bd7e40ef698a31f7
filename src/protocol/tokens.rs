//! Where words and numbers are found in bytes: the only place that scans them.

use super::VALUE_BYTES_MAX;

/// The place of the next space or LF at or after `from`; `None` when the input ends first. Other control bytes are
/// parts of words.
#[inline]
pub(super) fn word_end(input: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += first_control(input.get(at..)?)?;
        if matches!(input[at], b' ' | b'\n') {
            return Some(at);
        }
        at += 1;
    }
}

/// The word at the head of `input`, and whether it is the last of its line, where it has no control bytes and one space
/// or CRLF behind it. `None` for all else.
#[inline(always)]
pub(super) fn plain_word(input: &[u8]) -> Option<(&[u8], bool)> {
    let (word, rest) = input.split_at(first_control(input)?);
    match rest {
        [b' ', ..] => Some((word, false)),
        [b'\r', b'\n', ..] => Some((word, true)),
        _ => None,
    }
}

/// The place of the first byte of up to 0x20.
///
/// Eight bytes at a time: keys are short, and a call into a vectored search costs more than it saves there. The
/// carry-free test of Hacker's Delight, section 6-1, is exact for the first byte it reports.
#[inline(always)]
fn first_control(input: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut rest = input;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let bytes = u64::from_le_bytes(*chunk);
        let low = bytes.wrapping_sub(ONES * 0x21) & !bytes & HIGHS;
        if low != 0 {
            return Some(input.len() - rest.len() + (low.trailing_zeros() / 8) as usize);
        }
        rest = after;
    }
    rest.iter().position(|&byte| byte <= b' ').map(|found| input.len() - rest.len() + found)
}

/// The words of one line, which has no LF: runs of anything but spaces.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a [u8]) -> Words<'a> {
        Words { rest: line }
    }

    /// What no word was taken of yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The last word, if any is left.
    pub fn last_word(&self) -> Option<&'a [u8]> {
        let end = self.rest.iter().rposition(|&byte| byte != b' ')? + 1;
        let start = self.rest[..end].iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
        Some(&self.rest[start..end])
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let end = word_end(self.rest, 0).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// A number of decimal digits only, at most `u64::MAX`.
#[inline]
pub fn unsigned(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A decimal number with an optional sign.
#[inline(always)]
pub fn signed(word: &[u8]) -> Option<i64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let size = unsigned(digits)?;
    if negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
}

/// A decimal number with an optional sign that fits 32 bits: what an exptime of the meta commands may be.
#[inline(always)]
pub(super) fn exptime(word: &[u8]) -> Option<i64> {
    signed(word).filter(|&number| i32::try_from(number).is_ok())
}

/// An exptime of the classic commands: a decimal number that fits 64 bits, of which the lower 32 count, as in memcached.
/// libmemcached relies on it: it sends "expired" as 4294967295, which is -1 so.
#[inline(always)]
pub fn cut_exptime(word: &[u8]) -> Option<i32> {
    signed(word).map(|number| number as i32)
}

/// Client flags of the classic commands: a decimal number that fits 64 bits, of which the lower 32 count, as in memcached.
#[inline(always)]
pub(super) fn cut_flags(word: &[u8]) -> Option<u32> {
    unsigned(word.strip_prefix(b"+").unwrap_or(word)).map(|number| number as u32)
}

/// How long a value is announced to be, in bytes: at most [`VALUE_BYTES_MAX`].
#[inline(always)]
pub(super) fn value_bytes(word: &[u8]) -> Option<u32> {
    unsigned(word).and_then(|bytes| u32::try_from(bytes).ok()).filter(|&bytes| bytes <= VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive_word_end(input: &[u8], from: usize) -> Option<usize> {
        (from..input.len()).find(|&at| input[at] == b' ' || input[at] == b'\n')
    }

    #[test]
    fn word_ends_are_those_of_the_naive_scan() {
        let bytes = [b'a', b'\t', b'\r', 0, 0x1f, b' ', b'!', 0x80, 0xa0, 0xff, b'\n'];
        let mut random = fastrand::Rng::with_seed(7);
        for length in 0..64 {
            for _ in 0..50 {
                let input: Vec<u8> = (0..length)
                    .map(|_| {
                        // Mostly letters, so that runs of several words of eight bytes occur.
                        if random.u8(..16) < 13 { b'k' } else { bytes[random.usize(..bytes.len())] }
                    })
                    .collect();
                for from in 0..=length {
                    assert_eq!(word_end(&input, from), naive_word_end(&input, from), "{input:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn words_are_split_at_spaces_only() {
        let words: Vec<&[u8]> = Words::new(b"  set\ta  k\x00  1 ").collect();
        assert_eq!(words, [&b"set\ta"[..], b"k\x00", b"1"]);
        assert_eq!(Words::new(b"a b  ").last_word(), Some(&b"b"[..]));
        assert_eq!(Words::new(b"   ").last_word(), None);
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for refused in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1a", b" 1"] {
            assert_eq!(unsigned(refused), None);
        }
        assert_eq!(signed(b"-5"), Some(-5));
        assert_eq!(signed(b"+5"), Some(5));
        assert_eq!(signed(b"--5"), None);
        assert_eq!(exptime(b"2147483648"), None);
        assert_eq!(exptime(b"-2147483648"), Some(-2_147_483_648));
        for (text, cut) in [
            ("4294967295", Some(-1)),
            ("4294967296", Some(0)),
            ("-2147483649", Some(i32::MAX)),
            ("9223372036854775807", Some(-1)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(0)),
            ("-9223372036854775809", None),
        ] {
            assert_eq!(cut_exptime(text.as_bytes()), cut, "{text}");
        }
        assert_eq!(cut_flags(b"+4294967295"), Some(u32::MAX));
        assert_eq!(cut_flags(b"4294967296"), Some(0));
        assert_eq!(cut_flags(b"18446744073709551616"), None);
        assert_eq!(cut_flags(b"-1"), None);
    }
}
