//! How many addresses the server needs beside its store, so that it does not start where they would run out later.

use super::access::users::{ARGON2_MEMORY_KIB_MAX, USERS_FILE_BYTES_MAX};
use crate::settings::{BUFFER_BYTES_MIN, Settings};

/// Address space for what is counted by prefix, the log, watchers, and dumps, in bytes.
const BASE_ADDRESS_BYTES: u64 = 64 << 20;
/// Address space for the stack of a thread, and what it keeps of the heap for itself, in bytes.
const THREAD_ADDRESS_BYTES: u64 = 4 << 20;
/// Threads beside the workers: for the log, ticks, certificates, files of users, and two kinds of blocking tasks.
const HELPER_THREADS: u64 = 6;
/// Address space for a connection, and with TLS, in the middle of its handshake, in bytes.
const CONNECTION_ADDRESS_BYTES: u64 = 8 << 10;
const TLS_CONNECTION_ADDRESS_BYTES: u64 = 64 << 10;
/// Address space for a password that is verified, and for a file of users that is read, in bytes.
const LOGIN_ADDRESS_BYTES: u64 = ((ARGON2_MEMORY_KIB_MAX as u64) << 10) + 4 * USERS_FILE_BYTES_MAX as u64;
/// How many times what the buffers take the heap may have to be long: they double as they grow, and leave holes.
const BUFFER_ADDRESS_TIMES: u64 = 3;

/// How much address space the server may need beside that of its store, in bytes. Addresses are no memory, so each of
/// these is rather too much.
pub(super) fn beside_the_store(settings: &Settings) -> u64 {
    let threads = settings.threads as u64 + HELPER_THREADS;
    let buffers = match settings.buffer_bytes_max() {
        0 => BUFFER_BYTES_MIN, // there is no bound that could be kept
        bytes => bytes,
    };
    let connection =
        if settings.tls.enabled { TLS_CONNECTION_ADDRESS_BYTES } else { CONNECTION_ADDRESS_BYTES };
    let login = if settings.auth_file.is_some() { LOGIN_ADDRESS_BYTES } else { 0 };
    let parts = [
        BASE_ADDRESS_BYTES,
        login,
        threads.saturating_mul(THREAD_ADDRESS_BYTES),
        u64::from(settings.connections_max).saturating_mul(connection),
        buffers.saturating_mul(BUFFER_ADDRESS_TIMES),
    ];
    parts.into_iter().fold(0, u64::saturating_add)
}
