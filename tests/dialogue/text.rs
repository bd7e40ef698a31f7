//! The text of dialogues, parsed. The format is described at the top of `tests/dialogues.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ferrocached::engine::access::rights::Rights;

use super::packet::Packet;
use super::pattern::{Caught, Match, Pattern};

/// Everything said and heard under one name.
#[derive(Clone, Debug)]
pub(crate) struct Dialogue {
    pub(crate) name: String,
    /// File and line, for messages.
    pub(crate) place: String,
    /// Options of the server it is held with.
    pub(crate) options: Vec<String>,
    /// What the users behind some connections may do; those behind the others may do everything.
    pub(crate) rights: BTreeMap<usize, String>,
    /// The lines of a file of those who may log in, if it is started with one.
    pub(crate) users: Vec<String>,
    /// Whether the bare engine can hold it.
    pub(crate) on_engine: bool,
    /// Whether a server behind a socket can hold it.
    pub(crate) on_sockets: bool,
    /// Why, in a list of differences.
    pub(crate) because: Option<String>,
    pub(crate) exchanges: Vec<Exchange>,
}

/// What is sent without waiting, then what must come back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    /// Time that passes first.
    pub(crate) wait: Duration,
    pub(crate) sent: Vec<Sent>,
    pub(crate) expected: Vec<Expected>,
}

/// What is sent, or has to come: a line, a part of one, or a packet.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Text(Pattern),
    Packet(Packet),
}

impl Message {
    /// The bytes to send.
    pub(crate) fn fill(&self, caught: &Caught, unix_seconds: u64) -> Result<Vec<u8>, String> {
        match self {
            Message::Text(pattern) => pattern.fill(caught, unix_seconds),
            Message::Packet(packet) => packet.fill(caught, unix_seconds),
        }
    }

    /// Whether `bytes` begin with this; what is caught is put into `caught` when they do.
    pub(crate) fn matches(
        &self,
        bytes: &[u8],
        caught: &mut Caught,
        unix_seconds: u64,
    ) -> Result<Match, String> {
        match self {
            Message::Text(pattern) => pattern.matches(bytes, caught, unix_seconds),
            Message::Packet(packet) => packet.matches(bytes, caught, unix_seconds),
        }
    }

    pub(crate) fn is_packet(&self) -> bool {
        matches!(self, Message::Packet(_))
    }
}

/// One sent line or packet.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) connection: usize,
    pub(crate) text: String,
    pub(crate) message: Message,
}

/// One thing that must come back.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) connection: usize,
    /// Line in the file.
    pub(crate) place: usize,
    pub(crate) text: String,
    pub(crate) what: What,
}

/// What must come back.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// This, so many times.
    Line(Message, usize),
    /// Messages in any order, all `those` among them and none of `never`, up to and with `end`.
    Among { those: Vec<(Message, String)>, never: Vec<(Message, String)>, end: Option<Message> },
    /// Nothing, and the connection stays open.
    Silent,
    /// The connection is closed.
    Closed,
    /// The connection is closed and the server stops.
    Shutdown { graceful: bool },
}

impl Dialogue {
    /// How much time passes in it.
    pub(crate) fn waits(&self) -> Duration {
        self.exchanges.iter().map(|exchange| exchange.wait).sum()
    }
}

/// All dialogues of a directory, by file name; the list of differences is not one of them.
pub(crate) fn load(directory: &Path) -> Vec<Dialogue> {
    let entries = std::fs::read_dir(directory).expect("tests/dialogues is part of the source");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.retain(|file| file.file_name().is_some_and(|name| name != "differences.txt"));
    files.sort();
    let mut dialogues = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("dialogues are UTF-8");
        let name = file.file_name().expect("a file has a name").to_string_lossy();
        dialogues.extend(parse(&name, &text).unwrap_or_else(|error| panic!("{error}")));
    }
    let mut names: Vec<_> = dialogues.iter().map(|dialogue| dialogue.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "a name tells one dialogue from all others");
    dialogues
}

/// Parses the dialogues of one file.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Dialogue>, String> {
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let at = |error: String| format!("{file}:{number}: {error}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            dialogues.push(Dialogue {
                name: name.to_owned(),
                place: format!("{file}:{number}"),
                options: Vec::new(),
                rights: BTreeMap::new(),
                users: Vec::new(),
                on_engine: true,
                on_sockets: true,
                because: None,
                exchanges: Vec::new(),
            });
            continue;
        }
        let dialogue =
            dialogues.last_mut().ok_or_else(|| at("a dialogue begins with its name".to_owned()))?;
        dialogue.add(line, number).map_err(at)?;
    }
    Ok(dialogues)
}

impl Dialogue {
    fn add(&mut self, line: &str, number: usize) -> Result<(), String> {
        if let Some(options) = line.strip_prefix("options: ") {
            self.options = options.split_whitespace().map(str::to_owned).collect();
        } else if let Some((connection, rights)) = line.split_once("rights: ") {
            let connection = if connection.is_empty() { Ok(1) } else { connection.parse() };
            let connection = connection.map_err(|_| "which connection?")?;
            Rights::parse(rights).map_err(|error| error.to_string())?;
            self.rights.insert(connection, rights.to_owned());
        } else if let Some(user) = line.strip_prefix("user: ") {
            self.users.push(user.to_owned());
        } else if let Some(places) = line.strip_prefix("on: ") {
            self.on_engine = places.split_whitespace().any(|place| place == "engine");
            self.on_sockets = places.split_whitespace().any(|place| place == "sockets");
        } else if let Some(because) = line.strip_prefix("because: ") {
            self.because = Some(because.to_owned());
        } else if let Some(wait) = line.strip_prefix("~ ") {
            self.exchanges.push(Exchange { wait: duration(wait)?, ..Exchange::default() });
        } else {
            self.add_step(line, number)?;
        }
        Ok(())
    }

    fn add_step(&mut self, line: &str, number: usize) -> Result<(), String> {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let connection =
            if digits == 0 { 1 } else { line[..digits].parse().map_err(|_| "which connection?")? };
        let step = &line[digits..];
        let (sign, text) = step.split_once(' ').unwrap_or((step, ""));
        match sign {
            ">" | ">>" | ">p" => {
                let message = match sign {
                    ">p" => Message::Packet(Packet::parse(text)?),
                    ">" => Message::Text(Pattern::parse(text, b"\r\n")?),
                    _ => Message::Text(Pattern::parse(text, b"")?),
                };
                let sent = Sent { connection, text: text.to_owned(), message };
                match self.exchanges.last_mut() {
                    Some(exchange) if exchange.expected.is_empty() => exchange.sent.push(sent),
                    _ => self.exchanges.push(Exchange { sent: vec![sent], ..Exchange::default() }),
                }
                Ok(())
            }
            _ => {
                let exchange = self.exchanges.last_mut().ok_or("something is sent before it is answered")?;
                exchange.expect(connection, sign, text, number)
            }
        }
    }
}

impl Exchange {
    fn expect(&mut self, connection: usize, sign: &str, text: &str, place: usize) -> Result<(), String> {
        if matches!(sign, "<*" | "<!" | "<*p" | "<!p") {
            return self.expect_among(connection, sign, text, place);
        }
        let what = match (sign, text) {
            ("<", _) => What::Line(Message::Text(Pattern::parse(text, b"\r\n")?), 1),
            ("<<", _) => What::Line(Message::Text(Pattern::parse(text, b"")?), 1),
            ("<p", _) => What::Line(Message::Packet(Packet::parse(text)?), 1),
            ("!", "silent") => What::Silent,
            ("!", "closed") => What::Closed,
            ("!", "shutdown") => What::Shutdown { graceful: false },
            ("!", "shutdown graceful") => What::Shutdown { graceful: true },
            _ => {
                let times = sign.strip_prefix("<x").and_then(|times| times.parse().ok());
                let times = times.ok_or(format!("{sign:?} begins no step"))?;
                What::Line(Message::Text(Pattern::parse(text, b"\r\n")?), times)
            }
        };
        if let (What::Line(line, 1), Some(last)) = (&what, self.expected.last_mut())
            && let What::Among { end: end @ None, .. } = &mut last.what
        {
            *end = Some(line.clone());
            return Ok(());
        }
        self.expected.push(Expected { connection, place, text: text.to_owned(), what });
        Ok(())
    }

    fn expect_among(
        &mut self,
        connection: usize,
        sign: &str,
        text: &str,
        place: usize,
    ) -> Result<(), String> {
        let message = if sign.ends_with('p') {
            Message::Packet(Packet::parse(text)?)
        } else {
            Message::Text(Pattern::parse(text, b"\r\n")?)
        };
        if !matches!(self.expected.last(), Some(Expected { what: What::Among { end: None, .. }, .. })) {
            let what = What::Among { those: Vec::new(), never: Vec::new(), end: None };
            self.expected.push(Expected { connection, place, text: "lines in any order".to_owned(), what });
        }
        let Some(Expected { what: What::Among { those, never, .. }, .. }) = self.expected.last_mut() else {
            unreachable!("it was just made sure of");
        };
        let list = if sign.starts_with("<*") { those } else { never };
        list.push((message, text.to_owned()));
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; say 300ms or 5s");
    let (number, milliseconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1000),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(number * milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_sent_in_a_row_make_one_exchange() {
        let text = "== a\n> set k 0 0 1\n> a\n< STORED\n~ 5s\n2> get k\n2< END\n";
        let dialogues = parse("x", text).unwrap();
        let [dialogue] = &dialogues[..] else { panic!("one dialogue") };
        assert_eq!(dialogue.exchanges.len(), 2);
        assert_eq!(dialogue.exchanges[0].sent.len(), 2);
        assert_eq!(dialogue.waits(), Duration::from_secs(5));
        assert_eq!(dialogue.exchanges[1].sent[0].connection, 2);
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for text in ["> get k\n", "== a\n? get\n", "== a\n< END\n", "== a\n~ 5\n", "== a\n> {\n"] {
            assert!(parse("x", text).is_err(), "{text:?}");
        }
        assert!(parse("x", "== a\n\n~ 5\n").unwrap_err().starts_with("x:3: "));
    }
}
