//! SASL (`-S`): where its users come from, and what is not shown of their passwords.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::login::SLOW;
use super::server::{Directory, Server, wait_for};

const AUTH: u8 = 0x21;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;

/// A packet of the binary protocol.
fn packet(opcode: u8, key: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    (bytes[0], bytes[1], bytes[3]) = (0x80, opcode, u8::try_from(key.len()).unwrap());
    bytes[8..12].copy_from_slice(&u32::try_from(key.len() + value.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

fn plain(user: &str, password: &str) -> Vec<u8> {
    packet(AUTH, "PLAIN", &format!("\0{user}\0{password}"))
}

/// The status of the next reply, and its value; `None` if the connection is closed.
fn reply(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut header = [0; 24];
    stream.read_exact(&mut header).ok()?;
    assert_eq!(header[0], 0x81);
    let mut body = vec![0; u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    Some((u16::from_be_bytes([header[6], header[7]]), String::from_utf8(body).unwrap()))
}

fn ask(stream: &mut TcpStream, packet: &[u8]) -> Option<(u16, String)> {
    stream.write_all(packet).unwrap();
    reply(stream)
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port)).unwrap()
}

fn authenticated() -> Option<(u16, String)> {
    Some((0, "Authenticated".to_owned()))
}

fn refused() -> Option<(u16, String)> {
    Some((0x20, "Auth failure.".to_owned()))
}

#[test]
fn users_of_a_password_file_log_in_and_are_read_again() {
    let directory = Directory::new();
    let file = directory.file("pwdb");
    fs::write(&file, "ann:sesame\nbob:{SHA256}x:\n").unwrap();
    let environment = [("MEMCACHED_SASL_PWDB", file.to_str().unwrap())];
    let server = Server::start_with(&environment, &["-S", "-t", "1", "-vv"]);
    let mut ann = connect(&server);
    assert_eq!(ask(&mut ann, &plain("ann", "wrong")), refused());
    assert_eq!(ask(&mut ann, &plain("ann", "sesame")), authenticated());
    assert_eq!(ask(&mut connect(&server), &plain("bob", "{SHA256}x")), authenticated());

    fs::write(&file, "bob:another\n").unwrap();
    server.signal(Signal::SIGHUP);
    wait_for("the users are read again", || server.log().contains("1 passwords"));
    assert_eq!(ask(&mut connect(&server), &plain("ann", "sesame")), refused());
    assert_eq!(ask(&mut connect(&server), &plain("bob", "another")), authenticated());
    assert_eq!(ask(&mut ann, &packet(NOOP, "", "")), Some((0, String::new())), "who is logged in stays so");
    let mut text = connect(&server);
    text.write_all(b"get k and more than twenty-four bytes\r\n").unwrap();
    assert_eq!(text.read(&mut [0; 100]).unwrap(), 0, "no text is spoken there");
}

#[test]
fn a_login_waits_for_a_slow_hash_and_what_stands_behind_it_waits_too() {
    let directory = Directory::new();
    let file = directory.file("users");
    fs::write(&file, format!("ann:{SLOW}\n")).unwrap();
    let server = Server::start(&["-t", "1", "-S", "-Y", file.to_str().unwrap()]);
    let mut ann = connect(&server);
    let all = [plain("ann", "password"), packet(NOOP, "", ""), packet(NOOP, "", "")].concat();
    assert_eq!(ask(&mut ann, &all), authenticated());
    assert_eq!(reply(&mut ann), Some((0, String::new())));
    assert_eq!(reply(&mut ann), Some((0, String::new())));
    let mut wrong = connect(&server);
    assert_eq!(ask(&mut wrong, &[plain("ann", "other"), packet(NOOP, "", "")].concat()), refused());
    assert_eq!(reply(&mut wrong), Some((0x20, "Auth failure.".to_owned())), "and nothing was let through");
    assert_eq!(reply(&mut wrong), None);
}

#[test]
fn the_variables_of_one_user_are_for_both_protocols() {
    let environment = [("MEMCACHED_USERNAME", "ann"), ("MEMCACHED_PASSWORD", "sesame")];
    let server = Server::start_with(&environment, &["-t", "1"]);
    assert_eq!(ask(&mut connect(&server), &plain("ann", "sesame")), authenticated());
    let mut text = server.connect();
    assert_eq!(text.ask("set auth 0 0 10\r\nann sesame\r\n"), "STORED");
}

#[test]
fn no_log_shows_a_password() {
    let directory = Directory::new();
    let file = directory.file("users");
    fs::write(&file, "ann:sesame\n").unwrap();
    let server = Server::start(&["-t", "1", "-vv", "-S", "-Y", file.to_str().unwrap()]);
    let mut ann = connect(&server);
    let login = plain("ann", "sesame");
    let (head, tail) = login.split_at(login.len() - 3);
    ann.write_all(head).unwrap();
    // The only worker has read the head once it answers another client.
    let version = ask(&mut connect(&server), &packet(VERSION, "", "")).unwrap();
    assert!(version.1.starts_with("1.6.45-ferrocached"), "{version:?}");
    assert_eq!(ask(&mut ann, tail), authenticated());
    // Again, and in the middle of other packets.
    let again = [packet(NOOP, "", ""), login, packet(NOOP, "", "")].concat();
    assert_eq!(ask(&mut ann, &again), Some((0, String::new())));
    assert_eq!(reply(&mut ann), authenticated());
    assert_eq!(reply(&mut ann), Some((0, String::new())));
    // Refused for its length, and read in pieces.
    let long = packet(AUTH, "PLAIN", &format!("\0ann\0sesame{}sesame", "p".repeat(100_000)));
    assert_eq!(ask(&mut ann, &long), Some((4, "Invalid arguments".to_owned())));
    assert_eq!(ask(&mut ann, &plain("ann", "sesame")), authenticated());
    assert_eq!(ask(&mut ann, &packet(0x07, "", "")), Some((0, String::new())), "quit");
    wait_for("the last packet is logged", || server.log().contains("x07"));
    assert!(!server.log().contains("sesame"), "{}", server.log());

    let server = Server::start(&["-t", "1", "-vv"]);
    let mut ann = connect(&server);
    assert_eq!(ask(&mut ann, &plain("ann", "sesame")), Some((0x81, "Unknown command".to_owned())));
    assert_eq!(ask(&mut ann, &long), Some((4, "Invalid arguments".to_owned())));
    assert_eq!(ask(&mut ann, &packet(0x07, "", "")), Some((0, String::new())), "quit");
    wait_for("the last packet is logged", || server.log().contains("x07"));
    assert!(!server.log().contains("sesame"), "{}", server.log());
}
