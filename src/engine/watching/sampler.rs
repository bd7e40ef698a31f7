//! Which requests `stats hotkeys` and `stats prefixes` count: a sample that each worker draws for itself.

use std::sync::atomic::{AtomicU32, Ordering};

/// One request in so many is sampled, on average. A sample costs about 200 ns, which is less than 1 ns for each
/// request.
pub const SAMPLE_INTERVAL: u32 = 256;

/// Decides which requests are sampled. Only its own worker uses it.
#[derive(Debug)]
pub(in crate::engine) struct Sampler {
    /// How many requests pass before the next sample.
    left: AtomicU32,
    /// The state of the random numbers: a linear congruential generator (Numerical Recipes).
    random: AtomicU32,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { left: AtomicU32::new(SAMPLE_INTERVAL / 2), random: AtomicU32::new(1) }
    }
}

impl Sampler {
    /// Which of the next `requests` is to be sampled; `usize::MAX` if none is. `requests` is at most half of
    /// [`SAMPLE_INTERVAL`].
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

    /// Draws the gap between the last sample and the next, of which `behind` requests are over. The gap varies, or a
    /// client that repeats a series of requests might be sampled at the same one each time.
    #[cold]
    fn begin_again(&self, behind: usize) {
        let random = self.random.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random.store(random, Ordering::Relaxed);
        // The upper bits: the lower ones of such a generator repeat soon.
        let gap = SAMPLE_INTERVAL / 2 + (random >> 16) % SAMPLE_INTERVAL;
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
