//! Requests that are sent together, and what must come back for them.

use crate::common::items::{Item, Values};
use crate::common::replies::{Expected, PACKET_HEADER_BYTES};

#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) requests: Vec<u8>,
    pub(crate) expected: Vec<Expected>,
}

impl Batch {
    /// One `get` of all the items.
    pub(crate) fn get(&mut self, items: impl IntoIterator<Item = Item>) {
        self.requests.extend_from_slice(b"get");
        for item in items {
            self.requests.push(b' ');
            item.append_key(&mut self.requests);
            self.expected.push(Expected::Value(item));
        }
        self.requests.extend_from_slice(b"\r\n");
        self.expected.push(Expected::End);
    }

    /// One `mg` for each of the items' values.
    pub(crate) fn meta_get(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            self.requests.extend_from_slice(b"mg ");
            item.append_key(&mut self.requests);
            self.requests.extend_from_slice(b" v\r\n");
            self.expected.push(Expected::MetaValue(item));
        }
    }

    /// One get of the binary protocol for each of the items.
    pub(crate) fn binary_get(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            let header = self.requests.len();
            self.requests.extend_from_slice(&[0; PACKET_HEADER_BYTES]);
            item.append_key(&mut self.requests);
            let key_bytes = self.requests.len() - header - PACKET_HEADER_BYTES;
            let header = &mut self.requests[header..];
            header[0] = 0x80;
            header[2..4].copy_from_slice(&(key_bytes as u16).to_be_bytes());
            header[8..12].copy_from_slice(&(key_bytes as u32).to_be_bytes());
            self.expected.push(Expected::BinaryValue(item));
        }
    }

    /// One `set`; the item lives `ttl_seconds` (0: for ever).
    pub(crate) fn set(&mut self, item: Item, ttl_seconds: u32, values: &Values) {
        let mut digits = itoa::Buffer::new();
        self.requests.extend_from_slice(b"set ");
        item.append_key(&mut self.requests);
        self.requests.extend_from_slice(b" 0 ");
        self.requests.extend_from_slice(digits.format(ttl_seconds).as_bytes());
        self.requests.push(b' ');
        self.requests.extend_from_slice(digits.format(item.value_bytes).as_bytes());
        self.requests.extend_from_slice(b"\r\n");
        self.requests.extend_from_slice(values.of(&item));
        self.requests.extend_from_slice(b"\r\n");
        self.expected.push(Expected::Stored);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.expected.clear();
    }
}
