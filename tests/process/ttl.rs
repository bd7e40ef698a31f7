//! How long items live, by the clocks of their users.

use std::net::TcpStream;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::*;

const TTL: Duration = Duration::from_secs(1);
/// An item dies less than that early.
const EARLY_MAX: Duration = Duration::from_millis(100);
const CLIENTS: u32 = 8;
const KEYS: u32 = 25;
/// Between two stores of one client: a prime, so that every part of a tenth of a second is tried.
const BETWEEN: Duration = Duration::from_millis(37);

/// Each way to give `key` a second to live, and what is answered.
fn storing(way: u32, key: &str) -> (String, Vec<&'static str>) {
    let lasting = format!("set {key} 0 0 1\r\n1\r\n");
    match way {
        0 => (format!("set {key} 0 1 1\r\n1\r\n"), vec!["STORED"]),
        1 => (format!("{lasting}touch {key} 1\r\n"), vec!["STORED", "TOUCHED"]),
        2 => (format!("{lasting}gat 1 {key}\r\n"), vec!["STORED", "VALUE", "1", "END"]),
        3 => (format!("ms {key} 1 T1\r\n1\r\n"), vec!["HD"]),
        4 => (format!("{lasting}mg {key} T1\r\n"), vec!["STORED", "HD"]),
        5 => (format!("ma {key} N1 J1\r\nincr {key} 1\r\n"), vec!["HD", "2"]),
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

/// Has one client store its keys, and look at each shortly before it has to be gone and just then.
fn store_and_look(client: &mut Client<TcpStream>, number: u32, begin: Instant) {
    let mut looks = Vec::new();
    for turn in 0..KEYS {
        // The clients' phases differ, too.
        sleep_until(begin + BETWEEN * turn + Duration::from_micros(4_600) * number);
        let key = format!("key:{number}:{turn}");
        let (request, answers) = storing((number + turn) % 7, &key);
        let asked = Instant::now();
        client.send(&request);
        for answer in answers {
            let line = client.line();
            assert!(line.starts_with(answer), "{request}: {line}");
        }
        let answered = Instant::now();
        looks.push((asked + TTL - EARLY_MAX * 2, key.clone(), Some(asked)));
        looks.push((answered + TTL, key, None));
    }
    looks.sort();
    for (moment, key, asked) in looks {
        sleep_until(moment);
        let is_there = is_there(client, &key);
        match asked {
            // On a machine that is too busy to look in time, there is nothing to be said.
            Some(asked) => assert!(is_there || asked.elapsed() >= TTL - EARLY_MAX, "{key} died early"),
            None => assert!(!is_there, "{key} was served {:?} after its TTL had passed", moment.elapsed()),
        }
    }
}

#[test]
fn nothing_is_served_once_its_ttl_has_passed_and_all_lives_nearly_so_long() {
    let server = Server::start(&["-t", "2"]);
    let begin = Instant::now();
    scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = server.connect();
            scope.spawn(move || store_and_look(&mut client, number, begin));
        }
    });
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
