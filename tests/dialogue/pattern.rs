//! One line of a dialogue: literal bytes, and braces for what varies.
//!
//! Rule: the same text means the same thing in a sent line and in an expected one; what only makes sense in
//! an expected line (`{number}`, `{any}` …) is refused when it is sent.

use std::collections::HashMap;

/// What the braces of expected lines caught, by name.
pub(crate) type Caught = HashMap<String, Vec<u8>>;

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    /// Unix time, plus some seconds.
    Now(i64),
    /// What was caught under this name; as a number plus something when there is something to add.
    Caught(String, i64),
    /// Something that varies, perhaps to be caught.
    Varying(Varying, Option<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Varying {
    /// Decimal digits.
    Number,
    /// Decimal digits with a point among them.
    Float,
    /// Anything up to a space or the end of the line.
    Word,
    /// Anything up to what follows in the pattern, or the end of the line.
    Any,
    /// A number other than the one caught.
    Differs(String),
    /// A number greater than the one caught.
    Greater(String),
}

/// A line, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
}

/// Whether bytes begin with what a pattern describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Yes, and it is this long.
    Yes(usize),
    /// No.
    No,
    /// More bytes are needed to say.
    NotYet,
}

impl Pattern {
    /// Parses `text` and appends `ending` literally.
    pub(crate) fn parse(text: &str, ending: &[u8]) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let (inside, after) = braces(rest)?;
                rest = after;
                if let Some(repeated) = repeated(inside)? {
                    literal.extend_from_slice(&repeated);
                    continue;
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(varying(inside)?);
            } else {
                rest = unescape_one(rest, &mut literal)?;
            }
        }
        literal.extend_from_slice(ending);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Pattern { pieces })
    }

    /// The bytes to send.
    pub(crate) fn fill(&self, caught: &Caught, unix_seconds: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Varying(..) => return Err(format!("{piece:?} cannot be sent")),
                known => bytes.extend_from_slice(&known.known(caught, unix_seconds)?),
            }
        }
        Ok(bytes)
    }

    /// Whether `bytes` begin with this line; what is caught is put into `caught` when they do.
    pub(crate) fn matches(
        &self,
        bytes: &[u8],
        caught: &mut Caught,
        unix_seconds: u64,
    ) -> Result<Match, String> {
        let mut at = 0;
        let mut found = Caught::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            let rest = &bytes[at..];
            let Piece::Varying(varying, name) = piece else {
                let known = piece.known(caught, unix_seconds)?;
                if !rest.starts_with(&known) {
                    return Ok(if known.starts_with(rest) { Match::NotYet } else { Match::No });
                }
                at += known.len();
                continue;
            };
            let until: &[u8] = match (varying, self.pieces.get(index + 1)) {
                (Varying::Any, Some(Piece::Literal(literal))) => literal,
                _ => b"\r\n",
            };
            let Some(length) = varying.length(rest, until) else { return Ok(Match::NotYet) };
            let part = &rest[..length];
            if !varying.accepts(part, caught)? {
                return Ok(Match::No);
            }
            if let Some(name) = name {
                found.insert(name.clone(), part.to_vec());
            }
            at += length;
        }
        caught.extend(found);
        Ok(Match::Yes(at))
    }
}

impl Piece {
    fn known(&self, caught: &Caught, unix_seconds: u64) -> Result<Vec<u8>, String> {
        match self {
            Piece::Literal(bytes) => Ok(bytes.clone()),
            Piece::Now(plus) => Ok(unix_seconds.saturating_add_signed(*plus).to_string().into_bytes()),
            Piece::Caught(name, 0) => look_up(caught, name).cloned(),
            Piece::Caught(name, plus) => {
                let number = number(look_up(caught, name)?)?;
                Ok(number.wrapping_add_signed(*plus).to_string().into_bytes())
            }
            Piece::Varying(..) => unreachable!("callers tell these apart"),
        }
    }
}

impl Varying {
    /// How many bytes at the head of `rest` this could be; `None` when it may go on past the end.
    fn length(&self, rest: &[u8], until: &[u8]) -> Option<usize> {
        let goes_on: fn(&u8) -> bool = match self {
            Varying::Number | Varying::Differs(_) | Varying::Greater(_) => u8::is_ascii_digit,
            Varying::Float => |byte| byte.is_ascii_digit() || *byte == b'.',
            Varying::Word => |byte| !b" \r\n".contains(byte),
            Varying::Any => return rest.windows(until.len()).position(|window| window == until),
        };
        rest.iter().position(|byte| !goes_on(byte))
    }

    fn accepts(&self, part: &[u8], caught: &Caught) -> Result<bool, String> {
        Ok(match self {
            Varying::Number | Varying::Word => !part.is_empty(),
            Varying::Float => part.contains(&b'.'),
            Varying::Any => true,
            Varying::Differs(name) => !part.is_empty() && number(part)? != number(look_up(caught, name)?)?,
            Varying::Greater(name) => !part.is_empty() && number(part)? > number(look_up(caught, name)?)?,
        })
    }
}

fn look_up<'c>(caught: &'c Caught, name: &str) -> Result<&'c Vec<u8>, String> {
    caught.get(name).ok_or_else(|| format!("nothing was caught as {{{name}}}"))
}

fn number(bytes: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(bytes);
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

/// Splits `{inside}after`.
fn braces(text: &str) -> Result<(&str, &str), String> {
    let (mut escaped, mut depth) = (false, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Ok((&text[1..at], &text[at + 1..])),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    Err(format!("no closing brace in {text:?}"))
}

/// The bytes of `text*count`; `None` when it is something else.
fn repeated(inside: &str) -> Result<Option<Vec<u8>>, String> {
    let Some((text, count)) = inside.rsplit_once('*') else { return Ok(None) };
    let count: usize = count.parse().map_err(|_| format!("{count:?} is no count of repetitions"))?;
    if !text.contains(r"\#") {
        return Ok(Some(plain(text)?.repeat(count)));
    }
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(plain(&text.replace(r"\#", &number.to_string()))?);
    }
    Ok(Some(bytes))
}

/// The bytes of text in which nothing varies.
fn plain(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if rest.starts_with('{') {
            let (inside, after) = braces(rest)?;
            bytes.extend(repeated(inside)?.ok_or("only a repetition can be repeated")?);
            rest = after;
        } else {
            rest = unescape_one(rest, &mut bytes)?;
        }
    }
    Ok(bytes)
}

fn varying(inside: &str) -> Result<Piece, String> {
    let (kind, name) = match inside.split_once(':') {
        Some((kind, name)) => (kind, Some(name.to_owned())),
        None => (inside, None),
    };
    let varying = match kind {
        "number" => Varying::Number,
        "float" => Varying::Float,
        "word" => Varying::Word,
        "any" => Varying::Any,
        _ if kind.starts_with('!') => Varying::Differs(kind[1..].to_owned()),
        _ if kind.starts_with('>') => Varying::Greater(kind[1..].to_owned()),
        _ => {
            let (word, plus) = match kind.find(['+', '-']) {
                Some(at) => {
                    let plus: i64 = kind[at..].parse().map_err(|_| format!("{{{kind}}} adds no number"))?;
                    (&kind[..at], plus)
                }
                None => (kind, 0),
            };
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(format!("{{{inside}}} means nothing"));
            }
            return Ok(if word == "now" { Piece::Now(plus) } else { Piece::Caught(word.to_owned(), plus) });
        }
    };
    Ok(Piece::Varying(varying, name))
}

/// Takes one character or escape off the head of `text`.
fn unescape_one<'t>(text: &'t str, bytes: &mut Vec<u8>) -> Result<&'t str, String> {
    let mut characters = text.chars();
    let first = characters.next().ok_or("an escape without an end")?;
    if first != '\\' {
        bytes.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
        return Ok(characters.as_str());
    }
    match characters.next() {
        Some('r') => bytes.push(b'\r'),
        Some('n') => bytes.push(b'\n'),
        Some('t') => bytes.push(b'\t'),
        Some('s') => bytes.push(b' '),
        Some('0') => bytes.push(0),
        Some(same @ ('\\' | '{' | '}' | '*')) => bytes.push(u8::try_from(same).expect("all are ASCII")),
        Some('x') => {
            let digits = characters.as_str().get(..2).ok_or("\\x wants two digits")?;
            bytes
                .push(u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits} is not hexadecimal"))?);
            return Ok(&characters.as_str()[2..]);
        }
        other => return Err(format!("\\{other:?} is no escape")),
    }
    Ok(characters.as_str())
}

/// Bytes as a dialogue would write them, cut to what a reader can take in.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 400;
    let head = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let more = bytes.len() - head.len();
    let text = head.escape_ascii().to_string();
    if more == 0 { format!("\"{text}\"") } else { format!("\"{text}\" and {more} bytes more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, bytes: &[u8], expected: Match) {
        let mut caught = Caught::from([("id".to_owned(), b"7".to_vec())]);
        let pattern = Pattern::parse(pattern, b"\r\n").unwrap();
        assert_eq!(pattern.matches(bytes, &mut caught, 1000), Ok(expected), "{pattern:?}");
    }

    #[test]
    fn a_literal_line_is_itself() {
        check("STORED", b"STORED\r\nmore", Match::Yes(8));
        check("STORED", b"STORE", Match::NotYet);
        check("STORED", b"NOT_STORED\r\n", Match::No);
        check(r"a\x00\s\{", b"a\0 {\r\n", Match::Yes(6));
        check("{ab*3}", b"ababab\r\n", Match::Yes(8));
        check(r"{a\#*3}", b"a0a1a2\r\n", Match::Yes(8));
        check(r"{\#{x*2}*2}", b"0xx1xx\r\n", Match::Yes(8));
    }

    #[test]
    fn what_varies_is_matched_by_kind() {
        check("v {number}", b"v 12\r\n", Match::Yes(6));
        check("v {number}", b"v 12", Match::NotYet);
        check("v {number}", b"v \r\n", Match::No);
        check("v {float}", b"v 0.000001\r\n", Match::Yes(12));
        check("v {any} end", b"v a b end\r\n", Match::Yes(11));
        check("{word} x", b"ab x\r\n", Match::Yes(6));
        check("{id} {id+1} {!id} {>id}", b"7 8 6 9\r\n", Match::Yes(9));
        check("{!id}", b"7\r\n", Match::No);
        check("{>id}", b"7\r\n", Match::No);
        check("{now-1}", b"999\r\n", Match::Yes(5));
    }

    #[test]
    fn what_is_caught_can_be_sent() {
        let mut caught = Caught::new();
        let line = Pattern::parse("VALUE k 0 1 {number:first}", b"").unwrap();
        line.matches(b"VALUE k 0 1 42\r\n", &mut caught, 0).unwrap();
        assert_eq!(Pattern::parse("cas {first+1}", b"").unwrap().fill(&caught, 0).unwrap(), b"cas 43");
        assert!(Pattern::parse("{other}", b"").unwrap().fill(&caught, 0).is_err());
        assert!(Pattern::parse("{number}", b"").unwrap().fill(&caught, 0).is_err());
    }
}
