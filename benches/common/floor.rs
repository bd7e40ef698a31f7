//! The floor: the least that a tokio server can do on the same sockets.
//!
//! One read, a scan for keys, one constant value for each, one write. No store, no hashing, no limits: what another server
//! costs beyond this is what its protocol and its store cost.

use std::sync::Arc;
use std::{env, fs, io};

use memchr::{memchr, memchr_iter, memrchr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::server::PORT_FILE_VARIABLE;

/// A turn of 64 gets fits, so that a read is short and tokio need not ask whether there is more.
const BUFFER_BYTES: usize = 4096;

/// The first byte of a packet of the binary protocol, the length of its header, and that of the flags of a hit.
const PACKET_MAGIC: u8 = 0x80;
const PACKET_HEADER_BYTES: usize = 24;
const PACKET_FLAGS_BYTES: usize = 4;

/// Serves until the process is killed.
pub(crate) fn serve(value_bytes: u32) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?.port())?;
        let block: Arc<[u8]> = block_after_key(value_bytes).into();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(converse(stream, Arc::clone(&block)));
        }
    })
}

fn announce(port: u16) -> io::Result<()> {
    let path =
        env::var_os(PORT_FILE_VARIABLE).ok_or_else(|| io::Error::other("nobody to announce the port to"))?;
    fs::write(path, format!("TCP INET: {port}\n"))
}

/// All of a hit that follows its key.
fn block_after_key(value_bytes: u32) -> Vec<u8> {
    let mut block = format!(" 0 {value_bytes}\r\n").into_bytes();
    block.resize(block.len() + value_bytes as usize, b'x');
    block.extend_from_slice(b"\r\n");
    block
}

async fn converse(mut stream: TcpStream, block: Arc<[u8]>) -> io::Result<()> {
    let mut received = vec![0; BUFFER_BYTES];
    let mut reply = Vec::with_capacity(BUFFER_BYTES);
    let mut filled = 0;
    loop {
        match stream.read(&mut received[filled..]).await? {
            0 => return Ok(()),
            count => filled += count,
        }
        let consumed = answer(&received[..filled], &block, &mut reply);
        if !reply.is_empty() {
            stream.write_all(&reply).await?;
            reply.clear();
        }
        received.copy_within(consumed..filled, 0);
        filled -= consumed;
        if filled == received.len() {
            received.resize(2 * filled, 0);
        }
    }
}

/// Answers all whole requests, and says how many bytes they were.
fn answer(received: &[u8], block: &[u8], reply: &mut Vec<u8>) -> usize {
    let mut at = 0;
    if received.first() == Some(&PACKET_MAGIC) {
        return answer_packets(received, block, reply);
    }
    while let Some(newline) = memchr(b'\n', &received[at..]) {
        let line = &received[at..at + newline - usize::from(newline > 0)];
        let mut end = at + newline + 1;
        if line.starts_with(b"get") {
            append_hits(line, block, reply);
        } else if line.starts_with(b"mg ") {
            // What follows a key in a classic reply begins with its flags.
            reply.extend_from_slice(b"VA ");
            reply.extend_from_slice(&block[b" 0 ".len()..]);
        } else {
            let Some(value_bytes) = number_at_end(line) else {
                reply.extend_from_slice(b"ERROR\r\n");
                at = end;
                continue;
            };
            end += value_bytes + 2;
            if end > received.len() {
                break;
            }
            reply.extend_from_slice(b"STORED\r\n");
        }
        at = end;
    }
    at
}

/// The same for packets of the binary protocol, each a get.
fn answer_packets(received: &[u8], block: &[u8], reply: &mut Vec<u8>) -> usize {
    // What stands between the line end of a classic reply's first line and the one at its end.
    let value = &block[memchr(b'\n', block).map_or(0, |end| end + 1)..block.len() - 2];
    let mut at = 0;
    while let Some(header) = received[at..].first_chunk::<PACKET_HEADER_BYTES>() {
        let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if received.len() - at < PACKET_HEADER_BYTES + key_bytes {
            break;
        }
        reply.extend_from_slice(&[0x81, header[1], 0, 0, PACKET_FLAGS_BYTES as u8, 0, 0, 0]);
        reply.extend_from_slice(&((PACKET_FLAGS_BYTES + value.len()) as u32).to_be_bytes());
        reply.extend_from_slice(&header[12..16]);
        reply.extend_from_slice(&[0; 8 + PACKET_FLAGS_BYTES]);
        reply.extend_from_slice(value);
        at += PACKET_HEADER_BYTES + key_bytes;
    }
    at
}

fn append_hits(line: &[u8], block: &[u8], reply: &mut Vec<u8>) {
    let mut spaces = memchr_iter(b' ', line);
    let mut start = spaces.next().map_or(line.len(), |space| space + 1);
    while start < line.len() {
        let end = spaces.next().unwrap_or(line.len());
        reply.extend_from_slice(b"VALUE ");
        reply.extend_from_slice(&line[start..end]);
        reply.extend_from_slice(block);
        start = end + 1;
    }
    reply.extend_from_slice(b"END\r\n");
}

fn number_at_end(line: &[u8]) -> Option<usize> {
    let space = memrchr(b' ', line)?;
    std::str::from_utf8(&line[space + 1..]).ok()?.parse().ok()
}
