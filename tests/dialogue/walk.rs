//! Holds a dialogue with a peer, and says where the two part.

use std::collections::BTreeMap;
use std::time::Duration;

use super::packet::{self, Packet};
use super::pattern::{Caught, Match, Pattern, shown};
use super::text::{Dialogue, Exchange, Expected, Message, What};

/// Whatever dialogues are held with.
pub(crate) trait Peer {
    /// Sends bytes on a connection, which is opened when it is not yet.
    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String>;
    /// What came on a connection and was not yet accepted.
    fn received(&mut self, connection: usize) -> &mut Vec<u8>;
    /// Waits for more to come.
    fn more(&mut self, connection: usize) -> Result<More, String>;
    /// Waits a little for something to come although nothing should.
    fn linger(&mut self, connection: usize) -> Result<More, String>;
    /// Lets time pass.
    fn wait(&mut self, time: Duration) -> Result<(), String>;
    /// The peer's time.
    fn unix_seconds(&self) -> u64;
    /// Complains unless the server was told to stop by what was sent on this (closed) connection.
    fn stopped(&mut self, connection: usize, graceful: bool) -> Result<(), String>;
    /// What is to be checked when all is said.
    fn leave(&mut self) -> Result<(), String>;
}

/// What waiting for more brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Bytes,
    Nothing,
    Closed,
}

/// How a connection ended in a dialogue, as far as was said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With an answer: it must be able to go on.
    Answer,
    /// With silence, perhaps in the middle of a request.
    Silence,
    /// Closed.
    Closed,
}

/// Holds `dialogue` with `peer`. `instead` holds, by index of exchange, what to expect instead.
pub(crate) fn walk(
    dialogue: &Dialogue,
    peer: &mut dyn Peer,
    instead: &BTreeMap<usize, Exchange>,
) -> Result<(), String> {
    let mut caught = Caught::new();
    let mut endings = BTreeMap::new();
    for (index, exchange) in dialogue.exchanges.iter().enumerate() {
        let expected = instead.get(&index).map_or(&exchange.expected, |instead| &instead.expected);
        let opening =
            exchange.sent.first().map_or(String::new(), |sent| format!(" after \"{}\"", cut(&sent.text)));
        let told = |error: String| format!("{}{opening}: {error}", dialogue.place);
        if !exchange.wait.is_zero() {
            peer.wait(exchange.wait).map_err(told)?;
        }
        send(exchange, peer, &caught, &mut endings).map_err(told)?;
        let mut heard = Heard { peer, accepted: BTreeMap::new() };
        let before = caught.clone();
        for expectation in expected {
            expect(expectation, &mut heard, &mut caught)
                .map_err(|error| told(format!("(line {}) {error}", expectation.place)))?;
            let ending = match expectation.what {
                What::Silent => Ending::Silence,
                What::Closed | What::Shutdown { .. } => Ending::Closed,
                What::Line(..) | What::Among { .. } => Ending::Answer,
            };
            endings.insert(expectation.connection, ending);
        }
        let mut replay = Replay { accepted: heard.accepted, endings: &endings };
        if instead.contains_key(&index) && replay.fits(exchange, before) {
            return Err(told("a difference is listed, but there is none".to_owned()));
        }
    }
    for (&connection, &ending) in &endings {
        if ending == Ending::Answer {
            let sent = dialogue.exchanges.iter().flat_map(|exchange| &exchange.sent);
            let mut sent = sent.filter(|sent| sent.connection == connection);
            let speaks_packets = sent.any(|sent| sent.message.is_packet());
            still_in_step(peer, connection, speaks_packets)
                .map_err(|error| format!("{} at its end: {error}", dialogue.place))?;
        }
    }
    peer.leave().map_err(|error| format!("{} at its end: {error}", dialogue.place))
}

/// Sends what an exchange sends, consecutive lines of one connection at once.
fn send(
    exchange: &Exchange,
    peer: &mut dyn Peer,
    caught: &Caught,
    endings: &mut BTreeMap<usize, Ending>,
) -> Result<(), String> {
    for burst in exchange.sent.chunk_by(|one, next| one.connection == next.connection) {
        let connection = burst[0].connection;
        let mut bytes = Vec::new();
        for sent in burst {
            bytes.extend_from_slice(&sent.message.fill(caught, peer.unix_seconds())?);
        }
        nothing_left(peer, connection)?;
        endings.insert(connection, Ending::Answer);
        peer.send(connection, &bytes)?;
    }
    Ok(())
}

/// What was accepted is kept, so that it can be compared with what was not expected.
struct Heard<'p> {
    peer: &'p mut dyn Peer,
    accepted: BTreeMap<usize, Vec<u8>>,
}

impl Heard<'_> {
    fn accept(&mut self, connection: usize, length: usize) {
        let bytes = self.peer.received(connection).drain(..length);
        self.accepted.entry(connection).or_default().extend(bytes);
    }
}

fn expect(expected: &Expected, heard: &mut Heard, caught: &mut Caught) -> Result<(), String> {
    let connection = expected.connection;
    match &expected.what {
        What::Line(line, times) => {
            for _ in 0..*times {
                expect_line(line, &expected.text, connection, heard, caught)?;
            }
            Ok(())
        }
        What::Among { those, never, end } => {
            let end = end.as_ref().ok_or("lines in any order want a last one")?;
            expect_among(those, never, end, connection, heard, caught)
        }
        What::Silent => {
            nothing_left(heard.peer, connection)?;
            match heard.peer.linger(connection)? {
                More::Nothing => Ok(()),
                More::Closed => Err("expected silence, but the connection was closed".to_owned()),
                More::Bytes => nothing_left(heard.peer, connection),
            }
        }
        What::Closed => expect_close(heard.peer, connection),
        What::Shutdown { graceful } => {
            expect_close(heard.peer, connection)?;
            heard.peer.stopped(connection, *graceful)
        }
    }
}

fn expect_line(
    line: &Message,
    text: &str,
    connection: usize,
    heard: &mut Heard,
    caught: &mut Caught,
) -> Result<(), String> {
    loop {
        let now = heard.peer.unix_seconds();
        let received = heard.peer.received(connection);
        match line.matches(received, caught, now)? {
            Match::Yes(length) => {
                heard.accept(connection, length);
                return Ok(());
            }
            Match::No => return Err(format!("expected \"{}\", got {}", cut(text), shown(received))),
            Match::NotYet => {}
        }
        let so_far = shown(received);
        match heard.peer.more(connection)? {
            More::Bytes => {}
            More::Nothing => return Err(format!("expected \"{}\", got {so_far} and no more", cut(text))),
            More::Closed => return Err(format!("expected \"{}\", got {so_far} and a close", cut(text))),
        }
    }
}

fn expect_among(
    those: &[(Message, String)],
    never: &[(Message, String)],
    end: &Message,
    connection: usize,
    heard: &mut Heard,
    caught: &mut Caught,
) -> Result<(), String> {
    let mut missing: Vec<_> = those.iter().collect();
    loop {
        let line = whole_message(connection, heard, end.is_packet())?;
        let now = heard.peer.unix_seconds();
        let is = |pattern: &Message, caught: &mut Caught| {
            Ok::<_, String>(pattern.matches(&line, caught, now)? == Match::Yes(line.len()))
        };
        heard.accept(connection, line.len());
        if is(end, caught)? {
            break;
        }
        for (pattern, text) in never {
            if is(pattern, caught)? {
                return Err(format!("did not expect \"{text}\", got {}", shown(&line)));
            }
        }
        let mut still_missing = Vec::new();
        for wanted in missing {
            if !is(&wanted.0, caught)? {
                still_missing.push(wanted);
            }
        }
        missing = still_missing;
    }
    let texts: Vec<_> = missing.iter().map(|(_, text)| text.as_str()).collect();
    if texts.is_empty() { Ok(()) } else { Err(format!("missing among the lines: {}", texts.join("; "))) }
}

fn whole_message(connection: usize, heard: &mut Heard, is_packet: bool) -> Result<Vec<u8>, String> {
    loop {
        let received = heard.peer.received(connection);
        let line = || received.windows(2).position(|window| window == b"\r\n").map(|end| end + 2);
        if let Some(bytes) = if is_packet { packet::whole(received) } else { line() } {
            return Ok(received[..bytes].to_vec());
        }
        let so_far = shown(received);
        if heard.peer.more(connection)? != More::Bytes {
            return Err(format!("expected a line, got {so_far} and no more"));
        }
    }
}

fn expect_close(peer: &mut dyn Peer, connection: usize) -> Result<(), String> {
    nothing_left(peer, connection)?;
    match peer.more(connection)? {
        More::Closed => Ok(()),
        More::Nothing => Err("expected a close, but the connection stays open".to_owned()),
        More::Bytes => nothing_left(peer, connection),
    }
}

fn nothing_left(peer: &mut dyn Peer, connection: usize) -> Result<(), String> {
    let received = peer.received(connection);
    if received.is_empty() { Ok(()) } else { Err(format!("did not expect {}", shown(received))) }
}

/// A connection whose last answer was accepted must take the next request as a new one.
fn still_in_step(peer: &mut dyn Peer, connection: usize, speaks_packets: bool) -> Result<(), String> {
    nothing_left(peer, connection)?;
    let packet = |text| Message::Packet(Packet::parse(text).expect("it is a packet"));
    let line = |text| Message::Text(Pattern::parse(text, b"\r\n").expect("it is a pattern"));
    let (question, answer) = match speaks_packets {
        true => (packet("version"), packet("version value={any}")),
        false => (line("version"), line("VERSION {any}")),
    };
    peer.send(connection, &question.fill(&Caught::new(), 0)?)?;
    let mut heard = Heard { peer, accepted: BTreeMap::new() };
    expect_line(&answer, "the version", connection, &mut heard, &mut Caught::new())?;
    nothing_left(peer, connection)
}

/// Answers heard before, to be compared with other expectations.
struct Replay<'e> {
    accepted: BTreeMap<usize, Vec<u8>>,
    endings: &'e BTreeMap<usize, Ending>,
}

impl Replay<'_> {
    fn fits(&mut self, exchange: &Exchange, mut caught: Caught) -> bool {
        let mut heard = Heard { peer: self, accepted: BTreeMap::new() };
        let all = exchange.expected.iter().all(|one| expect(one, &mut heard, &mut caught).is_ok());
        all && self.accepted.values().all(Vec::is_empty)
    }

    fn end(&self, connection: usize) -> More {
        if self.endings.get(&connection) == Some(&Ending::Closed) { More::Closed } else { More::Nothing }
    }
}

impl Peer for Replay<'_> {
    fn send(&mut self, _: usize, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn received(&mut self, connection: usize) -> &mut Vec<u8> {
        self.accepted.entry(connection).or_default()
    }

    fn more(&mut self, connection: usize) -> Result<More, String> {
        Ok(self.end(connection))
    }

    fn linger(&mut self, connection: usize) -> Result<More, String> {
        Ok(self.end(connection))
    }

    fn wait(&mut self, _: Duration) -> Result<(), String> {
        Ok(())
    }

    fn unix_seconds(&self) -> u64 {
        0
    }

    fn stopped(&mut self, _: usize, _: bool) -> Result<(), String> {
        Ok(())
    }

    fn leave(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A line of a dialogue, short enough for a message.
fn cut(text: &str) -> String {
    const CUT_CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CUT_CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    /// Holds a dialogue of one exchange with a peer that says `answer`.
    fn check(text: &str, answer: &str, fits: bool) {
        let dialogues = parse("x", &format!("== a\n> question\n{text}\n")).unwrap();
        let endings = BTreeMap::new();
        let accepted = BTreeMap::from([(1, answer.as_bytes().to_vec())]);
        let mut replay = Replay { accepted, endings: &endings };
        assert_eq!(replay.fits(&dialogues[0].exchanges[0], Caught::new()), fits, "{text:?} to {answer:?}");
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        check("< STORED", "STORED\r\n", true);
        check("< STORED", "STORED\r\nSTORED\r\n", false);
        check("<x2 STORED", "STORED\r\nSTORED\r\n", true);
        check("<x2 STORED", "STORED\r\n", false);
        check("< STORED", "NOT_STORED\r\n", false);
        check("< STORED", "STORED\n", false);
        check("< STORED", "", false);
        check("! silent", "", true);
        check("! silent", "x", false);
        check("! closed", "", false);
    }

    #[test]
    fn lines_in_any_order_are_all_wanted() {
        check("<* b {number}\n<* a\n< END", "a\r\nc\r\nb 1\r\nEND\r\n", true);
        check("<* b\n<* a\n< END", "a\r\nEND\r\n", false);
        check("<! b\n<* a\n< END", "b\r\na\r\nEND\r\n", false);
        check("<* a\n< END", "a\r\n", false);
    }
}
