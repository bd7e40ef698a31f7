//! What was left out, kept in files until the last program of the run tells of it, and the line that tells it.
//!
//! A run is the process that started the programs of tests, cargo: its number, and when it began, for numbers are
//! given again.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::parent_id;
use std::path::Path;

use super::INSTALL;

/// A test, and one of the things it needed in vain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeftOut {
    pub program: String,
    pub test: String,
    pub what: String,
    pub brings: String,
}

/// Says what was left out and what brings it.
pub(crate) fn line(left_out: &BTreeSet<LeftOut>) -> String {
    if left_out.is_empty() {
        return "left out: nothing".to_owned();
    }
    let tests: BTreeSet<_> = left_out.iter().map(|one| (&one.program, &one.test)).collect();
    let programs: BTreeSet<_> = left_out.iter().map(|one| one.program.as_str()).collect();
    let things: BTreeSet<_> = left_out.iter().map(|one| one.what.as_str()).collect();
    let (mut packages, mut advice) = (BTreeSet::new(), BTreeSet::new());
    for one in left_out {
        match one.brings.strip_prefix(INSTALL) {
            Some(names) => packages.extend(names.split(' ')),
            None => drop(advice.insert(one.brings.as_str())),
        }
    }
    let packages = Vec::from_iter(packages);
    let install = (!packages.is_empty()).then(|| format!("{INSTALL}{}", packages.join(" ")));
    let brings: Vec<_> = install.into_iter().chain(advice.into_iter().map(str::to_owned)).collect();
    let tests = if tests.len() == 1 { "1 test".to_owned() } else { format!("{} tests", tests.len()) };
    let [programs, things] = [programs, things].map(|names| Vec::from_iter(names).join(", "));
    format!("left out: {tests} of {programs}, for want of {things}; to have all: {}", brings.join("; "))
}

/// Keeps it for the end of this run.
pub(crate) fn keep(left_out: &BTreeSet<LeftOut>) -> io::Result<()> {
    fs::create_dir_all(directory())?;
    forget_other_runs()?;
    let Some(run) = run(&parent_id().to_string()) else { return Ok(()) }; // nobody is left to tell it to
    let lines =
        left_out.iter().map(|one| format!("{}\t{}\t{}\t{}\n", one.program, one.test, one.what, one.brings));
    // Programs may end at the same moment.
    let mut file = OpenOptions::new().create(true).append(true).open(directory().join(run))?;
    file.write_all(lines.collect::<String>().as_bytes())
}

/// What the programs of this run have left out, and forgets it.
pub(crate) fn of_this_run() -> io::Result<BTreeSet<LeftOut>> {
    let Some(run) = run(&parent_id().to_string()) else { return Ok(BTreeSet::new()) };
    let file = directory().join(run);
    if !file.exists() {
        return Ok(BTreeSet::new());
    }
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<LeftOut> {
    let mut words = line.split('\t').map(str::to_owned);
    let mut next = || words.next();
    Some(LeftOut { program: next()?, test: next()?, what: next()?, brings: next()? })
}

/// What tells the run of the process `id` from all others, or nothing if it has ended.
fn run(id: &str) -> Option<String> {
    /// The 22nd field of `/proc/<pid>/stat` says when the process began; the name, the second, ends with a bracket.
    const BEGAN: usize = 22 - 3;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let began = stat.rsplit_once(')')?.1.split_whitespace().nth(BEGAN)?;
    Some(format!("{id}-{began}"))
}

/// Removes what runs have left that were given up before their end, or were of one program.
fn forget_other_runs() -> io::Result<()> {
    for entry in fs::read_dir(directory())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let id = name.split('-').next().unwrap_or_default();
        if run(id).as_deref() != Some(name.as_str()) {
            // Another program may have been quicker.
            let _ = fs::remove_file(directory().join(name));
        }
    }
    Ok(())
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/left-out"))
}
