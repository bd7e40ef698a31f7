//! How a turn ends: what the connection does next, and why it is closed if it is.

/// When this many bytes are owed, the rest of the turn waits until the client has taken them.
pub const OWED_BYTES_MAX: usize = 128 << 10;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How many bytes of the input were used up; the rest is to be offered again, with more behind it.
    pub consumed: usize,
    /// What the connection should do next, once it has sent what it owes.
    pub then: Then,
    /// Whether it took long, so that others are to have theirs before the connection does anything else.
    pub is_long: bool,
}

/// What a connection should do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read until the input that is left has grown to at least this many bytes.
    Read {
        /// Total length of input, in bytes, below which another turn would achieve nothing.
        bytes_min: usize,
    },
    /// Offer what is left of the input, once other connections have had their turn.
    Again,
    /// Run the session's task before anything else, as [`blocking`](super::blocking) says, then offer what is left of the
    /// input.
    Wait,
    /// Offer what is left of the input again with every tick: it begins with a store for which there is no memory until
    /// slow clients have been closed. Only for sessions that are [patient](super::Session::patient).
    Retry,
    /// From now on send what [`Engine::take_lines`] gives, until the client leaves or [`Engine::wants_to_quit`] says so,
    /// which is to hear the rest of the input too. There are no more turns.
    ///
    /// [`Engine::take_lines`]: crate::engine::Engine::take_lines
    /// [`Engine::wants_to_quit`]: crate::engine::Engine::wants_to_quit
    Watch,
    /// Close.
    Close,
    /// Close, and stop the server.
    Shutdown {
        /// `shutdown graceful`: as SIGUSR1 does; otherwise as SIGINT.
        graceful: bool,
    },
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client left, or said `quit`.
    Normal,
    /// It said what no memcached client says, or its socket failed.
    Error,
    /// It was silent for too long.
    IdleTimeout,
    /// What was held for it was needed for others, and it was the slowest.
    TooSlow,
    /// It had the server stop, or somebody else did.
    Shutdown,
}

impl Reason {
    pub(in crate::engine) fn name(self) -> &'static str {
        match self {
            Reason::Normal => "normal",
            Reason::Error => "error",
            Reason::IdleTimeout => "idle_timeout",
            Reason::TooSlow => "too_slow",
            Reason::Shutdown => "shutdown",
        }
    }
}
