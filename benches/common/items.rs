//! The items of every bench: a number decides key and value, so that any reply can be checked by comparing memory.

use fastrand::Rng;

use crate::common::random::mix;

/// The shortest key: `key-` and twelve digits.
pub(crate) const KEY_BYTES: u16 = 16;
/// Longer keys are filled up with this, to at most memcached's 250 bytes.
const KEY_PADDING: u8 = b'.';
const KEY_BYTES_MAX: u16 = 250;
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Values start at one of this many places of the pool; small, so that the pool does not crowd the processor's cache.
const PLACES: usize = 1 << 15;

/// One item, named by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) key_bytes: u16,
    pub(crate) value_bytes: u32,
}

impl Item {
    /// An item whose key has 16 bytes.
    pub(crate) fn new(number: u64, value_bytes: u32) -> Self {
        Self { number, key_bytes: KEY_BYTES, value_bytes }
    }

    pub(crate) fn with_key_bytes(self, key_bytes: u16) -> Self {
        Self { key_bytes: key_bytes.clamp(KEY_BYTES, KEY_BYTES_MAX), ..self }
    }

    /// What the user stores: key and value.
    pub(crate) fn user_bytes(&self) -> u64 {
        u64::from(self.key_bytes) + u64::from(self.value_bytes)
    }

    pub(crate) fn append_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&key_text(self.number));
        out.resize(out.len() + self.padding_bytes(), KEY_PADDING);
    }

    /// How many bytes of `text`, up to the length of the key, are those of the key.
    pub(crate) fn key_matches(&self, text: &[u8]) -> bool {
        let (start, padding) = text.split_at(text.len().min(usize::from(KEY_BYTES)));
        start == &key_text(self.number)[..start.len()] && padding.iter().all(|&byte| byte == KEY_PADDING)
    }

    fn padding_bytes(&self) -> usize {
        usize::from(self.key_bytes - KEY_BYTES)
    }
}

/// The bytes of all values: each is a stretch of one pool, so that none is ever computed.
pub(crate) struct Values {
    pool: Vec<u8>,
}

impl Values {
    /// A value tells its key, but for one chance in some ten thousands.
    pub(crate) fn by_key() -> Self {
        let mut random = Rng::with_seed(1);
        let words = (VALUE_BYTES_MAX + PLACES) / 8;
        // Printable bytes: a trace of a failing run can be read.
        let pool = (0..words).flat_map(|_| random.u64(..).to_le_bytes().map(|byte| b'0' + (byte & 0x3f)));
        Self { pool: pool.collect() }
    }

    /// Every value of a length is the same, for a server that does not store.
    pub(crate) fn constant() -> Self {
        Self { pool: vec![b'x'; VALUE_BYTES_MAX + PLACES] }
    }

    pub(crate) fn of(&self, item: &Item) -> &[u8] {
        let place = mix(item.number) as usize % PLACES;
        &self.pool[place..place + item.value_bytes as usize]
    }
}

/// `key-000000012345`.
fn key_text(number: u64) -> [u8; KEY_BYTES as usize] {
    let mut text = *b"key-000000000000";
    let mut rest = number;
    for digit in text[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    debug_assert_eq!(rest, 0, "a key number has at most twelve digits");
    text
}
