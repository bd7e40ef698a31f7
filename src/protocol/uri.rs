//! Keys as memcached lists and logs them: encoded as parts of a URI are.

/// Has `say` say `key` piece by piece, with everything but ASCII letters, digits and `-._~` as `%` and two capital
/// hexadecimal digits. That is at most three times as long.
pub(crate) fn encode(key: &[u8], mut say: impl FnMut(&[u8])) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    for run in key.chunk_by(|before, after| is_plain(before) && is_plain(after)) {
        let byte = run[0];
        if is_plain(&byte) {
            say(run);
        } else {
            say(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// [`encode`] into a text of its own.
pub(crate) fn encoded(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    encode(key, |piece| text.extend(piece.iter().copied().map(char::from)));
    text
}

#[cfg(test)]
mod tests {
    use crate::protocol::uri::*;

    #[test]
    fn what_is_not_plain_in_a_uri_is_encoded() {
        let mut said = Vec::new();
        encode(b"aZ09-._~ !%/\x00\x7f\xff\xe9\xe9z", |piece| said.extend_from_slice(piece));
        assert_eq!(said, b"aZ09-._~%20%21%25%2F%00%7F%FF%E9%E9z");
        assert_eq!(encoded(b"a \xffz").as_str(), "a%20%FFz");
        encode(b"", |_| panic!("of nothing there is nothing to say"));
    }
}
