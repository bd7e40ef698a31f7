//! The clients and tools people use, against the real binary: each file of `tests/clients` is one test here.
//!
//! They run in a virtual environment under `target/clients-venv`, made again when the pinned versions change.
//! `FERROCACHED_TEST_SERVER` names another server binary to test.
//!
//! Rule: nothing is left out in silence. What cannot run fails, unless `FERROCACHED_WITHOUT_PYTHON=1`,
//! `FERROCACHED_WITHOUT_TELNET=1`, `FERROCACHED_WITHOUT_TOOLS=1` or `FERROCACHED_WITHOUT_TWEMPROXY=1` says that
//! its absence is known; then a line on standard error tells so. Under `CI=true` those four are ignored.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the tests of one file may take. The longest take about 15 seconds on two busy cores.
const RUN_TIME_MAX: Duration = Duration::from_secs(180);
/// How long pytest may take to stop its servers when it is interrupted.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(20);

#[test]
fn flask_with_python_memcached() {
    run("test_flask_python_memcached.py");
}

#[test]
fn pymemcache_cache_aside() {
    run("test_pymemcache_cache_aside.py");
}

#[test]
fn dict_wrapper() {
    run("test_dict_wrapper.py");
}

#[test]
fn sql_rows() {
    run("test_sql_rows.py");
}

#[test]
fn hash_client_survives_a_death() {
    run("test_hash_client.py");
}

#[test]
fn meta_commands() {
    run("test_meta.py");
}

#[test]
fn tls() {
    run("test_tls.py");
}

#[test]
fn telnet_session() {
    if has_program("telnet", "inetutils-telnet", "FERROCACHED_WITHOUT_TELNET") {
        run("test_telnet.py");
    }
}

#[test]
fn administrators_tools() {
    if has_program("memcstat", "libmemcached-tools", "FERROCACHED_WITHOUT_TOOLS") {
        run("test_tools.py");
    }
}

#[test]
fn dumps_beside_writers() {
    run("test_dump.py");
}

#[test]
fn many_nodes_behind_twemproxy() {
    if has_program("nutcracker", "nutcracker", "FERROCACHED_WITHOUT_TWEMPROXY") {
        run("test_many_nodes_twemproxy.py");
    }
}

#[test]
fn key_prefixes() {
    run("test_key_prefixes.py");
}

#[test]
fn logging_in() {
    run("test_login.py");
}

#[test]
fn abuse_goes_unnoticed() {
    run("test_abuse.py");
}

#[test]
fn every_file_of_tests_is_run() {
    let source = include_str!("clients.rs");
    let mut files = 0;
    for entry in fs::read_dir(tests()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("test_") && name.ends_with(".py") {
            assert!(source.contains(&format!("run(\"{name}\")")), "{name} has no test in clients.rs");
            files += 1;
        }
    }
    assert!(files > 0);
}

/// Runs one file of tests; panics with all its output unless they ran, all of them, and passed.
#[track_caller]
fn run(file: &str) {
    let python = match environment() {
        Ok(python) => python,
        Err(why) => return leave_out(why, "python3 with venv, and PyPI, or", "FERROCACHED_WITHOUT_PYTHON"),
    };
    let server = env::var_os("FERROCACHED_TEST_SERVER")
        .unwrap_or_else(|| OsStr::new(env!("CARGO_BIN_EXE_ferrocached")).to_owned());
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stem = file.trim_end_matches(".py");
    let output = scratch.join(format!("clients-{stem}.out"));
    let report = scratch.join(format!("clients-{stem}.xml"));
    // A report of an earlier run must not speak for this one.
    let _ = fs::remove_file(&report);

    let words = File::create(&output).unwrap();
    let mut pytest = Command::new(python);
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

/// The python of an environment that holds what `requirements.txt` asks for, or why there is none.
fn environment() -> Result<&'static Path, &'static str> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = PYTHON.get_or_init(make_environment);
    python.as_deref().map_err(String::as_str)
}

fn make_environment() -> Result<PathBuf, String> {
    let directory = target().join("clients-venv");
    let python = directory.join("bin/python");
    let requirements = tests().join("requirements.txt");

    // Other test processes may want the same environment at the same moment.
    let lock = File::create(target().join("clients-venv.lock")).map_err(|error| error.to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;

    // An environment does not survive a change of python either, so its version is part of the stamp.
    let version = finish(Command::new("python3").arg("--version"))?;
    let wanted = version + &fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let stamp = directory.join("ferrocached.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    finish(pip.arg(&requirements))?;
    // Last, so that an environment left half made is made again.
    fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Runs a command to its end; gives what it said, or as the error what it could not do.
fn finish(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{shown}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn has_program(name: &str, package: &str, known_absent: &str) -> bool {
    // Debian keeps daemons in /usr/sbin, which an ordinary user's PATH leaves out.
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).chain(["/usr/sbin".into()]).any(|place| place.join(name).is_file());
    if !found {
        let remedy = format!("Debian's package {package}, or");
        leave_out(&format!("{name} is not on the PATH"), &remedy, known_absent);
    }
    found
}

/// Panics, unless the absence is known and this is not CI: then says on standard error what did not run.
#[track_caller]
fn leave_out(why: &str, remedy: &str, known_absent: &str) {
    let is_set = |name: &str, value: &str| env::var_os(name).is_some_and(|set| set == value);
    assert!(!is_set("CI", "true"), "clients: NOT RUN, and CI=true asks for all: {why}");
    assert!(is_set(known_absent, "1"), "clients: NOT RUN: {why}\nProvide {remedy} set {known_absent}=1.");
    #[expect(clippy::explicit_write, reason = "the harness hides what eprintln! says in a test that passes")]
    writeln!(io::stderr(), "clients: NOT RUN: {why}").unwrap();
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
