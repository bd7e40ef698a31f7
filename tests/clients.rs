//! The clients and tools people use, against the real binary: each file of `tests/clients` is one test here.
//!
//! They run in a virtual environment under the target directory. `FERROCACHED_TEST_SERVER` names another server binary
//! to test.

#[path = "clients/fetched.rs"]
mod fetched;
mod needs;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use fetched::{Fetched, MEMCACHE_CRATE, NODE, PYLIBMC, PYTHON};

/// How long the tests of one file may take. The longest take about 15 seconds on two busy cores.
const RUN_TIME_MAX: Duration = Duration::from_secs(180);
/// How long pytest may take to stop its servers when it is interrupted.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(20);

#[test]
fn flask_with_python_memcached() {
    run("test_flask_python_memcached.py", &[]);
}

#[test]
fn readme() {
    run("test_readme.py", &[]);
}

#[test]
fn pymemcache_cache_aside() {
    run("test_pymemcache_cache_aside.py", &[]);
}

#[test]
fn dict_wrapper() {
    run("test_dict_wrapper.py", &[]);
}

#[test]
fn sql_rows() {
    run("test_sql_rows.py", &[]);
}

#[test]
fn hash_client_survives_a_death() {
    run("test_hash_client.py", &[]);
}

#[test]
fn asyncio_clients() {
    run("test_asyncio.py", &[&needs::OPENSSL]);
}

#[test]
fn pylibmc_and_django() {
    run_with("test_pylibmc_django.py", &[&needs::SASL_MODULES], &[&PYLIBMC]);
}

#[test]
fn python_binary_memcached() {
    run("test_bmemcached.py", &[]);
}

#[test]
fn memcached_and_memjs_of_node() {
    run_with("test_node.py", &[&needs::NODE], &[&NODE]);
}

#[test]
fn sessions_and_class_memcached_of_php() {
    run("test_php.py", &[&needs::PHP, &needs::SASL_MODULES]);
}

#[test]
fn spymemcached_of_java() {
    run("test_java.py", &[&needs::SPYMEMCACHED]);
}

#[test]
fn memcache_of_crates_io() {
    run_with("test_memcache_crate.py", &[], &[&MEMCACHE_CRATE]);
}

#[test]
fn meta_commands() {
    run("test_meta.py", &[]);
}

#[test]
fn tls() {
    run("test_tls.py", &[&needs::OPENSSL]);
}

#[test]
fn telnet_session() {
    run("test_telnet.py", &[&needs::TELNET]);
}

#[test]
fn administrators_tools() {
    let needs = [&needs::DEBIANS_MEMCACHED, &needs::LIBMEMCACHED, &needs::SASL_MODULES];
    run("test_tools.py", &needs);
}

#[test]
fn dumps_beside_writers() {
    run("test_dump.py", &[]);
}

#[test]
fn many_nodes_behind_twemproxy() {
    run("test_many_nodes_twemproxy.py", &[&needs::TWEMPROXY]);
}

#[test]
fn key_prefixes() {
    run("test_key_prefixes.py", &[]);
}

#[test]
fn logging_in() {
    run("test_login.py", &[]);
}

#[test]
fn abuse_goes_unnoticed() {
    run("test_abuse.py", &[]);
}

#[test]
fn every_file_of_tests_is_run() {
    let source = include_str!("clients.rs");
    let mut files = 0;
    for entry in fs::read_dir(tests()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("test_") && name.ends_with(".py") {
            assert!(source.contains(&format!("(\"{name}\", ")), "{name} has no test in clients.rs");
            files += 1;
        }
    }
    assert!(files > 0);
}

/// Runs one file of tests; panics with all its output unless they ran, all of them, and passed. Without `needs`, or what
/// all of them need, it is left out.
#[track_caller]
fn run(file: &str, needs: &[&needs::Need]) {
    run_with(file, needs, &[]);
}

/// The same with more than all of them need.
#[track_caller]
fn run_with(file: &str, needs: &[&needs::Need], fetched: &[&Fetched]) {
    if !needs::are_there(&[&[&needs::PYTHON], needs].concat()) {
        return;
    }
    let mut variables = Vec::new();
    for fetched in [&[&PYTHON], fetched].concat() {
        match fetched.directory() {
            Ok(directory) => variables.push((fetched.variable, directory.join(fetched.path))),
            Err(why) => return needs::leave_out(fetched.need, why),
        }
    }
    let server = env::var_os("FERROCACHED_TEST_SERVER")
        .unwrap_or_else(|| OsStr::new(env!("CARGO_BIN_EXE_ferrocached")).to_owned());
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stem = file.trim_end_matches(".py");
    let output = scratch.join(format!("clients-{stem}.out"));
    let report = scratch.join(format!("clients-{stem}.xml"));
    // A report of an earlier run must not speak for this one.
    let _ = fs::remove_file(&report);

    let words = File::create(&output).unwrap();
    let mut pytest = Command::new(variables[0].1.join("bin/python"));
    pytest
        .args(["-m", "pytest", "--verbose", "--durations=5", "--config-file"])
        .arg(tests().join("pytest.ini"))
        .arg("--junit-xml")
        .arg(&report)
        .arg(tests().join(file))
        .env("FERROCACHED_TEST_SERVER", server)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        .env_remove("PYTEST_ADDOPTS")
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .envs(variables)
        .stdin(Stdio::null())
        .stderr(words.try_clone().unwrap())
        .stdout(words);
    let ended = wait(pytest.spawn().unwrap(), RUN_TIME_MAX);

    let output = fs::read(&output).unwrap();
    let output = String::from_utf8_lossy(&output);
    let Some(status) = ended else {
        panic!("{file}: not done within {} s\n{output}", RUN_TIME_MAX.as_secs())
    };
    assert!(status.success(), "{file}: {status}\n{output}");
    let report = fs::read_to_string(report).unwrap();
    assert!(count(&report, "tests") > 0, "{file}: no test was run\n{output}");
    for shortcoming in ["skipped", "failures", "errors"] {
        assert_eq!(count(&report, shortcoming), 0, "{file}: {shortcoming}\n{output}");
    }
}

/// Waits for pytest; past the limit ends it, and gives nothing.
fn wait(mut pytest: Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = wait_kindly(&mut pytest, limit) {
        return Some(status);
    }
    // Interrupted, pytest stops its servers and tells where it was.
    kill(Pid::from_raw(i32::try_from(pytest.id()).unwrap()), Signal::SIGINT).unwrap();
    if wait_kindly(&mut pytest, FAREWELL_TIME_MAX).is_none() {
        pytest.kill().unwrap();
        pytest.wait().unwrap();
    }
    None
}

fn wait_kindly(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// The number that the first suite of a JUnit report gives for `name`.
fn count(report: &str, name: &str) -> u64 {
    let suite = report.split_once("<testsuite ").expect("pytest reports one suite").1;
    let value = suite.split_once(&format!("{name}=\"")).expect("pytest counts everything").1;
    value.split('"').next().unwrap().parse().unwrap()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Cargo's target directory, wherever CARGO_TARGET_DIR or the configuration put it.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo puts tmp into the target directory")
}
