//! What a session knows of its attempts to log in.

/// What a session knows of its attempts to log in.
#[derive(Debug, Default)]
pub(in crate::engine) struct Attempts {
    /// Refusals so far.
    pub(super) refusals: u32,
    /// How many bytes of a value that is too long are still to be thrown away.
    pub(super) unwanted: u64,
}
