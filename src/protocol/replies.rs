//! How a request can end, whatever its dialect, and whole replies in text.

use bytes::Bytes;

/// Whole replies, as they are sent.
pub mod reply {
    #![expect(missing_docs, reason = "each constant is its own text")]

    pub const AUTH_FAILURE: &[u8] = b"CLIENT_ERROR authentication failure\r\n";
    pub const AUTH_TOKEN_TOO_LONG: &[u8] = b"CLIENT_ERROR auth token too long\r\n";
    pub const BAD_AUTH_TOKEN: &[u8] = b"CLIENT_ERROR bad authentication token format\r\n";
    pub const BAD_COUNT_FLAG: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
    pub const BAD_COUNT_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ma M token\r\n";
    pub const BAD_DATA_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
    pub const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
    pub const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
    pub const BAD_INITIAL: &[u8] = b"CLIENT_ERROR invalid numeric initial value\r\n";
    pub const BAD_KEY: &[u8] = b"CLIENT_ERROR error decoding key\r\n";
    pub const BAD_LINE: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
    pub const BAD_META_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta value\r\n";
    pub const BAD_PUT_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ms M token\r\n";
    pub const BAD_TERMINATION: &[u8] = b"CLIENT_ERROR bad command line termination\r\n";
    pub const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
    pub const DELETED: &[u8] = b"DELETED\r\n";
    pub const DUPLICATE_FLAG: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
    pub const END: &[u8] = b"END\r\n";
    pub const ERROR: &[u8] = b"ERROR\r\n";
    pub const EXISTS: &[u8] = b"EXISTS\r\n";
    pub const INVALID_FLAG: &[u8] = b"CLIENT_ERROR invalid flag\r\n";
    pub const NOT_A_NUMBER: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    pub const NOT_BY_PREFIX: &[u8] = b"CLIENT_ERROR not allowed for a user with a prefix\r\n";
    pub const NOT_BY_READER: &[u8] = b"CLIENT_ERROR not allowed for a read-only user\r\n";
    pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
    pub const NOT_OVER_UDP: &[u8] = b"SERVER_ERROR not over UDP, use TCP\r\n";
    pub const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
    pub const OK: &[u8] = b"OK\r\n";
    pub const OPAQUE_TOO_LONG: &[u8] = b"CLIENT_ERROR opaque token too long\r\n";
    pub const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory\r\n";
    pub const OUT_OF_MEMORY_READING: &[u8] = b"SERVER_ERROR out of memory reading request\r\n";
    pub const OUT_OF_MEMORY_STORING: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";
    pub const PUBLIC_ADDRESS: &[u8] =
        b"SERVER_ERROR refused: your address is public, and this server was not told to \
        serve public addresses (start it with -l, or better with -Y; in a container, with \
        MEMCACHED_PROTECTED_MODE=no or -o no_protected_mode)\r\n";
    pub const STORED: &[u8] = b"STORED\r\n";
    pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
    pub const TOO_LARGE_FOR_UDP: &[u8] = b"SERVER_ERROR too much for UDP, use TCP\r\n";
    pub const TOO_MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
    pub const TOO_MANY_CONNECTIONS: &[u8] = b"ERROR Too many open connections\r\n";
    pub const TOO_MANY_LOGINS: &[u8] = b"SERVER_ERROR too many clients log in at once, try again later\r\n";
    pub const TOUCHED: &[u8] = b"TOUCHED\r\n";
    pub const UNAUTHENTICATED: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";
}

/// An item that a retrieval has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hit<'a> {
    /// Its key, as its client knows it.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// Its CAS id, if a classic client asks for it; a binary one always does.
    pub cas: Option<u64>,
    /// Its value, if it is to be shown.
    pub value: Option<&'a [u8]>,
    /// The value as a handle, to be shared instead of copied.
    pub shared: Option<&'a Bytes>,
    /// `W`: this client is to recache the item.
    pub won: bool,
    /// `Z`: another client was told to recache it.
    pub token_sent: bool,
    /// `X`: it was invalidated.
    pub stale: bool,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its user may only read.
    ReadOnly,
    /// Its user has a prefix, and it shows or changes what belongs to others.
    NotByPrefix,
    /// Its key is too long together with its user's prefix.
    KeyTooLong,
}

impl Refusal {
    /// The refusal in the words of a text dialect.
    pub fn words(self) -> &'static [u8] {
        match self {
            Refusal::ReadOnly => reply::NOT_BY_READER,
            Refusal::NotByPrefix => reply::NOT_BY_PREFIX,
            Refusal::KeyTooLong => reply::BAD_LINE,
        }
    }
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was stored.
    Stored,
    /// The condition of `add`, `replace`, `append` or `prepend` did not hold.
    NotStored,
    /// The item has another CAS id by now.
    Exists,
    /// There is no such item.
    NotFound,
    /// It was removed.
    Deleted,
    /// It has its new exptime.
    Touched,
    /// The number is this now.
    Number(u64),
    /// The value there is no number.
    NotANumber,
    /// It exceeds the item size limit.
    TooLarge,
    /// There is no room for it.
    OutOfMemoryStoring,
    /// There is no room for the number grown longer.
    OutOfMemory,
    /// The value was not followed by CRLF.
    BadDataChunk,
}
