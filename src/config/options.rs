//! The options, a row each, in the order of the help text.

use std::os::unix::ffi::OsStrExt;

use super::fault::Fault;
use super::given::{COUNT_MAX, Given};
use super::row::{Group, Row, named, option};
use super::{Config, LogFormat, listen, processors, suboptions};
use crate::settings::{Protocol, TcpPort};

/// Permission bits a file can have.
const MODE_MAX: u32 = 0o777;
/// More memory than any machine has; it keeps arithmetic on the limit from overflowing.
const MEMORY_BYTES_MAX: u64 = 1 << 50;
/// The bounds of `-I`, in bytes. Source: memcached.
const ITEM_BYTES_MIN: u64 = 1 << 10;
const ITEM_BYTES_MAX: u64 = 1 << 30;
/// More threads than any machine has use for.
const THREADS_MAX: i64 = 4096;

pub(super) static OPTIONS: &[Row] = &[
    option('p', "port", Group::Listening)
        .takes("NUM")
        .default("11211")
        .says("TCP port to listen on; 0 is none, -1 is one that the system chooses.")
        .sets(port),
    option('U', "udp-port", Group::Listening)
        .takes("NUM")
        .default("0")
        .says(
            "UDP port to listen on, and TCP with it unless -p is given; 0 is none, -1 is one that the system chooses. \
             Public addresses get no answer, unless the one they ask is named by -l.",
        )
        .sets(udp_port),
    option('s', "unix-socket", Group::Listening)
        .takes("PATH")
        .sample("/run/memcached/memcached.sock")
        .says("Listen on this unix socket, and not on TCP.")
        .sets(|config, given| given.path().map(|path| config.settings.unix_socket = Some(path))),
    option('a', "unix-mask", Group::Listening)
        .takes("MODE")
        .default("700")
        .says("Permission bits of the unix socket, in octal.")
        .sets(unix_mask),
    option('l', "listen", Group::Listening)
        .takes("ADDRESS")
        .sample("127.0.0.1")
        .says(
            "Address to listen on, as in 127.0.0.1, [::1]:11212 or localhost; several are separated by commas \
             or given by several -l. Without it, every address is listened on, and clients with public addresses are \
             refused, unless they are asked for a password (-Y) or a certificate.",
        )
        .sets(listen::apply),
    option('b', "listen-backlog", Group::Listening)
        .takes("NUM")
        .default("1024")
        .says("How many connections may wait to be accepted.")
        .sets(|config, given| given.whole(0..=COUNT_MAX).map(|number| config.settings.backlog = number)),
    named("http", Group::Listening)
        .takes("ADDRESS")
        .sample("127.0.0.1:9150")
        .says(
            "Serve /metrics for Prometheus, /healthz and /readyz by HTTP, as in 127.0.0.1:9150, the port of \
             memcached_exporter; a port alone is listened on where -l says.",
        )
        .sets(listen::http),
    option('m', "memory-limit", Group::Memory)
        .takes("SIZE")
        .default("64")
        // memcached calls --mem ambiguous, because of --memory-file.
        .abbreviated(&["mem", "memory"])
        .says("Memory for items and their index, in megabytes, or with a suffix as in 512m or 2Gi.")
        .sets(memory),
    option('M', "disable-evictions", Group::Memory)
        .says("When memory is full, refuse to store instead of evicting what was used least.")
        .switches(|config| config.settings.evictions_enabled = false),
    option('I', "max-item-size", Group::Memory)
        .takes("SIZE")
        .default("1m")
        .says(
            "The most an item may take, in bytes, or with a suffix as in 512k or 4m; from 1k to 1g, and at most \
             half of -m.",
        )
        .sets(item_size),
    option('k', "lock-memory", Group::Memory)
        .abbreviated(&["lo"])
        .says("Keep all memory from being swapped out.")
        .switches(|config| config.process.lock_memory = true),
    option('C', "disable-cas", Group::Memory)
        .says("Do without CAS ids.")
        .switches(|config| config.settings.cas_enabled = false),
    option('L', "enable-largepages", Group::Memory)
        .accepted("Memory that is in use gets huge pages anyway, unless transparent huge pages are set to `never`."),
    option('f', "slab-growth-factor", Group::Memory)
        .takes("NUM")
        .default("1.25")
        .accepted("There are no slab classes whose sizes could grow by a factor.")
        .sets(|config, given| {
            let factor = given.above(1.0, "Factor must be greater than 1");
            factor.map(|factor| config.settings.compat.growth_factor = factor)
        }),
    option('n', "slab-min-size", Group::Memory)
        .takes("BYTES")
        .default("48")
        .accepted("An item takes what it needs; there is no smallest chunk.")
        .sets(|config, given| {
            let bytes = given.count("Chunk size must be greater than 0");
            bytes.map(|bytes| config.settings.compat.chunk_bytes = bytes)
        }),
    option('e', "memory-file", Group::Memory)
        .takes("PATH")
        .accepted("Items are not kept across a restart: each start begins with an empty cache, and a warning says so.")
        .warns(
            "-e (--memory-file) has no effect: items are not kept across a restart, so each start begins with an \
             empty cache",
        )
        .sets(|config, given| given.path().map(|path| config.settings.compat.memory_file = Some(path))),
    option('c', "conn-limit", Group::Connections)
        .takes("NUM")
        .default("1024")
        .abbreviated(&["c", "co", "con"])
        .says("How many connections may be open at once.")
        .sets(|config, given| {
            let number = given.count("Maximum connections must be greater than 0");
            number.map(|number| config.settings.connections_max = number)
        }),
    option('t', "threads", Group::Connections)
        .takes("NUM")
        .default("4")
        .says("Worker threads; 0 or auto is one per processor.")
        .sets(threads),
    option('R', "max-reqs-per-event", Group::Connections)
        .takes("NUM")
        .default("20")
        .says("How many requests of one connection are answered, in batches of up to 64, before others have their turn.")
        .sets(|config, given| {
            let number = given.count("Number of requests per event must be greater than 0");
            number.map(|number| config.settings.requests_per_event = number)
        }),
    option('B', "protocol", Group::Connections)
        .takes("NAME")
        .default("auto")
        .says("The protocol of connections: ascii, binary, or auto, by the first byte of each.")
        .sets(protocol),
    option('N', "napi-ids", Group::Connections)
        .takes("NUM")
        .default("0")
        .accepted("Connections are handed to workers in turn, not by network queue.")
        .sets(|config, given| {
            given.whole(0..=COUNT_MAX).map(|number| config.settings.compat.napi_ids = number)
        }),
    option('A', "enable-shutdown", Group::Permissions)
        .says("Let clients stop the server with the shutdown command.")
        .switches(|config| config.settings.shutdown_enabled = true),
    option('F', "disable-flush-all", Group::Permissions)
        .says("Refuse the commands flush_all and flush_prefix.")
        .switches(|config| config.settings.flush_enabled = false),
    option('X', "disable-dumping", Group::Permissions)
        .says("Refuse what shows keys: stats cachedump, lru_crawler metadump and mgdump, and stats detail, hotkeys and prefixes.")
        .switches(|config| config.settings.dump_enabled = false),
    option('W', "disable-watch", Group::Permissions)
        .says("Refuse the watch command.")
        .switches(|config| config.settings.watch_enabled = false),
    option('S', "enable-sasl", Group::Permissions)
        .says("Have clients of the binary protocol log in by SASL (PLAIN, CRAM-MD5) as the users of -Y, MEMCACHED_SASL_PWDB or MEMCACHED_PASSWORD.")
        .switches(|config| config.settings.sasl_enabled = true),
    option('Y', "auth-file", Group::Permissions)
        .takes("PATH")
        .sample("/etc/memcached.users")
        .says(
            "Serve only clients that log in with a user and password of this file, a line user:password or \
             user:password:rights each; SIGHUP has it read again.",
        )
        .sets(|config, given| given.path().map(|path| config.admit_users_of(path))),
    option('Z', "enable-ssl", Group::Permissions)
        .says(
            "Speak TLS on TCP, with the certificate and key of -o ssl_chain_cert and ssl_key; the prefix notls: \
             before an address of -l leaves TLS out there, btls: asks for no client certificate, mtls: requires one.",
        )
        .switches(|config| config.settings.tls.enabled = true),
    option('d', "daemon", Group::Process)
        .says("Run in the background.")
        .switches(|config| config.process.daemonize = true),
    option('u', "user", Group::Process)
        .takes("NAME")
        .sample("memcache")
        .says("User to become when started as root, by name or number; without it, memcache or else nobody.")
        .sets(|config, given| given.word().map(|name| config.process.user = Some(name))),
    option('P', "pidfile", Group::Process)
        .takes("PATH")
        .sample("/run/memcached/memcached.pid")
        .says("Write the process id to this file; with -d it is removed at the end.")
        .sets(|config, given| given.path().map(|path| config.process.pidfile = Some(path))),
    option('r', "enable-coredumps", Group::Process)
        .says("Raise the limit on the size of core files as far as it goes.")
        .switches(|config| config.process.coredumps = true),
    option('v', "verbose", Group::Information)
        .says(
            "Log connections that come, go and fail, and options without effect; given twice (-vv), also what \
             clients ask and are told.",
        )
        .sets(|config, given| {
            config.settings.verbosity = u8::try_from(given.nth + 1).unwrap_or(u8::MAX);
            Ok(())
        }),
    named("log-format", Group::Information)
        .takes("NAME")
        .default("text")
        .says("How log lines look, text or json.")
        .sets(log_format),
    option('D', "stats-delimiter", Group::Information)
        .takes("CHAR")
        .default(":")
        .says("What ends the prefix of a key in stats detail; giving it turns stats detail on.")
        .sets(prefix_delimiter),
    named("config", Group::Information)
        .takes("FILE")
        .sample("/etc/memcached.conf")
        .says("Read options from this file, one or more a line, as Debian's /etc/memcached.conf has them."),
    option('o', "extended", Group::Information)
        .takes("LIST")
        .sample("idle_timeout=60,no_lru_crawler")
        .says("Sub-options, separated by commas; they are listed below.")
        .sets(suboptions::apply),
    named("manual", Group::Information)
        .takes("TOPIC")
        .or_stands_alone()
        .says("Show this topic of the manual, or the list of topics, and end."),
    named("generate", Group::Information)
        .takes("man")
        .says("Print the whole manual as a page for man(1) and end."),
    named("healthcheck", Group::Information)
        .takes("ADDRESS")
        .or_stands_alone()
        .says("Ask the server on this machine, or at ADDRESS, whether it serves, and end with exit code 0 or 1.")
        .sets(|config, given| {
            config.healthcheck = Some(given.shown().into_owned());
            Ok(())
        }),
    option('h', "help", Group::Information)
        // As they were before other names began so.
        .abbreviated(&["h", "he", "hel"])
        .says("Show this help and end."),
    option('i', "license", Group::Information).says("Show the license and end."),
    option('V', "version", Group::Information).says("Show the version and end."),
];

fn port(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let complaint = "A port from 1 to 65535 is needed, or 0 for none, or -1 for one the system chooses";
    config.settings.port = match given.whole_or::<i64>(-1..=i64::from(u16::MAX), complaint)? {
        0 => TcpPort::Off,
        number => u16::try_from(number).map_or(TcpPort::Ephemeral, TcpPort::Fixed),
    };
    Ok(())
}

fn udp_port(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let complaint = "A port from 1 to 65535 is needed, or 0 for none, or -1 for one the system chooses";
    config.settings.udp_port = match given.whole_or::<i64>(-1..=i64::from(u16::MAX), complaint)? {
        0 => None,
        number => Some(u16::try_from(number).unwrap_or(0)),
    };
    Ok(())
}

fn unix_mask(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let mode = u32::from_str_radix(&given.number(), 8).ok().filter(|mode| *mode <= MODE_MAX);
    config.settings.unix_mask =
        mode.ok_or_else(|| given.bad("Permission bits from 0 to 777 are needed, in octal"))?;
    Ok(())
}

fn memory(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let bytes = given.size(1 << 20)?;
    if bytes > MEMORY_BYTES_MAX {
        return Err(
            given.bad("No machine has that much memory; without a suffix the number counts megabytes")
        );
    }
    config.settings.memory_bytes = bytes;
    Ok(())
}

fn item_size(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    config.settings.item_bytes_max = match given.size(1)? {
        ..ITEM_BYTES_MIN => return Err(given.impossible("Item max size cannot be less than 1024 bytes")),
        bytes @ ITEM_BYTES_MIN..=ITEM_BYTES_MAX => bytes,
        _ => return Err(given.impossible("Cannot set item size limit higher than a gigabyte")),
    };
    Ok(())
}

fn threads(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    if given.number() == "auto" {
        config.settings.threads = processors();
        return Ok(());
    }
    let complaint =
        "Number of threads must be greater than 0 and at most 4096; auto, or 0, is one per processor";
    config.settings.threads = match given.whole_or(0..=THREADS_MAX, complaint)? {
        0 => processors(),
        number => number,
    };
    Ok(())
}

fn protocol(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    config.protocol_is_given = true;
    config.settings.protocol = match &*given.shown() {
        "auto" => Protocol::Auto,
        "ascii" => Protocol::Ascii,
        "binary" => Protocol::Binary,
        other => return Err(Fault::UnknownProtocol(other.to_owned())),
    };
    Ok(())
}

fn log_format(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    config.process.log_format = match &*given.shown() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err(given.bad("The format is text or json")),
    };
    Ok(())
}

fn prefix_delimiter(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let Some(first) = given.text.as_bytes().first() else { return Err(given.bad("No delimiter specified")) };
    config.settings.prefix_delimiter = *first;
    config.settings.detail_enabled = true;
    Ok(())
}
