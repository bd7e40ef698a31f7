//! Inputs that were tampered with: each is a function of its seed and the inputs there are.

use std::collections::BTreeSet;

use fastrand::Rng;

/// The longest input, in bytes.
const INPUT_BYTES_MAX: usize = 4096;

/// The longest word of an input that is put into others, in bytes.
const WORD_BYTES_MAX: usize = 40;

/// How often an input is changed at most.
const CHANGES_MAX: u8 = 8;

/// Bytes and words at the limits of something.
const EDGES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b" ",
    b"\0",
    b"\t",
    b"-",
    b"+",
    b":",
    b",",
    b"=",
    b"{",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"-1",
    b"2048",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    &[b'k'; 251],
];

/// The mutations of some inputs.
#[derive(Clone)]
pub(crate) struct Mutations {
    inputs: Vec<Vec<u8>>,
    /// Every word that is in one of them.
    words: Vec<Vec<u8>>,
}

impl Mutations {
    /// Those of `inputs`, of which there is one at least.
    pub(crate) fn of(inputs: Vec<Vec<u8>>) -> Mutations {
        let is_between = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'));
        let words: BTreeSet<_> = inputs.iter().flat_map(|input| input.split(is_between)).collect();
        let words = words.into_iter().filter(|word| (1..=WORD_BYTES_MAX).contains(&word.len()));
        Mutations { words: words.map(<[u8]>::to_vec).collect(), inputs }
    }

    /// The mutation of this seed.
    pub(crate) fn draw(&self, seed: u64) -> Vec<u8> {
        let random = &mut Rng::with_seed(seed);
        let mut data = pick::<Vec<u8>>(random, &self.inputs).clone();
        for _ in 0..random.u8(1..=CHANGES_MAX) {
            self.change(&mut data, random);
        }
        data.truncate(INPUT_BYTES_MAX);
        data
    }

    fn change(&self, data: &mut Vec<u8>, random: &mut Rng) {
        let at = random.usize(..=data.len());
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n' | b':' | b',' | b'=' | b'\0');
        // As often behind the end of a word as within one.
        let end_of_word = data[at..].iter().position(is_end).filter(|_| random.bool());
        let at = end_of_word.map_or(at, |length| at + length + 1);
        let end = random.usize(at..=data.len().min(at + 20));
        match random.u8(..12) {
            0 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            1 if at < data.len() => data[at] = random.u8(..),
            2 => insert(data, at, pick::<&[u8]>(random, &EDGES)),
            3 | 4 => insert(data, at, pick::<Vec<u8>>(random, &self.words)),
            5 | 6 => {
                let word = data[at..].iter().position(is_end).unwrap_or(data.len() - at);
                data.splice(at..at + word, pick::<Vec<u8>>(random, &self.words).iter().copied());
            }
            7 => {
                let again = data[at..end].repeat(random.usize(1..=3));
                insert(data, at, &again);
            }
            8 | 9 => {
                let other = pick::<Vec<u8>>(random, &self.inputs);
                let from = random.usize(..=other.len());
                insert(data, at, &other[from..random.usize(from..=other.len())]);
            }
            10 => drop(data.drain(at..end)),
            _ => data.truncate(at),
        }
    }
}

fn insert(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    data.splice(at..at, bytes.iter().copied());
}

/// One of those in `from`, of which there is one at least.
fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}
