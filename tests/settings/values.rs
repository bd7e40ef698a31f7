//! Values at their limits, and what is said about those beyond.

use ferrocached::settings::ListenAddress;

use super::{ConfFile, config, config_of, config_with, settings, stop, stop_of};

#[test]
fn bad_values_stop_the_start_with_the_words_and_exit_codes_of_memcached() {
    for (line, exit_code, words) in [
        ("-q", 1, "Illegal argument \"q\""),
        ("-dq", 1, "Illegal argument \"q\""),
        ("-1", 1, "Illegal argument \"1\""),
        ("--nonsense", 1, "Illegal argument \"--nonsense\""),
        ("--nonsense=5", 1, "Illegal argument \"--nonsense\""),
        (
            "--disable=5",
            1,
            "Illegal argument \"--disable\": it could be --disable-evictions or --disable-cas",
        ),
        ("-p", 1, "-p (--port) needs a value: write -p, --port=NUM"),
        ("--conn", 1, "-c (--conn-limit) needs a value"),
        ("-dc", 1, "-c (--conn-limit) needs a value"),
        ("--config", 1, "--config needs a value: write --config=FILE"),
        ("--daemon=1", 1, "-d (--daemon) takes no value"),
        ("-p x", 1, "A port from 1 to 65535 is needed"),
        ("-p -2", 1, "A port from 1 to 65535 is needed"),
        ("-p 65536", 1, "-p (--port) was given \"65536\""),
        ("--port=", 1, "-p (--port) was given \"\""),
        ("-U -2", 1, "A port from 1 to 65535 is needed"),
        ("-U 65536", 1, "-U (--udp-port) was given \"65536\""),
        ("-a 8", 1, "Permission bits from 0 to 777 are needed"),
        ("-a 1777", 1, "-a (--unix-mask)"),
        ("-s=", 1, "A path is needed: -s (--unix-socket)"),
        ("-b -1", 1, "-b (--listen-backlog)"),
        ("-m lots", 1, "A size is needed, such as 64m or 2g: -m (--memory-limit) was given \"lots\""),
        ("-m -1", 1, "-m (--memory-limit)"),
        ("-m 64x", 1, "-m (--memory-limit)"),
        ("-m 64Mix", 1, "-m (--memory-limit)"),
        ("-m 64iM", 1, "-m (--memory-limit)"),
        ("-m 1.5g", 1, "-m (--memory-limit)"),
        ("-m 1073741825", 1, "No machine has that much memory"),
        ("-m 99999999999999999999", 1, "-m (--memory-limit)"),
        ("-c 0", 1, "Maximum connections must be greater than 0"),
        ("-c -5", 1, "Maximum connections must be greater than 0"),
        ("-c 2147483648", 1, "Less than 2147483647 is possible: -c (--conn-limit)"),
        ("-c many", 1, "Maximum connections must be greater than 0: -c (--conn-limit) was given \"many\""),
        ("-t -1", 1, "Number of threads must be greater than 0"),
        ("-t 4097", 1, "-t (--threads)"),
        ("-R 0", 1, "Number of requests per event must be greater than 0"),
        ("-f 1", 1, "Factor must be greater than 1"),
        ("-f nan", 1, "Factor must be greater than 1"),
        ("-n 0", 1, "Chunk size must be greater than 0"),
        ("-N x", 1, "-N (--napi-ids)"),
        ("-B foo", 64, "Invalid value for binding protocol: foo -- -B (--protocol) should be one of auto"),
        ("-m 2k -I 1k", 64, "-m (--memory-limit) is 2048 bytes and has to be at least 1048576"),
        ("-m 1023k -I 1k", 64, "without a suffix the number counts megabytes"),
        ("-I 1023", 64, "Item max size cannot be less than 1024 bytes: -I (--max-item-size)"),
        ("-m 4g -I 1073741825", 64, "Cannot set item size limit higher than a gigabyte"),
        ("-I x", 1, "A size is needed"),
        ("--log-format xml", 1, "The format is text or json: --log-format was given \"xml\""),
        ("-o nonsense", 1, "Illegal suboption \"nonsense\""),
        ("-o modern,nonsense=5", 1, "Illegal suboption \"nonsense\""),
        ("-o idle_timeout", 1, "Missing idle_timeout argument: write -o idle_timeout=SECONDS"),
        ("-o idle_timeout=", 1, "Missing idle_timeout argument"),
        ("-o idle_timeout=soon", 1, "-o idle_timeout was given \"soon\""),
        ("-o idle_timeout=-1", 1, "-o idle_timeout was given \"-1\""),
        ("-o read_buf_mem_limit=x", 1, "-o read_buf_mem_limit"),
        ("-o hashpower=40", 1, "Initial hashtable multiplier of 40 is too high"),
        ("-o hashpower=11", 1, "Initial hashtable multiplier of 11 is too low"),
        ("-o hash_algorithm=md5", 1, "Unknown hash_algorithm option (jenkins, murmur3, xxh3)"),
        ("-o tail_repair_time=9", 1, "Cannot set tail_repair_time to less than 10 seconds"),
        ("-o slab_automove=3", 1, "slab_automove must be between 0 and 2"),
        ("-o slab_automove_window=2", 1, "-o slab_automove_window"),
        ("-o lru_crawler_sleep=1000001", 1, "LRU crawler sleep must be between 0 and 1 second"),
        ("-o hot_lru_pct=80", 1, "hot_lru_pct must be"),
        ("-o warm_lru_pct=0", 1, "warm_lru_pct must be"),
        ("-o hot_lru_pct=41", 64, "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"),
        ("-o hot_max_factor=0", 1, "hot_max_factor must be > 0"),
        ("-o warm_max_factor=x", 1, "warm_max_factor must be > 0"),
    ] {
        let stop = stop(line);
        assert!(stop.message.contains(words), "{line}: {stop}");
        assert_eq!(stop.exit_code, exit_code, "{line}: {stop}");
        assert!(!stop.message.contains('\n') && !stop.message.ends_with('.'), "{line}: {stop}");
    }
}

#[test]
fn addresses_of_listen_come_in_many_shapes() {
    fn check(text: &str, expected: &[(&str, Option<u16>)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(host, port)| ListenAddress {
                host: (*host).to_owned(),
                port: *port,
                ..ListenAddress::everywhere()
            })
            .collect();
        let mut listen = settings(&format!("-l {text}")).listen;
        // Which protocol they speak is told in options.rs.
        listen.iter_mut().for_each(|entry| entry.protocol = None);
        assert_eq!(listen, expected, "{text}");
    }
    check("127.0.0.1", &[("127.0.0.1", None)]);
    check("127.0.0.1:11212", &[("127.0.0.1", Some(11212))]);
    check("localhost:11212;*", &[("localhost", Some(11212)), ("*", None)]);
    check("::1", &[("::1", None)]);
    check("::", &[("::", None)]);
    check("fe80::1%eth0", &[("fe80::1%eth0", None)]);
    check("[::1]", &[("::1", None)]);
    check("[::1]:11212", &[("::1", Some(11212))]);
    check("10.0.0.1,[::]:1;10.0.0.2:2,", &[("10.0.0.1", None), ("::", Some(1)), ("10.0.0.2", Some(2))]);
    check("*:11212", &[("*", Some(11212))]);
    check("proto[ascii]:10.0.0.1:5", &[("10.0.0.1", Some(5))]);
    check("proto[negotiating]:[::1]:5", &[("::1", Some(5))]);
    check("tag[web]:127.0.0.1:5,tag_name_:10.0.0.1", &[("127.0.0.1", Some(5)), ("10.0.0.1", None)]);
    check("proto[ascii]:tag[a]:[::1]:5;tag_a_b_:proto[ascii]:*", &[("::1", Some(5)), ("*", None)]);
    check("tag_host:5", &[("tag_host", Some(5))]);
    let notes = config("-l tag[web]:127.0.0.1,tag_app_:[::1]").notes;
    let tags = ["web", "app"].map(|tag| {
        format!("the tag {tag:?} of -l (--listen) has no effect: it is for the routes of memcached's proxy")
    });
    assert_eq!(notes, tags);
}

#[test]
fn addresses_that_are_none_and_prefixes_that_ask_for_too_much_are_refused() {
    for (text, exit_code, words) in [
        (",", 1, "An address is needed"),
        (":11211", 1, "An address is needed before the port"),
        ("host:", 1, "Invalid port number: \"\""),
        ("host:x", 1, "Invalid port number: \"x\""),
        ("host:65536", 1, "Invalid port number: \"65536\""),
        ("a:b:c", 1, "Invalid port number: \"b:c\""),
        ("[::1", 1, "Invalid IPV6 address"),
        ("[host]:1", 1, "Invalid IPV6 address"),
        ("[::1]1", 1, "Only a :port can follow"),
        ("notls:mtls:127.0.0.1", 1, "only have one of notls:, btls: and mtls:"),
        ("proto[proxy]:127.0.0.1", 64, "the proxy is not there"),
        ("proto[morse]:127.0.0.1", 1, "There is no such protocol"),
        ("proto[ascii]127.0.0.1", 1, "A protocol is written as in proto[ascii]:"),
        ("proto[ascii]:", 1, "An address is needed"),
        ("tag[x]127.0.0.1", 1, "A tag is written as in tag[name]:"),
        ("tag[]:127.0.0.1", 1, "A tag is written as in tag[name]:"),
        ("tag__:127.0.0.1", 1, "A tag is written as in tag[name]:"),
        ("tag[x]:", 1, "An address is needed"),
    ] {
        let stop = stop(&format!("-l {text}"));
        assert_eq!(stop.exit_code, exit_code, "{text}");
        assert!(stop.message.contains(words), "{text}: {stop}");
        assert!(stop.message.contains("-l (--listen)"), "{text}: {stop}");
    }
}

#[test]
fn sizes_have_units() {
    let memory = |text: &str| settings(&format!("-I 1k -m {text}")).memory_bytes;
    for text in [
        "1024",
        "1024m",
        "1024M",
        "1024MB",
        "1024Mi",
        "1024MiB",
        "1g",
        "1G",
        "1gb",
        "1Gi",
        "1048576k",
        "1048576Ki",
    ] {
        assert_eq!(memory(text), 1 << 30, "{text}");
    }
    let item = |text: &str| settings(&format!("-m 2g -I {text}")).item_bytes_max;
    for (text, bytes) in [
        ("1024", 1024),
        ("1k", 1024),
        ("100k", 100 << 10),
        ("1500K", 1500 << 10),
        ("3m", 3 << 20),
        ("1024M", 1 << 30),
        ("1g", 1 << 30),
        ("5Mi", 5 << 20),
        ("512Ki", 512 << 10),
    ] {
        assert_eq!(item(text), bytes, "{text}");
    }
}

#[test]
fn an_item_must_fit_half_of_memory() {
    assert_eq!(settings("-m 2 -I 1m").item_bytes_max, 1 << 20);
    assert_eq!(settings("-I 512k -m 1").memory_bytes, 1 << 20);
    for line in ["-m 1", "-m 0", "-m 2 -I 1048577", "-I 33m"] {
        let stop = stop(line);
        assert_eq!(stop.exit_code, 64, "{line}");
        let words = "Cannot set item size limit higher than 1/2 of memory max: -I (--max-item-size)";
        assert!(stop.message.starts_with(words), "{line}: {stop}");
    }
}

#[test]
fn threads_may_be_as_many_as_there_are_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    for text in ["0", "auto"] {
        let config = config(&format!("-t {text}"));
        assert_eq!(config.settings.threads, processors, "{text}");
        assert!(config.warnings.is_empty(), "{text}");
    }
    assert!(config("-t 64").warnings.is_empty());
    assert!(config("-t 4095").warnings[0].starts_with("Setting a high number of worker threads"));
}

#[test]
fn white_space_around_a_number_is_skipped_in_every_source() {
    for arguments in [
        &[
            "-m 8192", "-I 5m", "-c 16384", "-t 2", "-p 11311", "-U 0", "-R 30", "-b 4096", "-a 0755",
            "-f 1.5",
        ][..],
        &["-n 96", "-N 3", "-o", "idle_timeout= 60,hashpower= 20,slab_chunk_max=\t1024", "-u 11211"],
        &[
            "-m\t8192",
            "--max-item-size= 5m",
            "--threads=\u{b}2",
            "-t auto",
            "-m 64 ",
            "-o",
            "hot_max_factor= .3",
        ],
    ] {
        let without = |argument: &&str| argument.replace([' ', '\t', '\u{b}'], "");
        let tight: Vec<String> = arguments.iter().map(without).collect();
        let tight: Vec<&str> = tight.iter().map(String::as_str).collect();
        assert_eq!(config_of(arguments), config_of(&tight), "{arguments:?}");
    }
    for (name, value) in [
        ("MEMCACHED_CACHE_SIZE", " 128"),
        ("MEMCACHED_CACHE_SIZE", "128\n"),
        ("MEMCACHED_EXTRA_FLAGS", "'-m 128'"),
    ] {
        assert_eq!(config_with("", &[(name, value)]).settings.memory_bytes, 128 << 20, "{name}={value:?}");
    }
    let file = ConfFile::new("spaces", "-m \" 128\"\n-c' 99' -o 'idle_timeout= 60'\n");
    let settings = config(&file.option()).settings;
    assert_eq!((settings.memory_bytes, settings.connections_max), (128 << 20, 99));
    assert_eq!(settings.idle_seconds_max, 60);
    // Within a number it is none.
    for argument in ["-m 6 4", "-c 1 0", "-I 1 m", "-m ", "-c "] {
        assert_eq!(stop_of(&[argument]).exit_code, 1, "{argument:?}");
    }
}
