//! What an item is to those who read it, and how a change to one is spoken.

use bytes::Bytes;

use crate::clock::{Deadline, Tick};

/// What a closure given to the store sees of a live item. Borrowed: it cannot outlive the shard's lock.
#[derive(Clone, Copy, Debug)]
pub struct Item<'s> {
    /// The value's bytes.
    pub value: &'s [u8],
    /// The value as a handle that can be kept after the lock is released, where the store holds it as one:
    /// values above an eighth of a segment (512 bytes to 32 KiB, by memory limit). As long as anyone keeps it,
    /// its memory counts against the limit.
    pub shared: Option<&'s Bytes>,
    /// The client's flags.
    pub flags: u32,
    /// Changes whenever the value does; never 0.
    pub cas: u64,
    /// When the item dies.
    pub deadline: Deadline,
    /// When the item was last read or written, before this access: to the second, up to 9 hours back. What
    /// lies further back is 9 to 18 hours, as long as sweeps come.
    pub last_access: Tick,
    /// What has happened to the item so far.
    pub marks: Marks,
}

/// What is remembered of an item's past, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u8);

impl Marks {
    /// It was read since it was stored.
    pub const FETCHED: Marks = Marks(1);
    /// It was invalidated, and may be served as stale (`md I`).
    pub const STALE: Marks = Marks(2);
    /// Somebody was already told to recache it.
    pub const TOKEN_SENT: Marks = Marks(4);
    /// Its key was sent in base64, and is to be shown in it (meta flag `b`).
    pub const BINARY_KEY: Marks = Marks(8);
    /// All there are.
    pub const ALL: Marks = Marks(15);

    /// Whether all of `other` is marked.
    pub fn has(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    /// These marks and `other`.
    #[must_use]
    pub fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    /// Those of these marks that are in `other`.
    #[must_use]
    pub fn only(self, other: Marks) -> Marks {
        Marks(self.0 & other.0)
    }

    /// These marks without `other`.
    #[must_use]
    pub fn without(self, other: Marks) -> Marks {
        Marks(self.0 & !other.0)
    }
}

/// What the store found under a key.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'s> {
    /// A live item.
    Hit(Item<'s>),
    /// Nothing.
    Miss,
    /// An item whose deadline has passed; it is gone now.
    Expired,
}

impl<'s> Lookup<'s> {
    /// Whether there is a live item.
    #[inline]
    pub fn is_hit(&self) -> bool {
        matches!(self, Lookup::Hit(_))
    }

    /// The live item, if there is one.
    pub fn item(self) -> Option<Item<'s>> {
        match self {
            Lookup::Hit(item) => Some(item),
            Lookup::Miss | Lookup::Expired => None,
        }
    }
}

/// Whether a look at an item counts as use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does: the item is fetched, accessed now, and less likely to be evicted.
    Use,
    /// It leaves no trace.
    Peek,
}

/// What is to become of an item.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// Nothing; an item that is there counts as used.
    Keep,
    /// This.
    Put(Draft<'c>),
    /// This, and it does not count as use: last access and the chance of being evicted stay.
    Amend(Draft<'c>),
    /// It goes.
    Remove,
}

/// An item as it is to be.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'c> {
    /// The value.
    pub content: Content<'c>,
    /// The client's flags.
    pub flags: u32,
    /// When it dies.
    pub deadline: Deadline,
    /// Its CAS id.
    pub cas: Cas,
    /// Its marks.
    pub marks: Marks,
}

/// Where a draft's value comes from. All but `Whole` need an item to be there.
#[derive(Clone, Copy, Debug)]
pub enum Content<'c> {
    /// The value there is.
    Same,
    /// These bytes.
    Whole(&'c [u8]),
    /// These bytes in the place of the value there is: the same item, so `total_items` does not count it.
    Changed(&'c [u8]),
    /// The value there is, then these bytes.
    Append(&'c [u8]),
    /// These bytes, then the value there is.
    Prepend(&'c [u8]),
}

/// Where a draft's CAS id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The next one of the store.
    Next,
    /// That of the item there is.
    Same,
    /// This one (meta flag `E`); 0 means [`Cas::Next`].
    Exact(u64),
}

/// The store refused a draft: there is no room for it and none may be made. The item that was there, if any,
/// is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;
