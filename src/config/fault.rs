//! Errors in options, variables and settings files.
//!
//! Where memcached has the same error, the message begins with memcached's words, so that scripts which search for them
//! still work; the option and the remedy follow.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Stop;

/// `EX_USAGE` of sysexits.h: options that are impossible, alone or together.
const EXIT_USAGE: u8 = 64;
/// A bad value, or an option that does not exist.
const EXIT_FAILURE: u8 = 1;
/// `EX_OSERR` of sysexits.h: memcached ends so where `-l` cannot be listened on.
const EXIT_SYSTEM: u8 = 71;

#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("Illegal argument \"{0}\": -h lists the options")]
    UnknownOption(String),
    #[error("Illegal argument \"{given}\": it could be {candidates}; write more of the name")]
    AmbiguousOption { given: String, candidates: String },
    #[error("{flag} needs a value: write {usage}")]
    ValueMissing { flag: String, usage: String },
    #[error("{flag} takes no value: write {usage}")]
    ValueSuperfluous { flag: String, usage: String },
    #[error("{0}")]
    Unreadable(String),
    #[error("Illegal suboption \"{0}\": -h lists those of -o")]
    UnknownSuboption(String),
    #[error("Missing {name} argument: write -o {usage}")]
    SuboptionValueMissing { name: &'static str, usage: String },
    #[error("{complaint}: {flag} was given \"{text}\"")]
    BadValue { complaint: String, flag: String, text: String },
    #[error("yes or no is needed: \"{0}\" is neither")]
    NeitherYesNorNo(String),
    #[error("{complaint}: {flag} was given \"{text}\"")]
    ImpossibleValue { complaint: String, flag: String, text: String },
    #[error(
        "Invalid value for binding protocol: {0} -- -B (--protocol) should be one of auto, binary or ascii"
    )]
    UnknownProtocol(String),
    #[error(
        "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.: -Y (--auth-file) and \
         MEMCACHED_PASSWORD want -B (--protocol) ascii, or no -B; or -S (--enable-sasl), by which binary clients log in"
    )]
    AuthFileWithBinary,
    #[error(
        "Cannot use UDP with ascii authentication enabled (-U 0 to disable): leave out -U (--udp-port), or -Y (--auth-file) and \
         MEMCACHED_PASSWORD"
    )]
    AuthFileWithUdp,
    #[error(
        "ERROR: You cannot allow the ASCII protocol while using SASL.: -S (--enable-sasl) wants -B (--protocol) binary, or \
         -Y (--auth-file) or MEMCACHED_PASSWORD beside it, as whose users text clients log in with -B auto"
    )]
    SaslWithAscii,
    #[error(
        "Cannot enable UDP while using binary SASL authentication.: leave out -U (--udp-port), or -S (--enable-sasl)"
    )]
    SaslWithUdp,
    #[error(
        "-S (--enable-sasl) needs users: give -Y (--auth-file), or MEMCACHED_SASL_PWDB with the name of a file of lines \
         user:password, or MEMCACHED_USERNAME and MEMCACHED_PASSWORD; Cyrus SASL and its sasldb are not used"
    )]
    SaslWithoutUsers,
    #[error("{flag}: {remark}")]
    Refused { flag: String, remark: String },
    #[error(
        "Cannot set item size limit higher than 1/2 of memory max: -I (--max-item-size) is {item} bytes and \
         -m (--memory-limit) {memory}; lower the one or raise the other"
    )]
    ItemExceedsHalf { item: u64, memory: u64 },
    #[error(
        "-m (--memory-limit) is {memory} bytes and has to be at least {least}; without a suffix the number counts \
         megabytes"
    )]
    MemoryTooSmall { memory: u64, least: u64 },
    #[error(
        "hot_lru_pct + warm_lru_pct cannot be more than 80% combined: they are {percent}%; lower one of them"
    )]
    HotAndWarm { percent: u32 },
    #[error(
        "'{prefix}' option is valid only when SSL is enabled: give -Z (--enable-ssl) or leave out the prefix"
    )]
    PrefixWithoutTls { prefix: &'static str },
    #[error("ERROR: You cannot enable SSL without a TCP port: leave out -p 0 or -Z (--enable-ssl)")]
    TlsWithoutTcp,
    #[error(
        "Error loading the certificate chain: -Z (--enable-ssl) needs one; give -o ssl_chain_cert=FILE,ssl_key=FILE"
    )]
    NoCertificate,
    #[error("{named_by} {path} cannot be read: {error}; name a file this user can read", path = path.display())]
    FileUnreadable { named_by: String, path: PathBuf, error: io::Error },
    #[error("the file is empty, where the password should be")]
    PasswordEmpty,
    #[error("--config cannot stand in a settings file: write the options of the other file into this one")]
    FileInFile,
    #[error("a quote is opened and not closed in: {0}")]
    QuoteOpen(String),
}

impl Fault {
    fn exit_code(&self) -> u8 {
        match self {
            Fault::ImpossibleValue { .. }
            | Fault::UnknownProtocol(_)
            | Fault::AuthFileWithBinary
            | Fault::AuthFileWithUdp
            | Fault::SaslWithAscii
            | Fault::SaslWithUdp
            | Fault::SaslWithoutUsers
            | Fault::Refused { .. }
            | Fault::ItemExceedsHalf { .. }
            | Fault::MemoryTooSmall { .. }
            | Fault::TlsWithoutTcp
            | Fault::NoCertificate
            | Fault::HotAndWarm { .. } => EXIT_USAGE,
            Fault::PrefixWithoutTls { .. } => EXIT_SYSTEM,
            Fault::UnknownOption(_)
            | Fault::AmbiguousOption { .. }
            | Fault::ValueMissing { .. }
            | Fault::ValueSuperfluous { .. }
            | Fault::Unreadable(_)
            | Fault::UnknownSuboption(_)
            | Fault::SuboptionValueMissing { .. }
            | Fault::BadValue { .. }
            | Fault::FileUnreadable { .. }
            | Fault::FileInFile
            | Fault::PasswordEmpty
            | Fault::NeitherYesNorNo(_)
            | Fault::QuoteOpen(_) => EXIT_FAILURE,
        }
    }

    /// The error that ends the start, with the name of its source in front unless that is the command line.
    pub(super) fn stop(&self, source: Option<&str>) -> Stop {
        let message = match source {
            Some(source) => format!("{source}: {self}"),
            None => self.to_string(),
        };
        Stop { message: one_line(&message), exit_code: self.exit_code() }
    }
}

/// The text with control characters escaped: it quotes arguments, and has to stay one line of a log.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
