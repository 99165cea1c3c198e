//! Looks again and again, at a fixed interval, for a condition that sends no event.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::stop::Stop;

/// Time from the end of a look to the next one.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long to look for a condition.
pub struct Retry<'s> {
    stop: &'s Stop,
    deadline: Instant,
}

impl<'s> Retry<'s> {
    /// Looks until `timeout` has passed or the program stops.
    pub fn new(stop: &'s Stop, timeout: Duration) -> Self {
        Self { stop, deadline: deadline_in(timeout) }
    }

    /// The same, but for `timeout` at most.
    #[must_use]
    pub fn at_most(&self, timeout: Duration) -> Self {
        Self { stop: self.stop, deadline: self.deadline.min(deadline_in(timeout)) }
    }

    /// Calls `look` until it returns a value; `None` after the deadline. The last look begins after
    /// the deadline, so a condition that came true in time is seen on a busy machine too.
    ///
    /// # Errors
    /// Fails if `look` fails, or the program stops.
    pub fn poll<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        loop {
            let is_over = Instant::now() >= self.deadline;
            let seen = look()?;
            if seen.is_some() || is_over {
                return Ok(seen);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if self.stop.wait(left.min(INTERVAL)) {
                bail!("interrupted: reloader is shutting down");
            }
        }
    }
}

/// A timeout may be longer than an `Instant` can hold: it is cut to ten years.
fn deadline_in(timeout: Duration) -> Instant {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    Instant::now() + timeout.min(TEN_YEARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_look_begins_after_the_deadline() {
        let stop = Stop::default();
        let mut looks = Vec::new();
        let retry = Retry::new(&stop, Duration::from_millis(25));
        let deadline = retry.deadline;
        let seen: Option<()> = retry
            .poll(|| {
                looks.push(Instant::now());
                Ok(None)
            })
            .unwrap();
        assert!(seen.is_none() && looks.last().is_some_and(|last| *last >= deadline), "{looks:?}");
        let none = Retry::new(&stop, Duration::MAX).at_most(Duration::ZERO);
        assert_eq!(none.poll(|| Ok(Some(7))).unwrap(), Some(7));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        let retry = Retry::new(&stop, Duration::from_secs(3600));
        let mut looks = 0;
        let outcome: Result<Option<()>> = retry.poll(|| {
            looks += 1;
            stop.set();
            Ok(None)
        });
        assert_eq!(looks, 1);
        assert_eq!(outcome.unwrap_err().to_string(), "interrupted: reloader is shutting down");
    }
}
