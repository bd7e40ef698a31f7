//! A table of open files that is full.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::normal::Normal;
use super::{Calm, number};
use crate::needs;
use crate::server::*;

/// How long it is looked at what the server does with itself.
const WATCHED: Duration = Duration::from_secs(1);
/// How much processor time it may take in that time. It tries again a hundred times, which takes some milliseconds.
const BUSY_MAX: Duration = Duration::from_millis(300);
/// After how long it tries again, at least.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How much RSS may grow meanwhile, in bytes: nothing is held for those who are not accepted.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

/// Sets the soft limit on the open files of `server`.
fn allow_files(server: &Server, limit: u64) {
    let pid = server.child.id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).status();
    assert!(status.unwrap().success());
}

/// The first descriptor that is free.
fn files_in_use(server: &Server) -> u64 {
    let is_open =
        |number: &u64| fs::symlink_metadata(format!("/proc/{}/fd/{number}", server.child.id())).is_ok();
    (0..).find(|number| !is_open(number)).unwrap()
}

/// The processor time of `server` so far.
fn busy(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].map(|field: usize| fields[field].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10) // Linux shows hundredths of a second
}

#[test]
fn without_descriptors_those_who_are_there_go_on() {
    if !needs::are_there(&[&needs::UTIL_LINUX]) {
        return;
    }
    // Root may be without the right to change the limits of other users' processes.
    let server = Server::start(&["-u", "root"]);
    let mut normal = Normal::new(&server);
    let leaving = server.connect();
    wait_for("both to be accepted", || number(&mut normal.client, "curr_connections") == 2);
    let calm = Calm::of(&server);
    let limit = files_in_use(&server);
    allow_files(&server, limit);

    let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send("get nothing\r\n"));
    wait_for("the server to notice", || number(&mut normal.client, "listen_disabled_num") > 0);
    let (before, since) = (busy(&server), Instant::now());
    let tries_before = number(&mut normal.client, "listen_disabled_num");
    sleep(WATCHED);
    let tries = number(&mut normal.client, "listen_disabled_num") - tries_before;
    let (busy, tries_max) = (busy(&server) - before, since.elapsed().div_duration_f64(RETRY_PAUSE) + 1.0);
    assert!(busy <= BUSY_MAX, "busy for {busy:?} of {WATCHED:?}");
    assert!(tries as f64 <= tries_max, "{tries} tries in {WATCHED:?}");
    (0..1000).for_each(|_| normal.work());
    assert_eq!(number(&mut normal.client, "curr_connections"), 2);
    calm.check_memory(&server, GROWTH_BYTES_MAX);

    // One goes, one comes.
    drop(leaving);
    wait_for("the next one's turn", || number(&mut normal.client, "total_connections") == 3);
    normal.work();

    allow_files(&server, limit + 100);
    for client in &mut waiting {
        assert_eq!(client.line(), "END", "all who waited are served");
    }
    normal.find_all();
    drop(waiting);
    calm.wait_for_descriptors(&server);
    let told = server.log().matches("could not accept a client").count();
    assert_eq!(told, 1, "it is told, and not each time: {}", server.log());
}
