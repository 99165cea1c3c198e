//! Keeps the walk below so many entries a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shorter waits than this are not worth a sleep; they add up until they are.
const SHORTEST_WAIT: u64 = 1_000_000;

/// A limit that all threads share. Every entry takes the next moment that is free, at equal
/// distances; moments that nobody took are lost.
#[derive(Debug)]
pub struct Rate {
    start: Instant,
    /// Between two entries, in nanoseconds.
    interval: u64,
    /// The next free moment, in nanoseconds since the start.
    next: AtomicU64,
}

impl Rate {
    /// At most so many entries a second, at least one.
    pub fn new(a_second: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(a_second.max(1));
        Self { start: Instant::now(), interval, next: AtomicU64::new(0) }
    }

    /// Takes a moment for an entry; how long it is until then.
    pub fn take(&self) -> Option<Duration> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(now).map(Duration::from_nanos)
    }

    fn take_at(&self, now: u64) -> Option<u64> {
        let after = |next: u64| Some(next.max(now) + self.interval);
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        let wait = taken.unwrap_or(now).saturating_sub(now);
        Some(wait).filter(|&wait| wait >= SHORTEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_distance_and_lost_moments_are_lost() {
        let rate = Rate::new(100);
        assert_eq!([rate.take_at(0), rate.take_at(0)], [None, Some(10_000_000)]);
        assert_eq!(rate.take_at(15_000_000), Some(5_000_000));
        assert_eq!(
            [rate.take_at(1_000_000_000), rate.take_at(1_000_000_000)],
            [None, Some(10_000_000)]
        );
    }

    #[test]
    fn short_waits_add_up() {
        let rate = Rate::new(100_000);
        let waits: Vec<_> = (0..=200).map(|_| rate.take_at(0)).collect();
        assert_eq!(waits.iter().position(Option::is_some), Some(100));
        assert_eq!(waits[200], Some(2_000_000));
    }
}
