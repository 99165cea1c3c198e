//! Waits for a condition that raises no event: polls it at a fixed interval, until a deadline or a
//! shutdown.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::stop::Stop;

/// Time between two calls of `look`.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait for a condition.
pub struct Wait<'s> {
    stop: &'s Stop,
    deadline: Instant,
}

impl<'s> Wait<'s> {
    /// Waits until `timeout` has passed or the program stops.
    pub fn new(stop: &'s Stop, timeout: Duration) -> Self {
        Self { stop, deadline: deadline_in(timeout) }
    }

    /// The same, but for `timeout` at most.
    #[must_use]
    pub fn at_most(&self, timeout: Duration) -> Self {
        Self { stop: self.stop, deadline: self.deadline.min(deadline_in(timeout)) }
    }

    /// Calls `look` until it returns a value; `None` after the deadline. The last call begins after
    /// the deadline, so that a busy machine does not miss a condition that became true in time.
    ///
    /// # Errors
    /// Fails if `look` fails, or the program stops.
    pub fn until<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
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
        let wait = Wait::new(&stop, Duration::from_millis(25));
        let deadline = wait.deadline;
        let seen: Option<()> = wait
            .until(|| {
                looks.push(Instant::now());
                Ok(None)
            })
            .unwrap();
        assert!(seen.is_none() && looks.last().is_some_and(|last| *last >= deadline), "{looks:?}");
        let none = Wait::new(&stop, Duration::MAX).at_most(Duration::ZERO);
        assert_eq!(none.until(|| Ok(Some(7))).unwrap(), Some(7));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        let wait = Wait::new(&stop, Duration::from_secs(3600));
        let mut looks = 0;
        let outcome: Result<Option<()>> = wait.until(|| {
            looks += 1;
            stop.set();
            Ok(None)
        });
        assert_eq!(looks, 1);
        assert_eq!(outcome.unwrap_err().to_string(), "interrupted: reloader is shutting down");
    }
}
