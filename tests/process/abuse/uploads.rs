//! Uploads that never end.

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use super::normal::Normal;
use super::{BASE_BYTES_MAX, megabytes, number, wait_for_calm};
use crate::server::*;

/// How many clients begin an upload and leave it.
const UPLOADS: usize = 1000;
/// Announced and sent of each, in bytes.
const ANNOUNCED_BYTES: usize = 1_000_000;
const SENT_BYTES: usize = 600_000;

/// What the server may hold for all of them at `-m 64` when nothing else was asked for, in bytes.
const BUFFER_BYTES_MAX: u64 = 64 << 20;

#[test]
fn uploads_that_were_left_give_way_to_those_that_go_on() {
    let server = Server::start(&["-m", "64", "-c", "2048"]);
    let mut normal = Normal::new(&server);
    assert_eq!(
        normal.client.stat("stats settings\r\n", "read_buf_mem_limit"),
        Some(BUFFER_BYTES_MAX.to_string())
    );
    let mut upload = format!("set half 0 0 {ANNOUNCED_BYTES}\r\n").into_bytes();
    upload.resize(SENT_BYTES, b'h');
    let mut most = 0;
    let left: Vec<TcpStream> = (0..UPLOADS)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            // The server may refuse it in the middle.
            let _ = stream.write_all(&upload);
            normal.work();
            most = most.max(resident_bytes(&server));
            stream
        })
        .collect();
    assert!(
        number(&mut normal.client, "read_buf_bytes") <= BUFFER_BYTES_MAX + (2 << 20),
        "{} bytes",
        number(&mut normal.client, "read_buf_bytes")
    );
    assert_ne!(number(&mut normal.client, "read_buf_oom"), 0);

    // Those who are left hold all there is, and give way.
    sleep(Duration::from_millis(300));
    for _ in 0..20 {
        assert!(normal.store_large(&server, ANNOUNCED_BYTES), "a client that goes on is served");
        normal.work();
    }
    most = most.max(resident_bytes(&server));
    // Items, and an upload's buffer doubles as it grows.
    let bound = (64 << 20) + BUFFER_BYTES_MAX + BASE_BYTES_MAX;
    assert!(most <= bound, "{} MB resident", megabytes(most));

    drop(left);
    wait_for_calm(&mut normal.client, 1);
    normal.find_all();
    assert!(normal.store_large(&server, ANNOUNCED_BYTES));
    eprintln!(
        "at most {} MB resident, {} MB at the end",
        megabytes(most),
        megabytes(resident_bytes(&server))
    );
}

#[test]
fn an_upload_that_drips_gives_way_too_and_is_told() {
    let server = Server::start(&["-o", "read_buf_mem_limit=2"]);
    let mut normal = Normal::new(&server);
    let mut upload = format!("set half 0 0 {ANNOUNCED_BYTES}\r\n").into_bytes();
    upload.resize(SENT_BYTES, b'h');
    let mut dripping: Vec<_> = (0..8).map(|_| server.connect()).collect();
    // The server may refuse them in the middle.
    for client in &mut dripping {
        let _ = client.0.get_mut().write_all(&upload);
    }
    for _ in 0..10 {
        sleep(Duration::from_millis(50));
        dripping.iter_mut().for_each(|client| drop(client.0.get_mut().write_all(b"h")));
    }
    let refused = number(&mut normal.client, "read_buf_oom");
    assert!(normal.store_large(&server, ANNOUNCED_BYTES), "there is room for one of these");
    assert!(number(&mut normal.client, "read_buf_oom") > refused, "another had to go");
    assert!(number(&mut normal.client, "curr_connections") < 9);
    let mut told = 0;
    for client in &mut dripping {
        client.0.get_mut().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        told += u32::from(client.line_or_end() == "SERVER_ERROR out of memory reading request");
    }
    assert_ne!(told, 0);
    normal.find_all();
}

#[test]
fn without_a_limit_all_uploads_are_held() {
    let server = Server::start(&["-o", "read_buf_mem_limit=0"]);
    let mut normal = Normal::new(&server);
    let mut upload = format!("set half 0 0 {ANNOUNCED_BYTES}\r\n").into_bytes();
    upload.resize(ANNOUNCED_BYTES, b'h');
    let left: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            stream.write_all(&upload).unwrap();
            stream
        })
        .collect();
    wait_for("all to be held", || {
        number(&mut normal.client, "read_buf_bytes") > 100 * ANNOUNCED_BYTES as u64 - (8 << 20)
    });
    assert_eq!(number(&mut normal.client, "read_buf_oom"), 0);
    drop(left);
    wait_for_calm(&mut normal.client, 1);
}
