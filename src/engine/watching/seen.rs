//! What `watch` shows of the item that a request has read or written.

use crate::clock::Deadline;
use crate::store::Lookup;

/// What `watch` shows of the item under a key, before or after a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Seen {
    pub(super) status: Status,
    pub(super) value_bytes: usize,
    pub(super) deadline: Deadline,
}

impl Seen {
    /// Of an item with such a value.
    pub(in crate::engine) fn new(value_bytes: usize, deadline: Deadline) -> Seen {
        Seen { status: Status::Found, value_bytes, deadline }
    }

    /// Of what a lookup has found.
    pub(in crate::engine) fn of(found: &Lookup<'_>) -> Seen {
        let status = match found {
            Lookup::Hit(item) => return Seen::new(item.value.len(), item.deadline),
            Lookup::Miss => Status::NotFound,
            Lookup::Expired => Status::Expired,
        };
        Seen { status, value_bytes: 0, deadline: Deadline::NEVER }
    }

    /// Whether there is an item.
    pub(in crate::engine) fn is_found(self) -> bool {
        self.status == Status::Found
    }

    /// The same item with a value that is so many bytes longer.
    pub(in crate::engine) fn joined(self, more_bytes: usize) -> Seen {
        Seen { value_bytes: self.value_bytes + more_bytes, ..self }
    }
}

/// Whether there was an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Found,
    NotFound,
    Expired,
}
