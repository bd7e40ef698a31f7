//! What the tests fetch from registries: into a directory under the target directory, and again when the pinned versions
//! change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use super::{needs, target, tests};

/// Something from a registry.
pub(crate) struct Fetched {
    /// The one it was fetched with, which it may not outlive.
    program: &'static str,
    directory: &'static str,
    /// Which versions: files beside the tests.
    lists: &'static [&'static str],
    fetch: fn(&Path) -> Result<(), String>,
    /// Where whoever needs it looks for it, and what it looks for.
    pub variable: &'static str,
    pub path: &'static str,
    /// What is wanting where it cannot be fetched.
    pub need: &'static needs::Need,
    made: OnceLock<Result<PathBuf, String>>,
}

/// The clients written in Python, Python itself, and what runs the tests.
pub(crate) static PYTHON: Fetched = Fetched {
    program: "python3",
    directory: "clients-venv",
    lists: &["requirements.txt"],
    fetch: |directory| {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory))?;
        pip(directory, "requirements.txt", &[])
    },
    variable: "VIRTUAL_ENV",
    path: "",
    need: &needs::PYPI,
    made: OnceLock::new(),
};

/// On its own, for it must be compiled for many a version of Python.
pub(crate) static PYLIBMC: Fetched = Fetched {
    program: "python3",
    directory: "clients-pylibmc",
    lists: &["requirements-pylibmc.txt"],
    fetch: |directory| {
        // Else pip would leave what is there as it is.
        let _ = fs::remove_dir_all(directory);
        pip(&target().join(PYTHON.directory), "requirements-pylibmc.txt", &["--target".as_ref(), directory])
    },
    variable: "PYTHONPATH",
    path: "",
    need: &needs::PYLIBMC,
    made: OnceLock::new(),
};

/// The clients of node.
pub(crate) static NODE: Fetched = Fetched {
    program: "node",
    directory: "clients-node",
    lists: &["package.json", "package-lock.json"],
    fetch: |directory| {
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        for list in ["package.json", "package-lock.json"] {
            fs::copy(tests().join(list), directory.join(list)).map_err(|error| error.to_string())?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]);
        finish(npm.current_dir(directory))?;
        Ok(())
    },
    variable: "NODE_PATH",
    path: "node_modules",
    need: &needs::NPM_REGISTRY,
    made: OnceLock::new(),
};

/// The crate `memcache` and its scenarios, compiled.
pub(crate) static MEMCACHE_CRATE: Fetched = Fetched {
    program: "cargo",
    directory: "clients-memcache-crate",
    lists: &["memcache_crate/Cargo.toml", "memcache_crate/Cargo.lock", "memcache_crate/scenarios.rs"],
    fetch: |directory| {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--quiet", "--target-dir"]).arg(directory);
        finish(cargo.arg("--manifest-path").arg(tests().join("memcache_crate/Cargo.toml")))?;
        Ok(())
    },
    variable: "MEMCACHE_SCENARIOS",
    path: "debug/memcache-scenarios",
    need: &needs::CRATES_IO,
    made: OnceLock::new(),
};

impl Fetched {
    /// The directory it is in, or why there is none.
    pub(crate) fn directory(&self) -> Result<&Path, &str> {
        self.made.get_or_init(|| self.make()).as_deref().map_err(String::as_str)
    }

    fn make(&self) -> Result<PathBuf, String> {
        let directory = target().join(self.directory);
        // Other programs of tests may want the same at the same moment.
        let lock = target().join(format!("{}.lock", self.directory));
        let lock = File::create(lock).map_err(|error| error.to_string())?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;

        let mut wanted = finish(Command::new(self.program).arg("--version"))?;
        for list in self.lists {
            wanted += &fs::read_to_string(tests().join(list)).map_err(|error| error.to_string())?;
        }
        let stamp = directory.join("ferrocached.stamp");
        if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
            return Ok(directory);
        }
        let lists = self.lists.join(" and ");
        needs::say_at_once(&format!("clients: fetching what {lists} ask for, which may take a minute"));
        let since = Instant::now();
        (self.fetch)(&directory)
            .inspect_err(|why| needs::say_at_once(&format!("clients: could not fetch it: {why}")))?;
        // Last, so that what was left half made is made again.
        fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
        needs::say_at_once(&format!(
            "clients: fetched it within {:.0} s",
            since.elapsed().as_secs_f32().ceil()
        ));
        Ok(directory)
    }
}

fn pip(environment: &Path, list: &str, options: &[&Path]) -> Result<(), String> {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1"]);
    finish(pip.args(options).arg("--requirement").arg(tests().join(list)))?;
    Ok(())
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
