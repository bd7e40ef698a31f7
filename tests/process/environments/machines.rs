//! Machines: what configuration management and distributions make of their settings.

use super::Environment;
use crate::needs;
use crate::server::BINARY;

#[test]
fn puppets_modules_whose_unit_knows_no_redirection() {
    let one = "-l 127.0.0.1 -p 11211 -U 11211 -u memcached -m 950 -c 8192 -t 4 -I 1m -v -P /var/run/memcached.pid >> \
               /var/log/memcached.log 2>&1";
    let other = "-p 11211 -u memcached -m 64 -c 1024 -l 0.0.0.0 -t 2 -U 11211 >> /var/log/memcached/memcached.log 2>&1";
    for (arguments, bytes) in [(one, "996147200"), (other, "67108864")] {
        let command: Vec<_> = ["memcached"].into_iter().chain(arguments.split(' ')).collect();
        Environment {
            command: &command,
            user: "memcached",
            settings: &[("maxbytes", bytes)],
            warning: Some("ignored: no option is meant by it"),
            ..Environment::default()
        }
        .check();
    }
}

#[test]
fn sous_chefs_cookbook() {
    for arguments in ["-U 11211 -l 0.0.0.0", "-m 64 -U 11211 -p 11211 -u memcached -l 0.0.0.0 -c 1024 -I 1m"]
    {
        let command: Vec<_> =
            ["memcached", "-u", "memcached"].into_iter().chain(arguments.split(' ')).collect();
        Environment {
            command: &command,
            user: "memcached",
            settings: &[("maxbytes", "67108864"), ("inter", "0.0.0.0")],
            ..Environment::default()
        }
        .check();
    }
}

/// /etc/memcached.conf as geerlingguy's role for Ansible fills it in.
const GEERLINGGUYS_FILE: &str = "\
# {{ ansible_managed }}

# Run memcached as a daemon.
-d

logfile /var/log/memcached.log

# Verbosity
-v

-m 64
-p 11211
-u memcache
-l 127.0.0.1
-c 1024
-t 4
-I 1m
-P /var/run/memcached/memcached.pid
";

#[test]
fn geerlingguys_role_by_debians_wrapper() {
    let environment = Environment {
        command: &["/usr/share/memcached/scripts/systemd-memcached-wrapper", "{here}/memcached.conf"],
        files: &[("memcached.conf", GEERLINGGUYS_FILE)],
        user: "memcache",
        settings: &[("maxbytes", "67108864"), ("inter", "127.0.0.1"), ("item_size_max", "1048576")],
        ..Environment::default()
    };
    // The wrapper serves root alone, so somebody else can only have the file read as it reads it.
    let by_ourselves =
        Environment { command: &["memcached", "--config", "{here}/memcached.conf"], ..environment };
    by_ourselves.check();
    if needs::are_there(&[&needs::DEBIANS_MEMCACHED]) {
        environment.check_as_root(&format!("mount --bind {BINARY} /usr/bin/memcached &&"));
    }
}

#[test]
fn red_hats_unit_with_its_sysconfig() {
    let with_options = |options, inter| {
        Environment {
            // Systemd splits what has no braces around it, and no more; so does a shell here.
            command: &[
                "sh",
                "-c",
                "exec memcached -p ${PORT} -u ${USER} -m ${CACHESIZE} -c ${MAXCONN} $OPTIONS",
            ],
            variables: &[
                ("PORT", "11211"),
                ("USER", "memcached"),
                ("MAXCONN", "1024"),
                ("CACHESIZE", "64"),
                ("OPTIONS", options),
            ],
            user: "memcached",
            settings: &[("maxbytes", "67108864"), ("maxconns", "1024"), ("inter", inter)],
            ..Environment::default()
        }
        .check();
    };
    with_options("", "NULL");
    if needs::are_there(&[&needs::IPV6]) {
        with_options("-l 127.0.0.1,::1", "127.0.0.1,::1");
    }
}
