//! What a request has to pass before it is executed.
//!
//! Rule: an admitted request carries the key of the store, with the prefix of its user, and every reply shows keys
//! without it. A request that is not admitted has no effect but its refusal.

use crate::engine::{Session, keyvalue};
use crate::protocol::{KEY_BYTES_MAX, KeyBuffer, Refusal, Request};

/// How many bytes the keys of a batch take together with their prefixes; it ends when the longest may not fit any
/// more. Enough for a full batch of keys of 30 bytes, few enough to cost a single get little.
const KEYS_BYTES_MAX: usize = 2048;

/// What a request has to pass before it is executed.
pub(in crate::engine) trait Admission<'a> {
    /// Whether it takes another request, whatever its key.
    fn takes_more(&self) -> bool;

    /// `request` with the key of the store.
    ///
    /// # Errors
    /// Why it has no effect.
    fn admit(&mut self, session: &Session, request: Request<'a>) -> Result<Request<'a>, Refusal>;
}

/// For sessions that may do everything: every request is admitted as it came. Costs nothing.
pub(in crate::engine) struct Unrestricted;

impl<'a> Admission<'a> for Unrestricted {
    #[inline(always)]
    fn takes_more(&self) -> bool {
        true
    }

    #[inline(always)]
    fn admit(&mut self, _: &Session, request: Request<'a>) -> Result<Request<'a>, Refusal> {
        Ok(request)
    }
}

/// The buffer for the keys of a batch with the prefix of their user.
pub(in crate::engine) struct PrefixedKeys([u8; KEYS_BYTES_MAX]);

impl PrefixedKeys {
    pub(in crate::engine) fn new() -> PrefixedKeys {
        PrefixedKeys([0; KEYS_BYTES_MAX])
    }
}

/// For sessions with limited rights. Administrative commands are not checked here, but by their table.
pub(in crate::engine) struct ByRights<'a> {
    free: &'a mut [u8],
}

impl<'a> ByRights<'a> {
    pub(in crate::engine) fn new(keys: &'a mut PrefixedKeys) -> ByRights<'a> {
        ByRights { free: &mut keys.0 }
    }
}

impl<'a> Admission<'a> for ByRights<'a> {
    fn takes_more(&self) -> bool {
        self.free.len() >= KEY_BYTES_MAX
    }

    fn admit(&mut self, session: &Session, request: Request<'a>) -> Result<Request<'a>, Refusal> {
        if let Request::Admin { .. } | Request::Control { .. } = request {
            return Ok(request);
        }
        if !session.granted().may_write() && request.changes() {
            return Err(Refusal::ReadOnly);
        }
        let prefix = session.granted().prefix();
        if prefix.is_empty() {
            return Ok(request);
        }
        let decoded = &mut KeyBuffer::new();
        let name = keyvalue::stored_key(&request, decoded);
        if prefix.len() + name.len() > KEY_BYTES_MAX {
            return Err(Refusal::KeyTooLong);
        }
        let (key, free) = std::mem::take(&mut self.free).split_at_mut(prefix.len() + name.len());
        self.free = free;
        let (head, tail) = key.split_at_mut(prefix.len());
        head.copy_from_slice(prefix);
        tail.copy_from_slice(name);
        Ok(keyvalue::with_key(&request, key))
    }
}
