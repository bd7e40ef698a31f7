//! How long items live, by the clocks of their users.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::*;

const TTL: Duration = Duration::from_secs(1);
/// An item dies less than that early.
const EARLY_MAX: Duration = Duration::from_millis(100);
/// How long before the earliest moment at which an item may die it is looked for: what a look takes, at most.
const LOOK_TIME_MAX: Duration = Duration::from_millis(10);
const CLIENTS: u32 = 200;
/// Between the stores of two clients: a prime, so that every part of a tenth of a second is tried.
const BETWEEN: Duration = Duration::from_millis(7);

/// Ways other than a plain `set` to give `key` a second to live, and what is answered.
fn giving_a_second(way: u32, key: &str) -> (String, Vec<&'static str>) {
    let lasting = format!("set {key} 0 0 1\r\n1\r\n");
    match way {
        0 => (format!("{lasting}touch {key} 1\r\n"), vec!["STORED", "TOUCHED"]),
        1 => (format!("{lasting}gat 1 {key}\r\n"), vec!["STORED", "VALUE", "1", "END"]),
        2 => (format!("ms {key} 1 T1\r\n1\r\n"), vec!["HD"]),
        3 => (format!("{lasting}mg {key} T1\r\n"), vec!["STORED", "HD"]),
        4 => (format!("ma {key} N1 J1\r\nincr {key} 1\r\n"), vec!["HD", "2"]),
        _ => (format!("mg {key} N1\r\nappend {key} 0 0 1\r\n1\r\n"), vec!["HD W", "STORED"]),
    }
}

fn is_there(client: &mut Client<TcpStream>, key: &str) -> bool {
    client.ask(&format!("mg {key} u\r\n")) == "HD"
}

fn sleep_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        sleep(left);
    }
}

/// Has a client store two keys with a TTL of one second, the first by `set`, and look for each twice: just before it may
/// be gone, and one second after its store was answered, when it must be. Gives how many early looks came in time.
fn store_and_look(client: &mut Client<TcpStream>, number: u32, begin: Instant) -> u32 {
    let keys = [format!("set:{number}"), format!("other:{number}")];
    let by_set = (format!("set {} 0 1 1\r\n1\r\n", keys[0]), vec!["STORED"]);
    let mut moments = Vec::new();
    sleep_until(begin + BETWEEN * number);
    for (request, answers) in [by_set, giving_a_second(number % 6, &keys[1])] {
        let asked = Instant::now();
        client.send(&request);
        for answer in answers {
            let line = client.line();
            assert!(line.starts_with(answer), "{request}: {line}");
        }
        moments.push((asked, Instant::now()));
    }
    let mut in_time = 0;
    sleep_until(moments[0].0 + TTL - EARLY_MAX - LOOK_TIME_MAX);
    for (key, (asked, _)) in keys.iter().zip(&moments) {
        let is_there = is_there(client, key);
        // On a machine that is too busy to look in time, there is nothing to be said.
        let is_early = asked.elapsed() < TTL - EARLY_MAX;
        assert!(is_there || !is_early, "{key} died early");
        in_time += u32::from(is_early);
    }
    for (key, (_, answered)) in keys.iter().zip(moments) {
        sleep_until(answered + TTL);
        assert!(
            !is_there(client, key),
            "{key} was served {:?} after its store was answered",
            answered.elapsed()
        );
    }
    in_time
}

#[test]
fn nothing_is_served_once_its_ttl_has_passed_and_all_lives_nearly_so_long() {
    let server = Server::start(&["-t", "2"]);
    let begin = Instant::now();
    let in_time = AtomicU32::new(0);
    scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = server.connect();
            let in_time = &in_time;
            scope.spawn(move || {
                in_time.fetch_add(store_and_look(&mut client, number, begin), Ordering::Relaxed)
            });
        }
    });
    let in_time = in_time.into_inner();
    // A busy machine is late for many, but where hardly one came in time nothing was tried.
    assert!(
        in_time > CLIENTS / 10,
        "only {in_time} of {} looks came before the item might be gone",
        CLIENTS * 2
    );
}

#[test]
fn nothing_is_served_at_the_second_at_which_it_dies() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let second = unix().as_secs() + 2;
    for number in 0..20 {
        assert_eq!(client.ask(&format!("set key:{number} 0 {second} 1\r\n1\r\n")), "STORED");
    }
    sleep(Duration::from_secs(second) - EARLY_MAX * 2 - unix());
    for number in 0..20 {
        let is_there = is_there(&mut client, &format!("key:{number}"));
        assert!(is_there || unix() >= Duration::from_secs(second) - EARLY_MAX);
    }
    while let Some(left) = Duration::from_secs(second).checked_sub(unix()).filter(|left| !left.is_zero()) {
        sleep(left);
    }
    for number in 0..20 {
        assert!(!is_there(&mut client, &format!("key:{number}")));
    }
}
