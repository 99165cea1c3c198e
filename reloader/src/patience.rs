//! Waiting for what can only be looked at again and again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::stop::Stop;

/// How long it takes from one look to the next.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long something may be waited for.
pub struct Patience<'s> {
    stop: &'s Stop,
    until: Instant,
}

impl<'s> Patience<'s> {
    /// It ends after this time, and with a stop.
    pub fn new(stop: &'s Stop, time: Duration) -> Self {
        Self { stop, until: later(time) }
    }

    /// It ends after this time, if not before.
    #[must_use]
    pub fn at_most(&self, time: Duration) -> Self {
        Self { stop: self.stop, until: self.until.min(later(time)) }
    }

    /// Looks until there is something to see; `None` after its end. The last look begins then, not
    /// before, so that what takes place in time is seen on a busy machine too.
    ///
    /// # Errors
    /// That of a look, or there is a stop.
    pub fn poll<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        loop {
            let is_over = Instant::now() >= self.until;
            let seen = look()?;
            if seen.is_some() || is_over {
                return Ok(seen);
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if self.stop.wait(left.min(INTERVAL)) {
                bail!("interrupted, since reloader is to end");
            }
        }
    }
}

/// A time-out may be longer than the clock goes.
fn later(time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    Instant::now() + time.min(LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_look_begins_after_the_end() {
        let stop = Stop::default();
        let mut looks = Vec::new();
        let patience = Patience::new(&stop, Duration::from_millis(25));
        let end = patience.until;
        let seen: Option<()> = patience
            .poll(|| {
                looks.push(Instant::now());
                Ok(None)
            })
            .unwrap();
        assert!(seen.is_none() && looks.last().is_some_and(|last| *last >= end), "{looks:?}");
        let none = Patience::new(&stop, Duration::MAX).at_most(Duration::ZERO);
        assert_eq!(none.poll(|| Ok(Some(7))).unwrap(), Some(7));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        let patience = Patience::new(&stop, Duration::from_secs(3600));
        let mut looks = 0;
        let outcome: Result<Option<()>> = patience.poll(|| {
            looks += 1;
            stop.set();
            Ok(None)
        });
        assert_eq!(looks, 1);
        assert_eq!(outcome.unwrap_err().to_string(), "interrupted, since reloader is to end");
    }
}
