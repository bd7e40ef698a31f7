//! Keys in base64 (meta flag `b`). They stay as they came until they are looked up: decoding 250 bytes again costs
//! less than carrying a place for them with every request.

use arrayvec::ArrayVec;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::super::KEY_BYTES_MAX;

/// The standard alphabet, with padding. As memcached does, it lets bits be set that no byte is made of.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// How long the longest key becomes in base64, in bytes.
const ENCODED_BYTES_MAX: usize = KEY_BYTES_MAX.div_ceil(3) * 4;

/// Where a key is decoded to.
pub type KeyBuffer = ArrayVec<u8, KEY_BYTES_MAX>;

/// The key of which `text`, at most [`KEY_BYTES_MAX`] bytes, is the base64 form; `None` if it is none.
pub fn decode<'k>(text: &[u8], buffer: &'k mut KeyBuffer) -> Option<&'k [u8]> {
    let mut decoded = [0; KEY_BYTES_MAX];
    let length = BASE64.decode_slice(text, &mut decoded).ok().filter(|&length| length > 0)?;
    buffer.clear();
    buffer.extend(decoded[..length].iter().copied());
    Some(buffer)
}

/// Shows `use_text` the base64 form of `key`, which has at most [`KEY_BYTES_MAX`] bytes.
pub fn encode<R>(key: &[u8], use_text: impl FnOnce(&[u8]) -> R) -> R {
    let mut text = [0; ENCODED_BYTES_MAX];
    let length = BASE64.encode_slice(key, &mut text).expect("there is room for the longest key");
    use_text(&text[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back() {
        for length in 1..=KEY_BYTES_MAX {
            let key: Vec<u8> = (0..length).map(|byte| (byte * 7 + length) as u8).collect();
            let text = encode(&key, <[u8]>::to_vec);
            if text.len() <= KEY_BYTES_MAX {
                assert_eq!(decode(&text, &mut KeyBuffer::new()), Some(&key[..]));
            }
        }
        assert_eq!(encode(&[0xff; KEY_BYTES_MAX], <[u8]>::len), ENCODED_BYTES_MAX);
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["Y", "YQ", "YQ=", "====", "Y-==", "Y_==", "YQ==YQ==", "Y Q=", "a\x7f=="] {
            assert_eq!(decode(text.as_bytes(), &mut KeyBuffer::new()), None, "{text}");
        }
        assert_eq!(decode(b"YR==", &mut KeyBuffer::new()), Some(&b"a"[..]));
    }
}
