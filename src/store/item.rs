//! Items as callers of the store see them, and changes as callers ask for them.

use bytes::Bytes;

use crate::clock::{Deadline, Tick};

/// A live item, as the store shows it to a closure. Borrowed: it cannot outlive the shard's lock.
#[derive(Clone, Copy, Debug)]
pub struct Item<'s> {
    /// The value.
    pub value: &'s [u8],
    /// A handle to the value that can be kept after the shard is unlocked; only large values have one: those above an
    /// eighth of a segment (512 bytes to 32 KiB, by memory limit). While a caller keeps it, its memory counts against
    /// the limit.
    pub shared: Option<&'s Bytes>,
    /// The client's flags.
    pub flags: u32,
    /// The CAS id: it changes whenever the value does, and is never 0.
    pub cas: u64,
    /// When the item expires.
    pub deadline: Deadline,
    /// When the item was last read or written before this access: exact to the second up to 9 hours back. An earlier
    /// access is 9 to 18 hours back, as long as the store is swept.
    pub last_access: Tick,
    /// The item's marks.
    pub marks: Marks,
}

/// Facts about an item, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u8);

impl Marks {
    /// The item was read since it was stored.
    pub const FETCHED: Marks = Marks(1);
    /// A client marked the item as stale (`md I`); the store goes on serving it.
    pub const STALE: Marks = Marks(2);
    /// A client was already told to recache the item.
    pub const TOKEN_SENT: Marks = Marks(4);
    /// A client sent the key in base64, and replies show it so (meta flag `b`).
    pub const BINARY_KEY: Marks = Marks(8);
    /// All marks.
    pub const ALL: Marks = Marks(15);

    /// Whether all marks of `other` are among these.
    pub fn has(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    /// These marks and `other`.
    #[must_use]
    pub fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    /// The marks that are among these and among `other`.
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

/// The result of a look-up.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'s> {
    /// A live item.
    Hit(Item<'s>),
    /// No item.
    Miss,
    /// An item whose deadline has passed; the store has removed it now.
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

/// Whether an access to an item counts as use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does: the item is marked as fetched and accessed now, and becomes less likely to be evicted.
    Use,
    /// It leaves no trace.
    Peek,
}

/// A change to an item.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// Keep it. That counts as use.
    Keep,
    /// Store this draft in its place, or as a new item. That counts as use.
    Put(Draft<'c>),
    /// Store this draft. That does not count as use: last access and use frequency stay.
    Amend(Draft<'c>),
    /// Remove it.
    Remove,
}

/// An item to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'c> {
    /// The value.
    pub content: Content<'c>,
    /// The client's flags.
    pub flags: u32,
    /// When it expires.
    pub deadline: Deadline,
    /// Its CAS id.
    pub cas: Cas,
    /// Its marks.
    pub marks: Marks,
}

/// Where a draft's value comes from. All but `Whole` need an item under the key.
#[derive(Clone, Copy, Debug)]
pub enum Content<'c> {
    /// The item's value stays.
    Same,
    /// These bytes.
    Whole(&'c [u8]),
    /// These bytes in place of the item's value; it stays the same item, so `total_items` does not count it.
    Changed(&'c [u8]),
    /// The item's value, then these bytes.
    Append(&'c [u8]),
    /// These bytes, then the item's value.
    Prepend(&'c [u8]),
}

/// Where a draft's CAS id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The next one of the store.
    Next,
    /// The item's CAS id stays.
    Same,
    /// This one (meta flag `E`); 0 means [`Cas::Next`].
    Exact(u64),
}

/// The store refused a draft, because it has no memory for it and may not or cannot evict enough. The item that was
/// under the key, if any, is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;
