//! The state of a session that has not logged in.

/// The state of a session that has not logged in.
#[derive(Debug, Default)]
pub(in crate::engine) struct Attempts {
    /// Refusals so far.
    pub(super) refusals: u32,
    /// How many bytes of a value that is too long are still to be discarded.
    pub(super) discard_bytes: u64,
    /// What the client was asked by CRAM-MD5 and has not answered.
    pub(super) challenge: Option<String>,
}

impl Attempts {
    /// Forgets what the client was asked.
    pub(in crate::engine) fn forget_challenge(&mut self) {
        self.challenge = None;
    }
}
