//! What is worth keeping: how fast an item gains rank, and who is remembered after being dropped.
//!
//! The shape is that of two-queue caches with a ghost (2Q, Johnson and Shasha 1994; S3-FIFO, Yang et al. 2023),
//! by segments: items come into probation, and what is used there moves to main; what is dropped from
//! probation is remembered for a while, and comes back straight into main.

use super::slot::FREQUENCY_MAX;

/// Probation gives way while it holds more than this part of a shard.
pub(super) const PROBATION_PERCENT: u64 = 10;

/// The part of a shard's memory that its ghost takes.
pub(super) const GHOST_SHARE: u64 = 128;

/// Raises the frequency of an item of `bytes` that was used, where items have `mean_bytes` on average.
///
/// A use counts `sqrt(mean / size)`, because keeping an item costs its bytes; `dice`, any number, decides about
/// the fraction.
#[inline]
pub(super) fn raised(frequency: u8, bytes: u64, mean_bytes: f32, dice: u32) -> u8 {
    let sixteenths = (mean_bytes / bytes as f32).sqrt() * 16.0;
    let step = (sixteenths as u32 + (dice >> 28)) / 16; // a float that is no number becomes 0
    frequency.saturating_add(step.min(u32::from(FREQUENCY_MAX)) as u8).min(FREQUENCY_MAX)
}

/// Fingerprints of keys dropped from probation, the oldest forgotten first, in a table of fixed size.
///
/// Lines of 32 fingerprints of 16 bits, each line a queue: a key is looked for in one cache line, and a wrong
/// key is taken for a known one in 1 case of 2,000, which does no harm.
#[derive(Debug)]
pub(super) struct Ghost {
    lines: Box<[[u16; LINE_ENTRIES]]>,
}

const LINE_ENTRIES: usize = 32;
const LINE_BYTES: u64 = (LINE_ENTRIES * size_of::<u16>()) as u64;

impl Ghost {
    /// A ghost for a shard of `shard_bytes`.
    pub(super) fn new(shard_bytes: u64) -> Ghost {
        let lines = (shard_bytes / GHOST_SHARE / LINE_BYTES).max(1);
        let lines = usize::try_from(lines).expect("a part of a shard's memory is addressable");
        Ghost { lines: vec![[0; LINE_ENTRIES]; lines].into() }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.len() as u64 * LINE_BYTES
    }

    /// Remembers `hash`.
    pub(super) fn insert(&mut self, hash: u64) {
        let line = self.line(hash);
        line.copy_within(1.., 0);
        line[LINE_ENTRIES - 1] = fingerprint(hash);
    }

    /// Whether `hash` was remembered; it is no longer.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let line = self.line(hash);
        let found = line.iter().rposition(|&entry| entry == fingerprint(hash));
        if let Some(at) = found {
            line.copy_within(..at, 1); // the oldest place becomes free
            line[0] = 0;
        }
        found.is_some()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.lines.fill([0; LINE_ENTRIES]);
    }

    fn line(&mut self, hash: u64) -> &mut [u16; LINE_ENTRIES] {
        let at = ((hash & u64::from(u32::MAX)) * self.lines.len() as u64) >> 32;
        &mut self.lines[at as usize]
    }
}

/// Bits of `hash` that choose neither line nor shard; never 0, which marks an empty place.
fn fingerprint(hash: u64) -> u16 {
    ((hash >> 34) as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_items_rise_faster() {
        let steps =
            |bytes| (0..16u32).map(|dice| u32::from(raised(0, bytes, 400.0, dice << 28))).sum::<u32>();
        assert_eq!(steps(400), 16);
        assert_eq!(steps(100), 32);
        assert_eq!(steps(1600), 8);
        assert_eq!(raised(0, 1, 400.0, 0), FREQUENCY_MAX);
        assert_eq!(raised(FREQUENCY_MAX, 400, 400.0, u32::MAX), FREQUENCY_MAX);
        assert_eq!(raised(3, 400, f32::NAN, 0), 3);
    }

    #[test]
    fn a_ghost_remembers_the_newest() {
        let mut ghost = Ghost::new(0);
        let hash = |number: u64| number << 34;
        (1..=40).for_each(|number| ghost.insert(hash(number)));
        assert!(!ghost.take(hash(8)));
        assert!(ghost.take(hash(9)));
        assert!(!ghost.take(hash(9)));
        assert!(ghost.take(hash(40)));
        ghost.clear();
        assert!(!ghost.take(hash(39)));
    }
}
