//! The sub-options of `-o`, a row each.

use std::ffi::OsStr;

use super::Config;
use super::fault::Fault;
use super::given::{COUNT_MAX, Given};
use super::row::{Group, Row, named};
use crate::settings::{Compat, TlsVersion, VerifyMode};

/// The bounds of `hashpower`. Source: memcached.
const HASH_POWER_MIN: i64 = 12;
const HASH_POWER_MAX: i64 = 32;
/// The bounds of `slab_automove_window`. Source: memcached's protocol document and its option check.
const AUTOMOVE_WINDOW_MIN: i64 = 3;
const AUTOMOVE_WINDOW_MAX: i64 = 1800;
/// The longest `lru_crawler_sleep`, in microseconds. Source: memcached.
const CRAWLER_SLEEP_MAX: i64 = 1_000_000;
/// The largest `temporary_ttl`, `idle_timeout` and `tail_repair_time`, in seconds: 68 years.
const SECONDS_MAX: i64 = i32::MAX as i64;
/// The largest size given in KB or MB; it fits 64 bits once it is counted in bytes.
const PIECES_MAX: i64 = u32::MAX as i64;

const NO_SLABS: &str = "There are no slab classes to move memory between.";
const NO_SEGMENT_PERCENT: &str = "The share of each queue is set by the eviction policy itself.";
const NO_FLASH: &str =
    "There is no storage on flash: all items stay in memory, within -m, and a warning says so.";
const NO_FLASH_WARNING: &str = "-o ext_* has no effect: there is no storage on flash, and all items stay in memory, within \
     -m (--memory-limit)";
const NO_PROXY: &str = "The proxy is not there; start a memcached that is built with it.";
const DEAD: &str = "Means nothing in memcached any more either.";

pub(super) static SUBOPTIONS: &[Row] = &[
    sub("maxconns_fast")
        .says("Over the limit of -c, tell a new client so and close. This is the default.")
        .switches(|config| config.settings.maxconns_fast = true),
    sub("no_maxconns_fast")
        .says("Over the limit of -c, leave new clients waiting in the backlog.")
        .switches(|config| config.settings.maxconns_fast = false),
    sub("idle_timeout")
        .takes("SECONDS")
        .default("0")
        .says("Close connections on which nothing was asked for this long, in seconds; 0 is never.")
        .sets(|config, given| {
            given.whole(0..=SECONDS_MAX).map(|seconds| config.settings.idle_seconds_max = seconds)
        }),
    sub("read_buf_mem_limit")
        .takes("MB")
        .sample("256")
        .says(
            "The most memory that unfinished requests and unread replies of all connections may take, in megabytes; 0 is \
             no limit. Without it, that is 64, a quarter of -m or twice -I, whichever is most.",
        )
        .sets(|config, given| {
            let megabytes = given.whole::<u64>(0..=PIECES_MAX);
            megabytes.map(|megabytes| config.settings.read_buffer_bytes_max = Some(megabytes << 20))
        }),
    sub("lru_crawler")
        .says("Look for expired items in the background and free them. This is the default.")
        .switches(|config| config.settings.sweep_enabled = true),
    sub("no_lru_crawler")
        .says("Free expired items only when they are asked for or room is needed.")
        .switches(|config| config.settings.sweep_enabled = false),
    sub("drop_privileges")
        .says(
            "Once started, give up all system calls that are not needed any more, with a filter (seccomp); one of \
             those ends the server with SIGSYS.",
        )
        .switches(|config| config.settings.drop_privileges = true),
    sub("no_drop_privileges")
        .says("Keep all system calls. This is the default.")
        .switches(|config| config.settings.drop_privileges = false),
    sub("protected_mode")
        .says("Without -l and -Y, refuse clients with public addresses. This is the default.")
        .switches(|config| config.settings.protected_mode = true),
    sub("no_protected_mode")
        .says("Without -l and -Y, serve public addresses, too: for images whose port is published on purpose.")
        .switches(|config| config.settings.protected_mode = false),
    sub("relaxed_privileges")
        .accepted("Allows memcached's own tests more; drop_privileges allows one set of system calls only."),
    sub("track_sizes")
        .accepted("stats sizes counts them whenever it is asked.")
        .switches(|config| config.settings.compat.track_sizes = true),
    sub("watcher_logbuf_size")
        .takes("KB")
        .default("256")
        .accepted("The buffer of a watcher has a fixed bound.")
        .sets(|config, given| {
            let kilobytes = given.whole::<u64>(0..=COUNT_MAX);
            kilobytes.map(|kilobytes| config.settings.compat.watcher_logbuf_bytes = kilobytes << 10)
        }),
    sub("worker_logbuf_size")
        .takes("KB")
        .default("64")
        .accepted("Workers hand events to watchers without a buffer of their own.")
        .sets(|config, given| {
            let kilobytes = given.whole::<u64>(0..=COUNT_MAX);
            kilobytes.map(|kilobytes| config.settings.compat.worker_logbuf_bytes = kilobytes << 10)
        }),
    sub("hashpower").takes("N").default("16").accepted("The index grows as needed.").sets(hash_power),
    sub("no_hashexpand").accepted("The index grows as needed."),
    sub("hash_algorithm")
        .takes("NAME")
        .default("murmur3")
        .accepted("Keys are hashed with a random seed, so that nobody can choose keys that collide.")
        .sets(hash_algorithm),
    sub("tail_repair_time")
        .takes("SECONDS")
        .accepted("No item can be held in memory by a leaked reference.")
        .sets(tail_repair),
    sub("slab_reassign").accepted(NO_SLABS).switches(|config| config.settings.compat.slab_reassign = true),
    sub("no_slab_reassign")
        .accepted(NO_SLABS)
        .switches(|config| config.settings.compat.slab_reassign = false),
    sub("slab_automove").takes("0|1|2").or_stands_alone().default("1").accepted(NO_SLABS).sets(slab_automove),
    sub("no_slab_automove").accepted(NO_SLABS).switches(|config| config.settings.compat.slab_automove = 0),
    sub("slab_automove_ratio").takes("RATIO").default("0.8").accepted(NO_SLABS).sets(|config, given| {
        let ratio = given.above(0.0, "slab_automove_ratio must be > 0");
        ratio.map(|ratio| config.settings.compat.slab_automove_ratio = ratio)
    }),
    sub("slab_automove_window").takes("N").default("10").accepted(NO_SLABS).sets(|config, given| {
        let range = AUTOMOVE_WINDOW_MIN..=AUTOMOVE_WINDOW_MAX;
        compat(config, given, range, |compat| &mut compat.slab_automove_window)
    }),
    sub("slab_automove_freeratio").takes("RATIO").default("0.01").accepted(NO_SLABS),
    sub("slab_sizes").takes("SIZES").accepted("There are no slab classes whose sizes could be chosen."),
    sub("slab_chunk_max").takes("KB").default("512").accepted("Items are not cut into chunks.").sets(
        |config, given| {
            let kilobytes = given.whole::<u64>(1..=PIECES_MAX);
            kilobytes.map(|kilobytes| config.settings.compat.slab_chunk_bytes_max = kilobytes << 10)
        },
    ),
    sub("no_chunked_items").accepted(DEAD),
    sub("inline_ascii_resp").accepted(DEAD),
    sub("no_inline_ascii_resp").accepted(DEAD),
    sub("modern").accepted(DEAD),
    sub("no_modern")
        .says("The defaults of memcached 1.4: no_maxconns_fast, no_lru_crawler, and what stats settings shows.")
        .switches(|config| config.settings.predate_modern()),
    sub("lru_crawler_sleep")
        .takes("MICROSECONDS")
        .default("100")
        .accepted("The search for expired items works in small slices, without a pause to set.")
        .sets(crawler_sleep),
    sub("lru_crawler_tocrawl")
        .takes("N")
        .default("0")
        .says("Look through no more than so many items at one lru_crawler crawl; 0 is all of them.")
        .sets(|config, given| {
            compat(config, given, 0..=PIECES_MAX, |compat| &mut compat.lru_crawler_tocrawl)
        }),
    sub("lru_maintainer")
        .accepted("There is no maintenance thread.")
        .switches(|config| config.settings.compat.lru_maintainer = true),
    sub("no_lru_maintainer")
        .accepted("There is no maintenance thread.")
        .switches(|config| config.settings.compat.lru_maintainer = false),
    sub("hot_lru_pct").takes("PERCENT").default("20").accepted(NO_SEGMENT_PERCENT).sets(|config, given| {
        let percent = given.whole_or(1..=79, "hot_lru_pct must be >= 1 and < 80");
        percent.map(|percent| config.settings.compat.hot_lru_percent = percent)
    }),
    sub("warm_lru_pct").takes("PERCENT").default("40").accepted(NO_SEGMENT_PERCENT).sets(|config, given| {
        let percent = given.whole_or(1..=79, "warm_lru_pct must be >= 1 and < 80");
        percent.map(|percent| config.settings.compat.warm_lru_percent = percent)
    }),
    sub("hot_max_factor").takes("NUM").default("0.2").accepted(NO_SEGMENT_PERCENT).sets(|config, given| {
        let factor = given.above(0.0, "hot_max_factor must be > 0");
        factor.map(|factor| config.settings.compat.hot_max_factor = factor)
    }),
    sub("warm_max_factor").takes("NUM").default("2.0").accepted(NO_SEGMENT_PERCENT).sets(|config, given| {
        let factor = given.above(0.0, "warm_max_factor must be > 0");
        factor.map(|factor| config.settings.compat.warm_max_factor = factor)
    }),
    sub("temporary_ttl").takes("SECONDS").accepted("Items that expire soon are evicted like others.").sets(
        |config, given| {
            let seconds = given.whole(0..=SECONDS_MAX);
            seconds.map(|seconds| config.settings.compat.temporary_ttl = Some(seconds))
        },
    ),
    sub("resp_obj_mem_limit").takes("MB").accepted("Deprecated by memcached; use read_buf_mem_limit."),
    sub("sock_cookie_id").takes("N").accepted("Sockets carry no cookie for packet filters."),
    sub("ssl_chain_cert")
        .takes("FILE")
        .sample("/etc/memcached/server.pem")
        .says("With -Z, the server's certificate and those that lead to its issuer, in PEM.")
        .sets(|config, given| given.path().map(|path| config.settings.tls.chain_cert = Some(path))),
    sub("ssl_key")
        .takes("FILE")
        .sample("/etc/memcached/server.key")
        .says("The private key of that certificate, in PEM; without it, it is looked for in ssl_chain_cert.")
        .sets(|config, given| given.path().map(|path| config.settings.tls.key = Some(path))),
    sub("ssl_verify_mode")
        .takes("0|1|2|3")
        .default("0")
        .says("Client certificates: 0 asks for none, 1 asks for one and does without, 2 and 3 require one.")
        .sets(verify_mode),
    sub("ssl_keyformat")
        .takes("PEM")
        .default("PEM")
        .says("The format of the private key; there is only PEM, for which memcached also says 1.")
        .sets(|_, given| match &*given.shown() {
            "PEM" | "pem" | "1" => Ok(()),
            _ => Err(given.refused("keys are read as PEM; openssl pkey makes PEM of other formats")),
        }),
    sub("ssl_ciphers")
        .takes("LIST")
        .accepted("The ciphers are those of rustls, all with forward secrecy; a warning says so at every start.")
        .sets(|config, given| given.word().map(|list| config.settings.tls.ciphers = Some(list))),
    sub("ssl_ca_cert")
        .takes("FILE")
        .sample("/etc/memcached/clients-ca.pem")
        .says("Those whose client certificates are good, in PEM; needed where a client certificate is required.")
        .sets(|config, given| given.path().map(|path| config.settings.tls.ca_cert = Some(path))),
    sub("ssl_session_cache")
        .says("Remember sessions so that clients without tickets can resume them, too, and those with certificates.")
        .switches(|config| config.settings.tls.session_cache = true),
    sub("ssl_min_version")
        .takes("0|1|2|3")
        .default("2")
        .says("The oldest TLS spoken: 2 is 1.2, 3 is 1.3; 0 and 1 mean 2, with a warning.")
        .sets(min_version),
    sub("ssl_wbuf_size")
        .takes("KB")
        .default("16")
        .accepted("What is to be encrypted is buffered no longer than a turn.")
        .sets(|config, given| {
            let kilobytes = given.whole::<u64>(0..=PIECES_MAX);
            kilobytes.map(|kilobytes| config.settings.tls.write_buffer_bytes = kilobytes << 10)
        }),
    sub("ssl_kernel_tls")
        .accepted("Encryption is done by the server itself, not by the kernel.")
        .switches(|config| config.settings.tls.kernel_tls = true),
    flash("ext_path").takes("FILE:SIZE"),
    flash("ext_page_size").takes("MB"),
    flash("ext_wbuf_size").takes("MB"),
    flash("ext_threads").takes("N"),
    flash("ext_io_depth").takes("N"),
    flash("ext_item_size").takes("BYTES"),
    flash("ext_item_age").takes("SECONDS"),
    flash("ext_low_ttl").takes("SECONDS"),
    flash("ext_recache_rate").takes("N"),
    flash("ext_compact_under").takes("N"),
    flash("ext_drop_under").takes("N"),
    flash("ext_max_sleep").takes("MICROSECONDS"),
    flash("ext_max_frag").takes("RATIO"),
    flash("ext_drop_unread"),
    sub("proxy_config").takes("FILE").refused(NO_PROXY),
    sub("proxy_arg").takes("TEXT").refused(NO_PROXY),
    sub("proxy_uring").refused(NO_PROXY),
    sub("proxy_memprofile").refused(NO_PROXY),
];

const fn sub(name: &'static str) -> Row {
    named(name, Group::Extended)
}

/// A sub-option of memcached's storage on flash. A cache that holds less is better than none, so the start goes on.
const fn flash(name: &'static str) -> Row {
    sub(name).accepted(NO_FLASH).warns(NO_FLASH_WARNING)
}

/// Gives each sub-option of one `-o` its effect, in order: the last wins. As with getsubopt, a value behind a
/// sub-option that takes none is ignored.
pub(super) fn apply(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    for piece in given.shown().split(',').filter(|piece| !piece.is_empty()) {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (piece, None),
        };
        let row = SUBOPTIONS.iter().find(|row| row.name == name);
        let row = row.ok_or_else(|| Fault::UnknownSuboption(name.to_owned()))?;
        if row.value.is_some() && !row.value_is_optional && value.is_none_or(str::is_empty) {
            return Err(Fault::SuboptionValueMissing { name: row.name, usage: row.usage() });
        }
        row.apply(config, &Given { row, text: OsStr::new(value.unwrap_or_default()), nth: 0 })?;
    }
    Ok(())
}

/// Keeps a whole number for `stats settings`.
fn compat(
    config: &mut Config,
    given: &Given<'_>,
    range: std::ops::RangeInclusive<i64>,
    field: fn(&mut Compat) -> &mut u32,
) -> Result<(), Fault> {
    given.whole(range).map(|number| *field(&mut config.settings.compat) = number)
}

fn hash_power(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let complaint = match given.number().parse::<i64>() {
        Ok(power @ ..HASH_POWER_MIN) => format!("Initial hashtable multiplier of {power} is too low"),
        Ok(power) => format!("Initial hashtable multiplier of {power} is too high"),
        Err(_) => "Initial hashtable multiplier is no number".to_owned(),
    };
    let complaint = format!("{complaint}, {HASH_POWER_MIN} to {HASH_POWER_MAX} is possible");
    let power = given.whole_or(HASH_POWER_MIN..=HASH_POWER_MAX, complaint)?;
    config.settings.compat.hash_power_init = power;
    Ok(())
}

fn hash_algorithm(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let name = given.shown();
    if !["jenkins", "murmur3", "xxh3"].contains(&&*name) {
        return Err(given.bad("Unknown hash_algorithm option (jenkins, murmur3, xxh3)"));
    }
    config.settings.compat.hash_algorithm = name.into_owned();
    Ok(())
}

fn tail_repair(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let seconds = given.whole_or(10..=SECONDS_MAX, "Cannot set tail_repair_time to less than 10 seconds")?;
    config.settings.compat.tail_repair_seconds = seconds;
    Ok(())
}

fn slab_automove(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    config.settings.compat.slab_automove = match given.text.is_empty() {
        true => 1,
        false => given.whole_or(0..=2, "slab_automove must be between 0 and 2")?,
    };
    Ok(())
}

fn crawler_sleep(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let complaint = "LRU crawler sleep must be between 0 and 1 second, in microseconds";
    config.settings.compat.lru_crawler_sleep = given.whole_or(0..=CRAWLER_SLEEP_MAX, complaint)?;
    Ok(())
}

fn verify_mode(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let complaint = "Invalid ssl_verify_mode. 0, 1, 2 and 3 are possible";
    config.settings.tls.verify_mode = match given.whole_or::<u8>(0..=3, complaint)? {
        0 => VerifyMode::None,
        1 => VerifyMode::Request,
        2 => VerifyMode::Require,
        _ => VerifyMode::Once,
    };
    Ok(())
}

fn min_version(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let version = given.whole_or::<u8>(0..=3, "Invalid ssl_min_version. 0, 1, 2 and 3 are possible")?;
    config.settings.tls.min_version = if version == 3 { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    if version < 2 {
        config.warnings.push(format!(
            "-o ssl_min_version={version} means 2 here: versions of TLS before 1.2 are not spoken, for they are not safe"
        ));
    }
    Ok(())
}
