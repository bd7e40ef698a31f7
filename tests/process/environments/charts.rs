//! Clusters: charts and manifests, whose arguments go to the official image.

use super::Environment;

/// Grafana's libraries and charts start Loki's, Mimir's and Tempo's caches so: option and value are one argument.
const GRAFANA: [&str; 5] = ["memcached", "-m 8192", "-I 5m", "-c 16384", "-v"];
const GRAFANAS_SETTINGS: &[(&str, &str)] =
    &[("maxbytes", "8589934592"), ("item_size_max", "5242880"), ("track_sizes", "yes")];

#[test]
fn lokis_and_mimirs_charts() {
    let command = [&GRAFANA[..], &["-u 11211", "--extended=modern,track_sizes"]].concat();
    Environment { command: &command, user: "11211", settings: GRAFANAS_SETTINGS, ..Environment::default() }
        .check();
}

#[test]
fn lokis_chart_with_a_disk() {
    let extended = "--extended=modern,track_sizes,ext_path=/data/file:9G,ext_wbuf_size=16";
    let command = [&GRAFANA[..], &["-u 11211", extended]].concat();
    Environment {
        command: &command,
        user: "11211",
        settings: GRAFANAS_SETTINGS,
        warning: Some("-o ext_* has no effect"),
        ..Environment::default()
    }
    .check();
}

#[test]
fn the_manifests_of_thanos() {
    Environment {
        command: &["memcached", "-m", "8192", "--memory-file=/data/cache", "-u", "11211"],
        user: "11211",
        settings: &[("maxbytes", "8589934592"), ("memory_file", "/data/cache")],
        warning: Some("-e (--memory-file) has no effect"),
        ..Environment::default()
    }
    .check();
}

#[test]
fn the_chart_of_cloudpirates() {
    Environment {
        command: &["memcached", "-m", "64", "-c", "1024", "-t", "4", "-I", "1m", "-v", "-u", "11211"],
        user: "11211",
        settings: &[("maxbytes", "67108864"), ("num_threads", "4"), ("verbosity", "1")],
        ..Environment::default()
    }
    .check();
}
