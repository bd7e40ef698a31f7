//! Bitnami's image: what its script makes of its variables, and the variables themselves.

use super::{Environment, HERE};

/// What Bitnami's script makes of its variables.
const BITNAMI: &str = "memcached -u memcached -p 11211 -v -m 128 -c 2000 -t 2 -I 2097152";
/// All of Bitnami's variables.
const BITNAMIS_VARIABLES: [(&str, &str); 10] = [
    ("MEMCACHED_LISTEN_ADDRESS", "127.0.0.1"),
    ("MEMCACHED_PORT_NUMBER", "11211"),
    ("MEMCACHED_USERNAME", "ann"),
    ("MEMCACHED_PASSWORD", "open:sesame:ro"),
    ("MEMCACHED_MAX_ITEM_SIZE", "2097152"),
    ("MEMCACHED_EXTRA_FLAGS", "-o modern -vv"),
    ("MEMCACHED_MAX_TIMEOUT", "5"),
    ("MEMCACHED_CACHE_SIZE", "128"),
    ("MEMCACHED_MAX_CONNECTIONS", "2000"),
    ("MEMCACHED_THREADS", "2"),
];
const BITNAMIS_SETTINGS: &[(&str, &str)] = &[
    ("maxbytes", "134217728"),
    ("inter", "127.0.0.1"),
    ("num_threads", "2"),
    ("item_size_max", "2097152"),
    ("auth_enabled_ascii", "MEMCACHED_PASSWORD"),
];

#[test]
fn bitnamis_image_with_its_arguments_and_variables() {
    Environment {
        command: &BITNAMI.split(' ').collect::<Vec<_>>(),
        variables: &BITNAMIS_VARIABLES,
        user: "memcached",
        settings: BITNAMIS_SETTINGS,
        login: Some("ann open:sesame:ro"),
        ..Environment::default()
    }
    .check();
}

#[test]
fn bitnamis_arguments_without_any_variable() {
    Environment {
        command: &BITNAMI.split(' ').collect::<Vec<_>>(),
        user: "memcached",
        settings: &[("maxbytes", "134217728"), ("item_size_max", "2097152"), ("auth_enabled_ascii", "no")],
        ..Environment::default()
    }
    .check();
}

#[test]
fn bitnamis_variables_alone_and_without_a_user() {
    let variables: Vec<_> =
        BITNAMIS_VARIABLES.into_iter().filter(|(name, _)| *name != "MEMCACHED_USERNAME").collect();
    Environment {
        command: &["memcached", "-u", "memcached"],
        variables: &variables,
        user: "memcached",
        settings: BITNAMIS_SETTINGS,
        login: Some("root open:sesame:ro"),
        ..Environment::default()
    }
    .check();
}

#[test]
fn bitnamis_variables_in_files() {
    let names = BITNAMIS_VARIABLES.map(|(name, _)| (format!("{name}_FILE"), format!("{HERE}/{name}")));
    let variables: Vec<_> = names.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
    let texts = BITNAMIS_VARIABLES
        .map(|(name, value)| (name, format!("{}\n", if value == "11211" { "-1" } else { value })));
    let files: Vec<_> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    Environment {
        command: &["memcached", "-u", "memcached"],
        variables: &variables,
        files: &files,
        user: "memcached",
        settings: BITNAMIS_SETTINGS,
        login: Some("ann open:sesame:ro"),
        ..Environment::default()
    }
    .check();
}
