//! The large values of one shard, by number.

use bytes::Bytes;

use crate::store::large::pool::Large;

/// The large values of one shard, by number. Items hold the numbers.
#[derive(Debug, Default)]
pub(in crate::store) struct Table {
    values: Vec<Option<Large>>,
    /// Numbers without a value, to be used again.
    free: Vec<u32>,
}

impl Table {
    /// Keeps `value`; returns its number.
    pub(in crate::store) fn insert(&mut self, value: Large) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = Some(value);
            return number;
        }
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).expect("large values are far fewer than 2^32")
    }

    #[inline]
    pub(in crate::store) fn value(&self, number: u32) -> &Bytes {
        self.large(number).bytes()
    }

    #[inline]
    pub(in crate::store) fn large(&self, number: u32) -> &Large {
        self.values[number as usize].as_ref().expect("items hold numbers of values there are")
    }

    pub(in crate::store) fn large_mut(&mut self, number: u32) -> &mut Large {
        self.values[number as usize].as_mut().expect("items hold numbers of values there are")
    }

    pub(in crate::store) fn remove(&mut self, number: u32) -> Large {
        self.free.push(number);
        self.values[number as usize].take().expect("items hold numbers of values there are")
    }

    /// Removes and returns all values.
    pub(in crate::store) fn clear(&mut self) -> impl Iterator<Item = Large> + use<> {
        std::mem::take(self).values.into_iter().flatten()
    }

    /// How many values there are.
    pub(in crate::store) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}
