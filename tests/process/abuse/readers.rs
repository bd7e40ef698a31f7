//! Clients that ask for much and read nothing.

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use super::normal::Normal;
use super::{BASE_BYTES_MAX, megabytes, narrow, number, wait_for_calm};
use crate::server::*;

/// How many clients do not read.
const READERS: usize = 1000;
/// What each of them is owed, in bytes.
const VALUE_BYTES: usize = 1_000_000;

const MEMORY_BYTES: u64 = 64 << 20;
/// What the server may hold for all of them at `-m 64`, besides what is in the store, in bytes.
const BUFFER_BYTES_MAX: u64 = 64 << 20;

/// Has somebody store a large value: if the server has no room for it at this moment, it waits.
fn store(client: &mut Client<TcpStream>, key: &str, value: &str) {
    let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
    assert_eq!(client.ask(&request), "STORED", "{key}");
}

fn does_not_read(server: &Server, request: &str) -> TcpStream {
    let mut stream = narrow(server);
    // The server may refuse it.
    let _ = stream.write_all(request.as_bytes());
    stream
}

/// What must be so while nobody reads, and when they are gone.
fn check_and_end(server: &Server, mut normal: Normal, most: u64, readers: Vec<TcpStream>) {
    normal.may_miss = true; // large values are stored besides
    sleep(Duration::from_millis(400));
    for _ in 0..20 {
        assert!(normal.store_large(server, VALUE_BYTES), "there is room for a large value");
        normal.work();
    }
    let most = most.max(resident_bytes(server));
    assert!(most <= MEMORY_BYTES + BUFFER_BYTES_MAX + BASE_BYTES_MAX, "{} MB resident", megabytes(most));
    drop(readers);
    wait_for_calm(&mut normal.client, 2);
    for _ in 0..10 {
        assert!(normal.store_large(server, VALUE_BYTES));
        normal.work();
    }
    eprintln!("at most {} MB resident, {} MB at the end", megabytes(most), megabytes(resident_bytes(server)));
}

#[test]
fn unread_large_values_do_not_take_the_place_of_items() {
    let server = Server::start(&["-m", "64", "-c", "2048"]);
    let mut normal = Normal::new(&server);
    normal.may_miss = true; // a gigabyte is stored besides
    let mut storing = server.connect();
    let value = "v".repeat(VALUE_BYTES);
    let mut most = 0;
    let readers = (0..READERS).map(|number| {
        let key = format!("large{number}");
        store(&mut storing, &key, &value);
        let reader = does_not_read(&server, &format!("get {key}\r\n"));
        normal.work();
        if number % 20 == 0 {
            assert!(
                normal.store_large(&server, VALUE_BYTES),
                "there is room for a large value in the midst of it"
            );
        }
        most = most.max(resident_bytes(&server));
        reader
    });
    let readers: Vec<_> = readers.collect();
    wait_for("some to have gone", || number(&mut normal.client, "response_obj_oom") != 0);
    assert!(most <= MEMORY_BYTES + BASE_BYTES_MAX, "{} MB resident", megabytes(most));
    check_and_end(&server, normal, most, readers);
}

#[test]
fn one_large_value_may_be_owed_to_any_number() {
    let server = Server::start(&["-m", "64", "-c", "2048"]);
    let mut normal = Normal::new(&server);
    let mut storing = server.connect();
    store(&mut storing, "same", &"v".repeat(VALUE_BYTES));
    let mut most = 0;
    let readers = (0..READERS).map(|_| {
        let reader = does_not_read(&server, "get same\r\n");
        normal.work();
        most = most.max(resident_bytes(&server));
        reader
    });
    let readers: Vec<_> = readers.collect();
    assert_eq!(number(&mut normal.client, "response_obj_oom"), 0, "nobody had to go");
    for round in 0..20 {
        store(&mut storing, "same", &round.to_string().repeat(VALUE_BYTES / 2));
    }
    normal.find_all();
    assert!(most <= MEMORY_BYTES + BASE_BYTES_MAX, "{} MB resident", megabytes(most));
    check_and_end(&server, normal, most, readers);
}

#[test]
fn unread_small_values_are_bounded_in_all() {
    let server = Server::start(&["-m", "64", "-c", "2048"]);
    let mut normal = Normal::new(&server);
    let mut storing = server.connect();
    let value = "v".repeat(2000);
    assert_eq!(storing.ask(&format!("set small 0 0 2000\r\n{value}\r\n")), "STORED");
    let request = format!("get{}\r\n", " small".repeat(VALUE_BYTES / 2000));
    let mut most = 0;
    let readers = (0..READERS).map(|_| {
        let reader = does_not_read(&server, &request);
        normal.work();
        most = most.max(resident_bytes(&server));
        reader
    });
    let readers: Vec<_> = readers.collect();
    let held = number(&mut normal.client, "response_obj_bytes");
    assert!(held <= BUFFER_BYTES_MAX, "{held} bytes are held");
    wait_for("some to have gone", || number(&mut normal.client, "response_obj_oom") != 0);
    normal.find_all();
    check_and_end(&server, normal, most, readers);
}
