//! Which requests are looked at for `stats hotkeys` and `stats prefixes`: a sample that each worker draws for itself.

use std::sync::atomic::{AtomicU32, Ordering};

/// One request in so many is looked at, on average. Looking at one costs about 200 ns, so all of them pay for
/// it with less than one.
pub const SAMPLE_INTERVAL: u32 = 256;

/// Decides which requests are looked at. It is its worker's alone.
#[derive(Debug)]
pub(in crate::engine) struct Sampler {
    /// How many requests pass before the next one that is looked at.
    left: AtomicU32,
    dice: AtomicU32,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { left: AtomicU32::new(SAMPLE_INTERVAL / 2), dice: AtomicU32::new(1) }
    }
}

impl Sampler {
    /// Which of the next `requests` is to be looked at; one that there is not, if none is. At most half of
    /// [`SAMPLE_INTERVAL`] at once.
    #[inline]
    pub(in crate::engine) fn choose(&self, requests: usize) -> usize {
        let left = self.left.load(Ordering::Relaxed) as usize;
        if left >= requests {
            self.left.store((left - requests) as u32, Ordering::Relaxed);
            return usize::MAX;
        }
        self.begin_again(requests - left);
        left
    }

    /// Draws how many requests pass until the next one, counted from the last, with `behind` gone since. Not
    /// always the same number, or a client that repeats itself could be seen at one point of its round only.
    #[cold]
    fn begin_again(&self, behind: usize) {
        let dice = self.dice.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.dice.store(dice, Ordering::Relaxed);
        let gap = SAMPLE_INTERVAL / 2 + (dice >> 16) % SAMPLE_INTERVAL;
        debug_assert!(behind <= gap as usize, "a batch is no longer than the shortest gap");
        self.left.store(gap.saturating_sub(behind as u32), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_so_many_is_chosen_whatever_the_batches() {
        for batch in [1, 2, 7, 63, 64, SAMPLE_INTERVAL as usize / 2] {
            let sampler = Sampler::default();
            let mut seen = vec![0u32; batch];
            let batches = 50_000_000 / batch;
            for _ in 0..batches {
                if let Some(seen) = seen.get_mut(sampler.choose(batch)) {
                    *seen += 1;
                }
            }
            let wanted = batches as f64 / f64::from(SAMPLE_INTERVAL);
            for (place, &seen) in seen.iter().enumerate() {
                let ratio = f64::from(seen) / wanted;
                assert!((0.85..1.15).contains(&ratio), "place {place} of {batch}: {ratio}");
            }
        }
    }
}
