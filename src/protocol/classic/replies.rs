//! Answers to classic requests, in bytes.

use crate::protocol::owed::Owed;
use crate::protocol::{Hit, Outcome, reply};

/// More than `VALUE`, its numbers, spaces and line ends take in an item's reply, in bytes.
const ITEM_LINE_BYTES_MAX: usize = 64;

impl Owed {
    /// Says how a change ended.
    #[inline]
    pub(in crate::protocol) fn say_outcome(&mut self, outcome: Outcome) {
        let words = match outcome {
            Outcome::Stored => reply::STORED,
            Outcome::NotStored => reply::NOT_STORED,
            Outcome::Exists => reply::EXISTS,
            Outcome::NotFound => reply::NOT_FOUND,
            Outcome::Deleted => reply::DELETED,
            Outcome::Touched => reply::TOUCHED,
            Outcome::Number(number) => {
                self.say_number(number);
                return self.say(b"\r\n");
            }
            Outcome::NotANumber => reply::NOT_A_NUMBER,
            Outcome::TooLarge => reply::TOO_LARGE,
            Outcome::OutOfMemoryStoring => reply::OUT_OF_MEMORY_STORING,
            Outcome::OutOfMemory => reply::OUT_OF_MEMORY,
            Outcome::BadDataChunk => reply::BAD_DATA_CHUNK,
        };
        self.say(words);
    }

    /// Says `VALUE …` and the value.
    #[inline(always)]
    pub(in crate::protocol) fn say_item(&mut self, hit: &Hit<'_>) {
        let value = hit.value.unwrap_or_default();
        let inline = if hit.shared.is_none() { value } else { &[] };
        // One look at the room for all of it: this is the reply that a cache gives most.
        let mut line = self.writer(ITEM_LINE_BYTES_MAX + hit.key.len() + inline.len());
        line.write(b"VALUE ");
        line.write(hit.key);
        if hit.flags == 0 {
            line.write(b" 0 ");
        } else {
            line.write(b" ");
            line.write_number(u64::from(hit.flags));
            line.write(b" ");
        }
        line.write_number(value.len() as u64);
        if let Some(cas) = hit.cas {
            line.write(b" ");
            line.write_number(cas);
        }
        line.write(b"\r\n");
        if hit.shared.is_none() {
            line.write(inline);
            line.write(b"\r\n");
        }
        let written = line.written();
        self.said(written);
        if let Some(value) = hit.shared {
            self.share(value.clone());
            self.say(b"\r\n");
        }
    }
}
