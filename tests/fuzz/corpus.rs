//! The inputs there are for a target: its seeds, what dialogues send, and what the option tables say.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use ferrocached::config::{Row, example, option_table, suboption_table};

use super::dialogue::pattern::Caught;
use super::dialogue::text::load;

/// The seeds of one target take no more than this, in bytes: they are there to be looked at, and replayed in seconds.
const SEEDS_BYTES_MAX: usize = 120 << 10;

/// Longer inputs are not made seeds, in bytes: a fuzzer soon finds again what only they reach.
const SEED_BYTES_MAX: usize = 300;

/// What a dialogue sends in one go is a seed if it has no more bytes than this: fuzzers like them short.
const DIALOGUE_BYTES_MAX: usize = 2000;

/// How many seeds are choices at random: one for each of the circumstances.
const CHOICES: u8 = 8;

/// Files of users: all that a line may have.
const USERS: [&str; 7] = [
    "ann:sesame\nbob:a:b:ro\r\nann:again:rw",
    "ann:sesame:ro,prefix=shop\nbob:sesame:prefix=shop,rw\n#x::ro\n",
    "a:1\na:2\na:3\na:4\na:5\na:6\na:7\na:8\n",
    "a:{SHA256}5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8:ro\n",
    "a:{SSHA256}eje4XIkY6sGakInA+loqtNzj+QUo3N7sEIsj3fNge5lzYWx0\n",
    "a:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n",
    "a:$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG:rw\n",
];

/// The Unix time for dialogues that name one.
const UNIX_SECONDS: u64 = 1_700_000_000;

/// Every input there is for a target: its seeds, and what this project gives.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    let mut inputs = seeds(target);
    inputs.extend(of_this_project(target));
    inputs
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn seeds_file(target: &str) -> PathBuf {
    directory().join("seeds").join(target).with_extension("txt")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let file = seeds_file(target);
    let text = fs::read_to_string(&file).expect("every target has seeds");
    assert!(text.len() <= SEEDS_BYTES_MAX, "{target} has {} bytes of seeds; cmin and pack them", text.len());
    let lines = text.lines().enumerate().map(|(index, line)| {
        let place = || format!("{}:{}", file.display(), index + 1);
        unescaped(line).unwrap_or_else(|| panic!("{}: a backslash is followed by nothing known", place()))
    });
    lines.collect()
}

/// Writes a file for each input of a target.
pub(crate) fn unpack(target: &str) {
    let corpus = directory().join("corpus").join(target);
    fs::create_dir_all(&corpus).unwrap();
    for (index, data) in inputs(target).into_iter().enumerate() {
        fs::write(corpus.join(format!("seed{index:05}")), data).unwrap();
    }
}

/// Makes a seed of each file of a target that is not too long, in order of length.
pub(crate) fn pack(target: &str) {
    let corpus = fs::read_dir(directory().join("corpus").join(target)).expect("it was unpacked, or fuzzed");
    let mut inputs: Vec<_> = corpus.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    inputs.retain(|data| data.len() <= SEED_BYTES_MAX);
    inputs.sort_by_key(|data| (data.len(), data.clone()));
    inputs.dedup();
    let mut text = String::new();
    for data in inputs {
        writeln!(text, "{}", data.escape_ascii()).expect("a string takes all there is room for");
    }
    fs::write(seeds_file(target), text).unwrap();
}

/// What dialogues send, and what the option tables say, in the form that a target takes.
fn of_this_project(target: &str) -> Vec<Vec<u8>> {
    match target {
        "authfile" => USERS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "decode_binary" => {
            let packets = dialogues().filter(|sent| sent[0] == 0x80);
            packets.map(|sent| [b"\x06\x00", &sent[..]].concat()).collect()
        }
        "decode_classic" => dialogues().map(|sent| [b"\x06\x00", &sent[..]].concat()).collect(),
        "decode_meta" => dialogues().map(|sent| [b"\x06\x00", &as_meta(&sent)[..]].concat()).collect(),
        "rights" => {
            let users =
                (0..4).flat_map(|user| dialogues().map(move |sent| [&[user, 6, 0], &sent[..]].concat()));
            users.collect()
        }
        "session" => {
            let thrown = dialogues().map(|sent| [b"\x80\x06\x00", &sent[..]].concat());
            (0..CHOICES).map(choices).chain(thrown).collect()
        }
        "settings_file" => settings(),
        _ => Vec::new(),
    }
}

/// Choices for the model at random, under the circumstances of this number.
fn choices(number: u8) -> Vec<u8> {
    let mut random = Rng::with_seed(number.into());
    let mut choices = vec![number; 1 + DIALOGUE_BYTES_MAX];
    random.fill(&mut choices[1..]);
    choices
}

/// The example of a settings file, and every option and sub-option as an argument.
fn settings() -> Vec<Vec<u8>> {
    let argument = |row: &Row, before: &str| {
        let value = row.sample.or(row.default).map_or(String::new(), |value| format!("={value}"));
        format!("\0\0\0{before}{}{value}", row.name).into_bytes()
    };
    let options = option_table().iter().map(|row| argument(row, "--"));
    let suboptions = suboption_table().iter().map(|row| argument(row, "-o\0"));
    let variables = [
        "CACHE_SIZE=1g",
        "THREADS=2",
        "MAX_CONNECTIONS=9",
        "MAX_ITEM_SIZE=2m",
        "PORT=tcp://[::1]:1",
        "PORT_NUMBER=1",
        "LISTEN_ADDRESS=[::1]:1",
        "USERNAME=ann",
        "PASSWORD=a:b",
        "MAX_TIMEOUT=5",
        "EXTRA_FLAGS_FILE=/run/flags",
    ];
    let variables =
        variables.iter().map(|variable| format!("\0-v '-P' /pid\0MEMCACHED_{variable}").into_bytes());
    let file = example().replace("\n# -", "\n-").into_bytes();
    options.chain(suboptions).chain(variables).chain([file]).collect()
}

/// What is sent in each of the dialogues.
fn dialogues() -> impl Iterator<Item = Vec<u8>> {
    let dialogues = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"));
    let sent = dialogues.into_iter().map(|dialogue| {
        let sent = dialogue.exchanges.iter().flat_map(|exchange| &exchange.sent);
        sent.filter_map(|sent| sent.message.fill(&Caught::new(), UNIX_SECONDS).ok())
            .collect::<Vec<_>>()
            .concat()
    });
    sent.filter(|sent| !sent.is_empty() && sent.len() <= DIALOGUE_BYTES_MAX)
}

/// With a letter in place of each verb that has one.
fn as_meta(sent: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in sent.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [b'm', letter @ (b'g' | b's' | b'd' | b'a'), b' ', rest @ ..] => {
                lines.push(letter.to_ascii_uppercase());
                lines.extend(rest);
            }
            _ => lines.extend(line),
        }
    }
    lines
}

/// What [`u8::escape_ascii`] has made text of; `None` if it has not.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        data.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte @ (b'\\' | b'\'' | b'"') => byte,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(data)
}

#[test]
fn every_byte_comes_back_from_its_escape() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(unescaped(&all.escape_ascii().to_string()), Some(all));
    for wrong in ["\\", "\\y", "\\x1", "\\xzz"] {
        assert_eq!(unescaped(wrong), None, "{wrong}");
    }
}
