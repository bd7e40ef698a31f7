//! One packet of the binary protocol in a dialogue: an opcode by name, and fields by name.
//!
//! `set key=k flags=7 exptime=0 value=abc cas={id}` is sent with the lengths that fit, unless they are given
//! (`keylen=`, `extlen=`, `bodylen=`), and an expected packet has all that is named and nothing else: what is not named
//! is empty, or 0. Extras are the named ones of `flags` `delta` `initial` `exptime`, in this order.

use std::collections::BTreeMap;

use super::pattern::{Caught, Match, Pattern};

/// The names of opcodes, as memcached has them.
const OPCODES: &[(&str, u8)] = &[
    ("get", 0x00),
    ("set", 0x01),
    ("add", 0x02),
    ("replace", 0x03),
    ("delete", 0x04),
    ("increment", 0x05),
    ("decrement", 0x06),
    ("quit", 0x07),
    ("flush", 0x08),
    ("getq", 0x09),
    ("noop", 0x0a),
    ("version", 0x0b),
    ("getk", 0x0c),
    ("getkq", 0x0d),
    ("append", 0x0e),
    ("prepend", 0x0f),
    ("stat", 0x10),
    ("setq", 0x11),
    ("addq", 0x12),
    ("replaceq", 0x13),
    ("deleteq", 0x14),
    ("incrementq", 0x15),
    ("decrementq", 0x16),
    ("quitq", 0x17),
    ("flushq", 0x18),
    ("appendq", 0x19),
    ("prependq", 0x1a),
    ("touch", 0x1c),
    ("gat", 0x1d),
    ("gatq", 0x1e),
    ("sasl_list", 0x20),
    ("sasl_auth", 0x21),
    ("sasl_step", 0x22),
    ("gatk", 0x23),
    ("gatkq", 0x24),
];

/// The names of fields that hold numbers, and their lengths in bytes.
const NUMBERS: &[(&str, usize)] = &[
    ("magic", 1),
    ("keylen", 2),
    ("extlen", 1),
    ("datatype", 1),
    ("status", 2),
    ("bodylen", 4),
    ("opaque", 4),
    ("cas", 8),
    ("flags", 4),
    ("delta", 8),
    ("initial", 8),
    ("exptime", 4),
    ("number", 8),
];

/// Those of them that are extras, in their order.
const EXTRAS: [&str; 4] = ["flags", "delta", "initial", "exptime"];

/// The length of a header, in bytes.
const HEADER_BYTES: usize = 24;

/// A packet, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    opcode: u8,
    /// `number` is a value of eight bytes.
    fields: BTreeMap<&'static str, Pattern>,
}

impl Packet {
    pub(crate) fn parse(text: &str) -> Result<Packet, String> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("a packet begins with an opcode")?;
        let named = OPCODES.iter().find(|(known, _)| *known == name).map(|(_, opcode)| *opcode);
        let raw = name.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let opcode = named.or(raw).ok_or(format!("{name:?} is no opcode"))?;
        let mut fields = BTreeMap::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or(format!("{word:?} is no field"))?;
            let known = NUMBERS.iter().map(|(known, _)| *known).chain(["key", "value"]);
            let name =
                known.into_iter().find(|known| *known == name).ok_or(format!("{name:?} is no field"))?;
            let hexadecimal =
                value.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let decimal = hexadecimal.map(|number| number.to_string());
            fields.insert(name, Pattern::parse(decimal.as_deref().unwrap_or(value), b"\r\n")?);
        }
        Ok(Packet { opcode, fields })
    }

    fn text(&self, name: &str, caught: &Caught, now: u64) -> Result<Vec<u8>, String> {
        let Some(pattern) = self.fields.get(name) else { return Ok(Vec::new()) };
        let mut bytes = pattern.fill(caught, now)?;
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }

    /// The bytes of a number; `otherwise` if it is not named.
    fn number(&self, name: &str, otherwise: u64, caught: &Caught, now: u64) -> Result<Vec<u8>, String> {
        let number = match self.fields.contains_key(name) {
            true => {
                let text = String::from_utf8_lossy(&self.text(name, caught, now)?).into_owned();
                text.parse().map_err(|_| format!("{name}={text} is no number"))?
            }
            false => otherwise,
        };
        let bytes = length(name);
        if bytes < 8 && number >> (8 * bytes) != 0 {
            return Err(format!("{name}={number} does not fit {bytes} bytes"));
        }
        Ok(number.to_be_bytes()[8 - bytes..].to_vec())
    }

    /// The bytes to send.
    pub(crate) fn fill(&self, caught: &Caught, now: u64) -> Result<Vec<u8>, String> {
        let mut extras = Vec::new();
        for name in EXTRAS.into_iter().filter(|name| self.fields.contains_key(name)) {
            extras.extend(self.number(name, 0, caught, now)?);
        }
        let (key, value) = (self.text("key", caught, now)?, self.text("value", caught, now)?);
        let body = [extras.as_slice(), &key, &value].concat();
        let mut bytes = self.number("magic", 0x80, caught, now)?;
        bytes.push(self.opcode);
        for (name, otherwise) in [
            ("keylen", key.len()),
            ("extlen", extras.len()),
            ("datatype", 0),
            ("status", 0),
            ("bodylen", body.len()),
            ("opaque", 0),
            ("cas", 0),
        ] {
            bytes.extend(self.number(name, otherwise as u64, caught, now)?);
        }
        bytes.extend(body);
        Ok(bytes)
    }

    /// Whether `bytes` begin with this packet; what is caught is put into `caught` when they do.
    pub(crate) fn matches(&self, bytes: &[u8], caught: &mut Caught, now: u64) -> Result<Match, String> {
        let Some(whole) = whole(bytes) else { return Ok(Match::NotYet) };
        let (header, body) = bytes[..whole].split_at(HEADER_BYTES);
        let (key_bytes, extras_bytes) =
            (usize::from(u16::from_be_bytes([header[2], header[3]])), usize::from(header[4]));
        if key_bytes + extras_bytes > body.len() || header[1] != self.opcode {
            return Ok(Match::No);
        }
        let (mut extras, rest) = body.split_at(extras_bytes);
        let (key, value) = rest.split_at(key_bytes);
        let mut found = caught.clone();
        let mut all = vec![
            ("magic", &header[..1], 0x81),
            ("datatype", &header[5..6], 0),
            ("status", &header[6..8], 0),
            ("opaque", &header[12..16], 0),
            ("cas", &header[16..], 0),
        ];
        for name in EXTRAS.into_iter().filter(|name| self.fields.contains_key(name)) {
            let Some((extra, more)) = extras.split_at_checked(length(name)) else { return Ok(Match::No) };
            all.push((name, extra, 0));
            extras = more;
        }
        if !extras.is_empty() {
            return Ok(Match::No);
        }
        let value = if self.fields.contains_key("number") {
            if value.len() != length("number") {
                return Ok(Match::No);
            }
            all.push(("number", value, 0));
            b""
        } else {
            value
        };
        for (name, bytes, otherwise) in all {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            let is_right = match self.fields.get(name) {
                Some(pattern) => is_all(pattern, number.to_string().as_bytes(), &mut found, now)?,
                None => number == otherwise,
            };
            if !is_right {
                return Ok(Match::No);
            }
        }
        for (name, bytes) in [("key", key), ("value", value)] {
            let is_right = match self.fields.get(name) {
                Some(pattern) => is_all(pattern, bytes, &mut found, now)?,
                None => bytes.is_empty(),
            };
            if !is_right {
                return Ok(Match::No);
            }
        }
        *caught = found;
        Ok(Match::Yes(whole))
    }
}

fn length(name: &str) -> usize {
    NUMBERS.iter().find(|(known, _)| *known == name).expect("it is a number").1
}

fn is_all(pattern: &Pattern, bytes: &[u8], caught: &mut Caught, now: u64) -> Result<bool, String> {
    let line = [bytes, b"\r\n"].concat();
    Ok(pattern.matches(&line, caught, now)? == Match::Yes(line.len()))
}

/// The length of the packet at the head of `bytes`, in bytes, if all of it is there.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let body_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let bytes_all = HEADER_BYTES + usize::try_from(body_bytes).expect("an address has at least 32 bits");
    (bytes.len() >= bytes_all).then_some(bytes_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_sent_with_the_lengths_that_fit() {
        let caught = Caught::from([("id".to_owned(), b"258".to_vec())]);
        let sent = Packet::parse(r"set key=k flags=7 exptime=0x10 value=a\sb opaque=9 cas={id}").unwrap();
        let expected =
            b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0c\0\0\0\x09\0\0\0\0\0\0\x01\x02\0\0\0\x07\0\0\0\x10ka b";
        assert_eq!(sent.fill(&caught, 0).unwrap(), expected);
        for text in ["", "gets key=k", "get k", "get key=k status=65536", "get colour=1"] {
            let filled = Packet::parse(text).and_then(|packet| packet.fill(&caught, 0));
            assert!(filled.is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_expected_packet_is_all_that_is_named_and_nothing_else() {
        let reply = b"\x81\x0c\0\x01\x04\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\x07kv";
        let check = |text: &str, expected: Match| {
            let mut caught = Caught::new();
            let packet = Packet::parse(text).unwrap();
            assert_eq!(packet.matches(reply, &mut caught, 0), Ok(expected), "{text}");
            let half = packet.matches(&reply[..reply.len() - 1], &mut caught, 0);
            assert_eq!(half, Ok(Match::NotYet));
            assert_eq!(caught.contains_key("id"), expected != Match::No && text.contains("id"));
        };
        check("getk key=k value=v flags=7 cas={number:id}", Match::Yes(30));
        check("getk key=k value={any} flags={number} cas=5", Match::Yes(30));
        for other in [
            "getk key=k value=v flags=7",
            "getk key=k value=v cas={number:id}",
            "getk value=v flags=7 cas=5",
            "getk key=k flags=7 cas=5",
            "getk key=k value=v flags=7 cas=5 status=1",
            "get key=k value=v flags=7 cas=5",
            "getk key=k value=v flags=7 cas=5 opaque=1",
        ] {
            check(other, Match::No);
        }
    }
}
