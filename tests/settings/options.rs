//! Telling arguments apart, and what each option does.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ferrocached::config::{
    Config, LogFormat, Parsed, Row, Verdict, help, option_table, parse, suboption_table,
};
use ferrocached::settings::{Compat, Protocol, Settings, TcpPort, VERSION};

use super::{config, config_with, hosts, parsed, settings, shown, stop};

#[test]
fn without_arguments_everything_is_as_memcached_has_it() {
    assert_eq!(config(""), Config::default());
    assert_eq!(settings(""), Settings::default());
    let no_arguments_at_all = parse([], &|_| None);
    assert!(matches!(no_arguments_at_all, Ok(Parsed::Run(config)) if *config == Config::default()));
}

#[test]
fn each_option_that_is_implemented_has_its_effect() {
    fn check(line: &str, change: fn(&mut Config)) {
        let mut expected = Config::default();
        change(&mut expected);
        assert_eq!(config(line), expected, "{line}");
    }
    check("-p 11311", |c| c.settings.port = TcpPort::Fixed(11311));
    check("-p -1", |c| c.settings.port = TcpPort::Ephemeral);
    check("--port=-1", |c| c.settings.port = TcpPort::Ephemeral);
    check("-a 0777", |c| c.settings.unix_mask = 0o777);
    check("-b 4096", |c| c.settings.backlog = 4096);
    check("-m 1024", |c| c.settings.memory_bytes = 1 << 30);
    check("-M", |c| c.settings.evictions_enabled = false);
    check("-I 2m", |c| c.settings.item_bytes_max = 2 << 20);
    check("-k", |c| c.process.lock_memory = true);
    check("-C", |c| c.settings.cas_enabled = false);
    check("-c 10", |c| c.settings.connections_max = 10);
    check("-t 8", |c| c.settings.threads = 8);
    check("-R 200", |c| c.settings.requests_per_event = 200);
    check("-B auto", |c| c.protocol_is_given = true);
    fn ascii(config: &mut Config) {
        config.settings.protocol = Protocol::Ascii;
        config.protocol_is_given = true;
    }
    check("-B ascii", ascii);
    check("-Y /etc/users", |c| {
        c.settings.protocol = Protocol::Ascii;
        c.settings.auth_file = Some("/etc/users".into());
    });
    check("-Y /etc/users -B ascii", |c| {
        ascii(c);
        c.settings.auth_file = Some("/etc/users".into());
    });
    check("-A", |c| c.settings.shutdown_enabled = true);
    check("-F", |c| c.settings.flush_enabled = false);
    check("-X", |c| c.settings.dump_enabled = false);
    check("-W", |c| c.settings.watch_enabled = false);
    check("-d", |c| c.process.daemonize = true);
    check("-u nobody", |c| c.process.user = Some("nobody".to_owned()));
    check("-P /run/x.pid", |c| c.process.pidfile = Some("/run/x.pid".into()));
    check("-r", |c| c.process.coredumps = true);
    check("-v", |c| c.settings.verbosity = 1);
    check("-vvv", |c| c.settings.verbosity = 3);
    check("--log-format json", |c| c.process.log_format = LogFormat::Json);
    check("-D /.", |c| (c.settings.prefix_delimiter, c.settings.detail_enabled) = (b'/', true));
    check("-o no_maxconns_fast", |c| c.settings.maxconns_fast = false);
    check("-o idle_timeout=60", |c| c.settings.idle_seconds_max = 60);
    check("-o read_buf_mem_limit=0", |c| c.settings.read_buffer_bytes_max = Some(0));
    check("-o read_buf_mem_limit=8", |c| c.settings.read_buffer_bytes_max = Some(8 << 20));
    check("-o no_lru_crawler", |c| c.settings.sweep_enabled = false);
}

#[test]
fn arguments_are_told_apart_as_getopt_long_does() {
    for line in ["-m64", "-m 64", "--memory-limit=64", "--memory-limit 64", "--mem=64", "--memory-l 64"] {
        assert_eq!(settings(&format!("-m 128 {line}")).memory_bytes, 64 << 20, "{line}");
    }
    let bundled = config("-dvvp11311 -Mk");
    assert!(bundled.process.daemonize && bundled.process.lock_memory && !bundled.settings.evictions_enabled);
    assert_eq!((bundled.settings.verbosity, bundled.settings.port), (2, TcpPort::Fixed(11311)));
    // A value may begin with a dash, and what is no option is ignored wherever it stands.
    assert_eq!(config("-u -v").process.user.as_deref(), Some("-v"));
    for (line, without, ignored) in [
        ("stray -m 32 stray 2>&1 -v >>", "-m 32 -v", r#""stray" "stray" "2>&1" ">>""#),
        ("-m 32 -- -v --nonsense", "-m 32", r#""-v" "--nonsense""#),
        ("- -m 32", "-m 32", r#""-""#),
    ] {
        let mut expected = config(without);
        expected.warnings.push(format!("{ignored} ignored: no option is meant by it"));
        assert_eq!(config(line), expected, "{line}");
    }
    let from_variable = config_with("", &[("MEMCACHED_EXTRA_FLAGS", "-v stray")]).warnings;
    assert_eq!(from_variable, [r#"MEMCACHED_EXTRA_FLAGS: "stray" ignored: no option is meant by it"#]);
}

#[test]
fn abbreviations_of_memcached_stay_unambiguous() {
    assert_eq!(settings("--con 9 --c=8 --co=7").connections_max, 7);
    assert!(config("--lo").process.lock_memory);
    assert_eq!(settings("--pr ascii").protocol, Protocol::Ascii);
    assert_eq!(settings("--th=2").threads, 2);
    assert_eq!(settings("--verb --verbose -v").verbosity, 3);
    assert_eq!(hosts(&config("--listen ::1")), ["::1"], "a whole name is no abbreviation of listen-backlog");
}

#[test]
fn the_last_of_repeated_options_wins_and_listen_accumulates() {
    let line = "-m 64 -p 1 -l a -m 128 -p 2 -l b,c -o idle_timeout=1 -o idle_timeout=2,idle_timeout=3";
    let config = config(line);
    assert_eq!(config.settings.memory_bytes, 128 << 20);
    assert_eq!(config.settings.port, TcpPort::Fixed(2));
    assert_eq!(hosts(&config), ["a", "b", "c"]);
    assert_eq!(config.settings.idle_seconds_max, 3);
    assert!(settings("-o no_lru_crawler,lru_crawler").sweep_enabled);
    assert!(!settings("-o maxconns_fast -o no_maxconns_fast").maxconns_fast);
    assert_eq!(stop("-c 0 -c 5").exit_code, 1, "a bad value is one even when a good one follows");
}

#[test]
fn getsubopt_is_followed_where_it_is_lenient() {
    assert_eq!(settings("-o slab_automove").compat.slab_automove, 1);
    assert_eq!(settings("-o no_slab_automove").compat.slab_automove, 0);
    assert_eq!(config("-o modern,"), config("-o modern"));
    assert!(!settings("-o no_lru_crawler=1").sweep_enabled, "a value nobody asked for is not looked at");
}

#[test]
fn bytes_that_are_no_text_are_a_path_and_nothing_else() {
    let run = |arguments: &[&[u8]]| {
        let arguments = arguments.iter().map(|bytes| OsString::from_vec(bytes.to_vec()));
        parse([OsString::from("memcached")].into_iter().chain(arguments), &|_| None)
    };
    let path = PathBuf::from(OsString::from_vec(b"/run/\xff".to_vec()));
    let Ok(Parsed::Run(config)) = run(&[b"-s", b"/run/\xff", b"\xff"]) else { panic!("it runs") };
    assert_eq!(config.settings.unix_socket, Some(path));
    for (arguments, words) in [
        ([b"-m".as_slice(), b"\xff"], "A size is needed"),
        ([b"-u", b"\xff"], "A name is needed"),
        ([b"-D", b""], "No delimiter specified"),
        ([b"-v", b"--\xff"], ""),
        ([b"-v", b"-\xff"], ""),
        ([b"-v", b"-v\xff"], ""),
    ] {
        let stop = run(&arguments).unwrap_err();
        assert_eq!(stop.exit_code, 1, "{stop}");
        assert!(stop.message.starts_with(words), "{stop}");
    }
}

#[test]
fn a_unix_socket_turns_tcp_off() {
    let alone = config("-s /run/m.sock");
    assert_eq!(alone.settings.unix_socket.as_deref(), Some(Path::new("/run/m.sock")));
    assert_eq!(alone.settings.port, TcpPort::Off);
    assert!(alone.notes.is_empty() && alone.warnings.is_empty());
    let besides = config("-p 11212 -s /run/m.sock");
    assert_eq!(besides.settings.port, TcpPort::Off);
    assert_eq!(besides.notes.len(), 1);
    // That may be meant: sockets can be handed in.
    assert!(config("-p 0").warnings.is_empty());
}

#[test]
fn udp_is_off_unless_asked_for_and_tcp_goes_along_with_it() {
    for (line, port, udp_port) in [
        ("", TcpPort::Fixed(11211), None),
        ("-U 0", TcpPort::Fixed(11211), None),
        ("-U 11300", TcpPort::Fixed(11300), Some(11300)),
        ("-U -1", TcpPort::Ephemeral, Some(0)),
        ("-U 11300 -p 11211", TcpPort::Fixed(11211), Some(11300)),
        ("-p 11400 -U 11300", TcpPort::Fixed(11400), Some(11300)),
        ("-p 0 -U 11300", TcpPort::Off, Some(11300)),
        ("-s /run/m.sock -U 11300", TcpPort::Off, None),
    ] {
        let config = config(line);
        assert_eq!((config.settings.port, config.settings.udp_port), (port, udp_port), "{line}");
        assert!(config.warnings.is_empty(), "{line}: {:?}", config.warnings);
        let is_turned_off = line.contains("-s ");
        assert_eq!(
            config.notes,
            if is_turned_off { vec!["-s (--unix-socket) turns UDP off: -U has no effect"] } else { vec![] }
        );
    }
    let from_variable = config_with("-U 11300", &[("MEMCACHED_PORT", "11211")]);
    assert_eq!(from_variable.settings.port, TcpPort::Fixed(11211));
}

#[test]
fn what_does_not_go_together_or_is_not_there_stops_the_start() {
    for (line, words) in [
        ("-Y /etc/auth -U 11211", "Cannot use UDP with ascii authentication enabled (-U 0 to disable)"),
        ("-S", "-S (--enable-sasl) needs users"),
        ("-S -Y /etc/auth -B ascii", "ERROR: You cannot allow the ASCII protocol while using SASL."),
        ("-Y /etc/auth -l proto[binary]:127.0.0.1", "ERROR: You cannot allow the BINARY protocol"),
        (
            "-Y /etc/auth -B auto",
            "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.",
        ),
        ("-o ssl_keyformat=2", "-o ssl_keyformat 2: keys are read as PEM"),
        ("-o proxy_config=/x.lua", "-o proxy_config: The proxy is not there"),
    ] {
        let stop = stop(line);
        assert_eq!(stop.exit_code, 64, "{line}");
        assert!(stop.message.starts_with(words), "{line}: {stop}");
    }
}

#[test]
fn users_and_sasl_say_which_protocols_there_are() {
    for (line, protocol, sasl_enabled) in [
        ("", Protocol::Auto, false),
        ("-B binary", Protocol::Binary, false),
        ("-Y /etc/auth", Protocol::Ascii, false),
        ("-S -Y /etc/auth", Protocol::Auto, true),
        ("-S -Y /etc/auth -B auto", Protocol::Auto, true),
        ("-S -Y /etc/auth -B binary", Protocol::Binary, true),
    ] {
        let settings = config(line).settings;
        assert_eq!((settings.protocol, settings.sasl_enabled), (protocol, sasl_enabled), "{line}");
    }
    let listen = config(
        "-l proto[binary]:127.0.0.1,notls:proto[negotiating]:[::1]:9,127.0.0.2 -Z -o ssl_chain_cert=/c",
    );
    let protocols: Vec<_> = listen.settings.listen.iter().map(|entry| entry.protocol).collect();
    assert_eq!(protocols, [Some(Protocol::Binary), Some(Protocol::Auto), None]);
}

#[test]
fn every_row_does_what_its_verdict_says() {
    // A value for those rows that have neither a default nor a sample.
    let value = |row: &Row| match row.name {
        "tail_repair_time" | "temporary_ttl" => "61",
        _ => row.default.or(row.sample).unwrap_or("1"),
    };
    for row in option_table().iter().chain(suboption_table()) {
        if ["config", "generate", "help", "license", "manual", "version"].contains(&row.name) {
            continue;
        }
        let is_suboption = suboption_table().iter().any(|suboption| suboption.name == row.name);
        let line = match (is_suboption, row.value) {
            (true, Some(_)) => format!("-o {}={}", row.name, value(row)),
            (true, None) => format!("-o {}", row.name),
            (false, Some(_)) => format!("--{} {}", row.name, value(row)),
            (false, None) if row.name == "enable-sasl" => "-S -Y /etc/auth".to_owned(),
            (false, None) if row.name == "enable-ssl" => "-Z -o ssl_chain_cert=/c.pem".to_owned(),
            (false, None) => format!("--{}", row.name),
        };
        let parsed = parsed(&line, &[]);
        match row.verdict {
            Verdict::Refused => assert_eq!(parsed.expect_err(&line).exit_code, 64, "{line}"),
            Verdict::Implemented => assert!(config(&line).notes.is_empty(), "{line}"),
            Verdict::Accepted => {
                let config = config(&line);
                let said = [config.notes, config.warnings].concat();
                let is_warned = row.name == "memory-file" || row.name.starts_with("ext_");
                let words = match is_warned {
                    true => "has no effect: ".to_owned(),
                    false => format!("{} is accepted without effect: ", row.flag()),
                };
                // A warning of TLS that is off is about all of its sub-options.
                let said: Vec<_> = said.iter().filter(|line| !line.contains("ssl_*")).collect();
                assert!(said.len() == 1 && said[0].contains(&words), "{line}: {said:?}");
            }
        }
        // Giving the delimiter turns stats detail on, whichever it is.
        if row.default.is_some() && row.name != "stats-delimiter" {
            assert_eq!(config(&line).settings, Settings::default(), "{line} gives the default");
            assert_eq!(config(&line).process, Config::default().process, "{line} gives the default");
        }
    }
    assert_eq!(settings("-D :").prefix_delimiter, Settings::default().prefix_delimiter);
}

#[test]
fn rows_are_unique_and_all_of_memcached_is_there() {
    let names: Vec<&str> = option_table().iter().chain(suboption_table()).map(|row| row.name).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    let letters: HashSet<char> = option_table().iter().filter_map(|row| row.letter).collect();
    let letters_of_memcached: HashSet<char> = "abcdefhiklmnoprstuvABCDFILMNPRSUVWXYZ".chars().collect();
    assert_eq!(letters, letters_of_memcached);
    for row in option_table().iter().chain(suboption_table()) {
        assert!(row.remark.ends_with('.') && row.remark.len() > 1, "{} says what it is", row.name);
    }
}

#[test]
fn options_without_effect_are_kept_for_stats_settings() {
    let config = config(
        "-f 2 -n 96 -N 3 -L -o hashpower=20,no_slab_reassign,slab_automove=2,slab_automove_ratio=.5 \
         -o slab_automove_window=30,slab_chunk_max=1024,lru_crawler_sleep=5,lru_crawler_tocrawl=7 \
         -o tail_repair_time=10,hash_algorithm=xxh3,no_lru_maintainer,hot_lru_pct=10,warm_lru_pct=30 \
         -o hot_max_factor=.3,warm_max_factor=3,temporary_ttl=61,watcher_logbuf_size=1,worker_logbuf_size=2 \
         -o track_sizes",
    );
    let compat = &config.settings.compat;
    assert_eq!((compat.growth_factor, compat.chunk_bytes, compat.napi_ids), (2.0, 96, 3));
    assert_eq!((compat.hash_power_init, compat.hash_algorithm.as_str()), (20, "xxh3"));
    assert_eq!((compat.slab_reassign, compat.slab_automove, compat.slab_automove_ratio), (false, 2, 0.5));
    assert_eq!((compat.slab_automove_window, compat.slab_chunk_bytes_max), (30, 1 << 20));
    assert_eq!((compat.lru_crawler_sleep, compat.lru_crawler_tocrawl), (5, 7));
    assert_eq!((compat.tail_repair_seconds, compat.lru_maintainer), (10, false));
    assert_eq!((compat.hot_lru_percent, compat.warm_lru_percent), (10, 30));
    assert_eq!((compat.hot_max_factor, compat.warm_max_factor), (0.3, 3.0));
    assert_eq!((compat.temporary_ttl, compat.track_sizes), (Some(61), true));
    assert_eq!((compat.watcher_logbuf_bytes, compat.worker_logbuf_bytes), (1 << 10, 2 << 10));
    assert!(config.warnings.is_empty());
}

#[test]
fn no_modern_brings_the_defaults_of_1_4_back() {
    let mut expected = Settings { maxconns_fast: false, sweep_enabled: false, ..Settings::default() };
    expected.compat = Compat {
        slab_reassign: false,
        slab_automove: 0,
        slab_chunk_bytes_max: 1 << 20,
        hash_algorithm: "jenkins".to_owned(),
        lru_maintainer: false,
        lru_segmented: false,
        ..Compat::default()
    };
    assert_eq!(settings("-o no_modern"), expected);
    assert_eq!(settings("-o no_modern,modern"), expected, "modern means nothing any more");
    let some_again = settings("-o no_modern,lru_crawler,maxconns_fast");
    assert!(some_again.sweep_enabled && some_again.maxconns_fast, "what is said behind it counts");
}

#[test]
fn what_memcached_keeps_elsewhere_stays_in_memory_with_one_warning() {
    let flash = config(
        "-o ext_path=/data/file:9G,ext_path=/data/file2:2G:compact,ext_wbuf_size=16,ext_page_size=8,ext_threads=2 \
         -o ext_item_size=512,ext_item_age=60,ext_low_ttl=60,ext_recache_rate=1,ext_compact_under=2,ext_drop_under=1 \
         -o ext_io_depth=1,ext_max_sleep=5,ext_max_frag=.9,ext_drop_unread",
    );
    assert!(flash.warnings.len() == 1 && flash.warnings[0].contains("all items stay in memory"), "{flash:?}");
    assert!(flash.notes.is_empty());
    for line in ["-e /data/cache", "--memory-file=/data/cache"] {
        let config = config(line);
        assert!(
            config.warnings.len() == 1 && config.warnings[0].contains("empty cache"),
            "{line}: {config:?}"
        );
        assert_eq!(config.settings.compat.memory_file.as_deref(), Some(Path::new("/data/cache")));
    }
}

#[test]
fn the_last_word_about_system_calls_counts() {
    for (options, restricted) in [
        ("-m 64", false),
        ("-o drop_privileges", true),
        ("-o drop_privileges,no_drop_privileges", false),
        ("-o no_drop_privileges -o drop_privileges,relaxed_privileges", true),
    ] {
        let config = config(options);
        assert_eq!(config.settings.drop_privileges, restricted, "{options}");
        assert!(config.warnings.is_empty(), "{options}");
    }
}

#[test]
fn what_docker_users_write_starts() {
    let config = config("-m 256 -o modern -I 4m -U 0");
    assert_eq!(config.settings.memory_bytes, 256 << 20);
    assert_eq!(config.settings.item_bytes_max, 4 << 20);
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
}

#[test]
fn help_version_and_license_are_shown_before_anything_is_judged() {
    assert_eq!(shown("-V"), format!("memcached {VERSION}\n"));
    assert!(VERSION.starts_with("1.6.45-ferrocached-"));
    assert_eq!(shown("--vers -c 0 -Z"), shown("-V"));
    assert_eq!(shown("-m 64 -i"), include_str!("../../LICENSE"));
    assert_eq!(shown("-h"), help());
    assert_eq!(shown("--help -V"), help());
    let in_spite_of_the_environment = parsed("-V", &[("MEMCACHED_EXTRA_FLAGS", "--nonsense")]);
    assert!(matches!(in_spite_of_the_environment, Ok(Parsed::Show(_))));
}

#[test]
fn buffers_are_bounded_unless_somebody_wants_otherwise() {
    let check =
        |line: &str, megabytes: u64| assert_eq!(settings(line).buffer_bytes_max(), megabytes << 20, "{line}");
    check("", 64);
    check("-m 8", 64);
    check("-m 1g", 256);
    check("-m 1g -I 200m", 400);
    check("-m 1g -o read_buf_mem_limit=8", 8);
    check("-m 1g -o read_buf_mem_limit=0", 0);
}
