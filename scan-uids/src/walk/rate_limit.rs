//! `--max-rate`: limits how many entries a second all threads together stat.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shorter waits, in nanoseconds, are not worth a sleep; they add up until they are.
const SHORTEST_WAIT: u64 = 1_000_000;

/// A limit shared by all threads. Time is divided into slots of equal length, and each entry
/// reserves the next free one. Slots that pass unused are lost: there are no bursts.
#[derive(Debug)]
pub struct RateLimit {
    start: Instant,
    /// The length of a slot, in nanoseconds.
    interval: u64,
    /// When the next free slot begins, in nanoseconds since the start.
    next: AtomicU64,
}

impl RateLimit {
    /// Allows `per_second` entries a second, at least 1.
    pub fn new(per_second: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.max(1));
        Self { start: Instant::now(), interval, next: AtomicU64::new(0) }
    }

    /// Reserves a slot for one entry. Returns how long to wait for it, if that is worth a sleep.
    pub fn reserve(&self) -> Option<Duration> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.reserve_at(now).map(Duration::from_nanos)
    }

    fn reserve_at(&self, now: u64) -> Option<u64> {
        let after = |next: u64| Some(next.max(now) + self.interval);
        let reserved = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        let wait = reserved.unwrap_or(now).saturating_sub(now);
        Some(wait).filter(|&wait| wait >= SHORTEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_spaced_evenly_and_unused_slots_are_lost() {
        let limit = RateLimit::new(100);
        assert_eq!([limit.reserve_at(0), limit.reserve_at(0)], [None, Some(10_000_000)]);
        assert_eq!(limit.reserve_at(15_000_000), Some(5_000_000));
        assert_eq!(
            [limit.reserve_at(1_000_000_000), limit.reserve_at(1_000_000_000)],
            [None, Some(10_000_000)]
        );
    }

    #[test]
    fn short_waits_add_up() {
        let limit = RateLimit::new(100_000);
        let waits: Vec<_> = (0..=200).map(|_| limit.reserve_at(0)).collect();
        assert_eq!(waits.iter().position(Option::is_some), Some(100));
        assert_eq!(waits[200], Some(2_000_000));
    }
}
