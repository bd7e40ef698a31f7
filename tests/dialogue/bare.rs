//! The bare engine as a peer: what `net` does for it, without sockets, and with input cut anywhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ferrocached::clock::{Epoch, TICKS_PER_SECOND, Tick};
use ferrocached::engine::access::rights::Rights;
use ferrocached::engine::access::users::Users;
use ferrocached::engine::{Engine, Then};
use ferrocached::settings::{Protocol, Settings};

use super::connection::Connection;
use super::walk::{More, Peer};

/// The Unix time at which every bare engine starts.
const START_UNIX_SECONDS: u64 = 1_700_000_000;

/// What a connection may hold of unconsumed input when all is answered: less than a line.
const INPUT_LEFT_BYTES_MAX: usize = 2048;

/// Bursts longer than this are not cut at every byte, only near their ends.
const CUT_FINELY_BYTES_MAX: usize = 16 << 10;

/// How much of each end of a long burst is cut at every byte.
const CUT_FINELY_END_BYTES: usize = 2500;

/// How what is sent reaches the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Each burst in one piece.
    Whole,
    /// One byte after the other, and the engine called as soon as it asked to be.
    EveryByte,
    /// One byte after the other, and the engine called at each, even when it asked for more.
    EveryByteTooEarly,
    /// Each burst in two pieces, the first of so many bytes.
    At(usize),
}

/// An engine and its connections.
pub(crate) struct Bare {
    engine: Engine,
    cut: Cut,
    now: Tick,
    connections: BTreeMap<usize, Connection>,
    rights: BTreeMap<usize, Arc<Rights>>,
}

impl Bare {
    pub(crate) fn new(mut settings: Settings, users: &[String], cut: Cut) -> Bare {
        let (epoch, now) = Epoch::starting_at(START_UNIX_SECONDS);
        if !users.is_empty() && !settings.sasl_enabled {
            settings.protocol = Protocol::Ascii;
        }
        settings.auth_file = (!users.is_empty()).then(|| "users".into());
        let engine = Engine::new(settings, epoch);
        if !users.is_empty() {
            engine.set_users(Users::parse(users.join("\n").as_bytes()).expect("users can be read"));
        }
        Bare { engine, cut, now, connections: BTreeMap::new(), rights: BTreeMap::new() }
    }

    /// The same, with users behind some of the connections who may not do everything.
    pub(crate) fn with_rights(self, rights: &BTreeMap<usize, String>) -> Bare {
        let parsed = |rights: &String| Arc::new(Rights::parse(rights).expect("they were parsed before"));
        let rights = rights.iter().map(|(connection, rights)| (*connection, parsed(rights)));
        Bare { rights: rights.collect(), ..self }
    }

    fn connection(&mut self, number: usize) -> &mut Connection {
        let too_early = self.cut == Cut::EveryByteTooEarly;
        self.connections.entry(number).or_insert_with(|| {
            let mut connection = Connection::new(&self.engine, number % 4, too_early);
            if let Some(rights) = self.rights.get(&number) {
                connection.session.set_rights(Arc::clone(rights));
            }
            connection
        })
    }
}

impl Peer for Bare {
    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String> {
        let (cut, now) = (self.cut, self.now);
        self.connection(connection);
        let connection = self.connections.get_mut(&connection).expect("it was just made");
        pieces(bytes.len(), cut).into_iter().try_for_each(|piece| {
            let offered = piece.clone();
            let told = |error| format!("{error} (bytes {} to {} were offered)", piece.start, piece.end);
            connection.offer(&self.engine, &bytes[offered], now).map_err(told)
        })
    }

    fn received(&mut self, connection: usize) -> &mut Vec<u8> {
        self.connection(connection);
        let connection = self.connections.get_mut(&connection).expect("it was just made");
        connection.take_lines(&self.engine);
        &mut connection.received
    }

    fn more(&mut self, connection: usize) -> Result<More, String> {
        Ok(if self.connection(connection).ended.is_some() { More::Closed } else { More::Nothing })
    }

    fn linger(&mut self, connection: usize) -> Result<More, String> {
        self.more(connection)
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        const TICKS_WALKED_MAX: u128 = 100;
        let ticks = time.as_millis() * u128::from(TICKS_PER_SECOND) / 1000;
        let end = Tick(self.now.0 + u32::try_from(ticks).map_err(|_| "that is longer than a server lives")?);
        if ticks <= TICKS_WALKED_MAX {
            for tick in self.now.0 + 1..end.0 {
                self.engine.tick(Tick(tick));
            }
        }
        self.now = end;
        self.engine.tick(end);
        Ok(())
    }

    fn unix_seconds(&self) -> u64 {
        let (epoch, _) = Epoch::starting_at(START_UNIX_SECONDS);
        epoch.unix_seconds(self.now)
    }

    fn stopped(&mut self, connection: usize, graceful: bool) -> Result<(), String> {
        let ended = self.connection(connection).ended;
        if ended == Some(Then::Shutdown { graceful }) {
            Ok(())
        } else {
            Err(format!("it ended in {ended:?}"))
        }
    }

    fn leave(&mut self) -> Result<(), String> {
        for (number, connection) in &self.connections {
            let left = connection.input_left();
            if connection.ended.is_none() && left > INPUT_LEFT_BYTES_MAX {
                return Err(format!("connection {number} still holds {left} bytes of input"));
            }
        }
        Ok(())
    }
}

/// The positions at which a burst of `length` bytes is worth cutting in two, at most `count_max` of them.
pub(crate) fn cut_positions(length: usize, count_max: usize) -> Vec<usize> {
    let all = 1..length.max(1);
    if all.len() <= count_max {
        return all.collect();
    }
    let end = count_max / 2;
    (1..=end).chain(length - end..length).collect()
}

fn pieces(length: usize, cut: Cut) -> Vec<Range<usize>> {
    match cut {
        Cut::Whole => std::iter::once(0..length).collect(),
        Cut::At(position) => {
            let position = position.min(length);
            [0..position, position..length].into_iter().filter(|piece| !piece.is_empty()).collect()
        }
        Cut::EveryByte | Cut::EveryByteTooEarly => {
            const MIDDLE_PIECE_BYTES: usize = 509; // A prime, so that pieces and blocks rarely end together.
            let mut pieces = Vec::new();
            let mut start = 0;
            while start < length {
                let fine = length <= CUT_FINELY_BYTES_MAX
                    || start < CUT_FINELY_END_BYTES
                    || start >= length - CUT_FINELY_END_BYTES;
                let end = start + if fine { 1 } else { MIDDLE_PIECE_BYTES };
                pieces.push(start..end.min(length));
                start = end.min(length);
            }
            pieces
        }
    }
}

/// The settings that command-line options stand for, as far as dialogues use them.
pub(crate) fn settings(options: &[String]) -> Settings {
    let mut settings = Settings { threads: 4, ..Settings::default() };
    let mut options = options.iter().map(String::as_str);
    while let Some(option) = options.next() {
        let mut value = || options.next().unwrap_or_else(|| panic!("{option} wants a value"));
        match option {
            "-A" => settings.shutdown_enabled = true,
            "-B" => {
                settings.protocol = match value() {
                    "ascii" => Protocol::Ascii,
                    "binary" => Protocol::Binary,
                    other => panic!("the bare engine is not taught -B {other}; add it here"),
                }
            }
            "-C" => settings.cas_enabled = false,
            "-D" => {
                settings.prefix_delimiter = value().as_bytes()[0];
                settings.detail_enabled = true;
            }
            "-F" => settings.flush_enabled = false,
            "-I" => settings.item_bytes_max = size(value()),
            "-M" => settings.evictions_enabled = false,
            "-R" => settings.requests_per_event = value().parse().expect("-R is a number"),
            "-S" => settings.sasl_enabled = true,
            "-W" => settings.watch_enabled = false,
            "-X" => settings.dump_enabled = false,
            "-o" => value().split(',').for_each(|suboption| match suboption {
                "no_modern" => settings.predate_modern(),
                "no_lru_crawler" => settings.sweep_enabled = false,
                "no_slab_reassign" => settings.compat.slab_reassign = false,
                other => panic!("the bare engine is not taught -o {other}; add it here"),
            }),
            "-m" => settings.memory_bytes = value().parse::<u64>().expect("-m is in megabytes") << 20,
            other => panic!("the bare engine is not taught {other}; add it here"),
        }
    }
    settings
}

fn size(text: &str) -> u64 {
    let (digits, shift) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 0), |digits| (digits, 20)),
    };
    digits.parse::<u64>().expect("a size is a number, perhaps with k or m") << shift
}
