//! When to scan and when to reload, decided from given times: no clock, no disk, no process.
//!
//! Content is reloaded once it is
//! 1. quiet: no event came for `debounce`, or `max_wait` has passed since the first one; and
//! 2. stable: a manifest proves that it is complete, or two scans some time apart found the same.
//!
//! After a success the next reload waits for `cooldown`. After a failure the same content is tried
//! again with exponential backoff, and other content at once.

use std::time::{Duration, Instant};

use published_tree::tree::Hash;

/// Time from the first event to the first scan.
const FIRST_SCAN: Duration = Duration::from_millis(50);
/// The first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_mins(5);

/// Times from the command line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time without events before content is reloaded.
    pub debounce: Duration,
    /// Longest wait for that, from the first event on.
    pub max_wait: Duration,
    /// Time between a successful reload and the next one.
    pub cooldown: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Scan the directories.
    Scan {
        /// An event came: files of a verified version are read again, too.
        thorough: bool,
    },
    /// Reload this content.
    Reload(Hash),
    /// Wait for an event, until this time at most.
    Wait(Instant),
}

/// The effect of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The application uses the content.
    Applied,
    /// The application still uses what it used before.
    Unchanged,
    /// The application may use the content or not.
    Unknown,
}

/// A scan that has ended.
#[derive(Clone, Copy, Debug)]
pub struct ScanReport {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The content; `None` if the scan failed.
    pub content: Option<Found>,
    /// Time to the next scan if no event comes.
    pub poll: Duration,
    /// Time between two scans that must agree on content that no manifest proves.
    pub apart: Duration,
}

/// Content that a scan found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The digest of the content.
    pub digest: Hash,
    /// Whether a manifest proves that it is complete.
    pub is_verified: bool,
}

/// The first and the last event that no scan covers yet.
#[derive(Clone, Copy, Debug)]
struct Events {
    first: Instant,
    last: Instant,
}

/// Content whose reload has failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    digest: Hash,
    attempts: u32,
    retry_at: Instant,
}

/// Content that the last scans have found.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    found: Found,
    /// When the first of these scans began.
    since: Instant,
}

/// Decides what to do next from events, scans and reloads.
#[derive(Debug)]
pub struct Decider {
    settings: Settings,
    events: Option<Events>,
    last_scan: Option<ScanReport>,
    candidate: Option<Candidate>,
    /// The content to apply: quiet and stable.
    desired: Option<Hash>,
    /// The content that the application uses, if that is known.
    applied: Option<Hash>,
    failed: Option<Failed>,
    is_reloading: bool,
    /// When the last successful reload ended.
    reloaded_at: Option<Instant>,
}

impl Decider {
    /// Starts without any scan or event.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            events: None,
            last_scan: None,
            candidate: None,
            desired: None,
            applied: None,
            failed: None,
            is_reloading: false,
            reloaded_at: None,
        }
    }

    /// Records an event in a watched directory.
    pub fn record_event(&mut self, now: Instant) {
        let first = self.events.map_or(now, |events| events.first);
        self.events = Some(Events { first, last: now });
    }

    /// Records a scan.
    pub fn record_scan(&mut self, scan: ScanReport) {
        self.last_scan = Some(scan);
        let is_quiet = self.events.is_none_or(|events| scan.began >= self.quiet_at(events));
        if is_quiet && self.events.is_some_and(|events| events.last < scan.began) {
            self.events = None;
        }
        let Some(found) = scan.content else {
            (self.candidate, self.desired) = (None, None);
            return;
        };
        let since = match self.candidate {
            Some(known) if known.found.digest == found.digest => known.since,
            _ => scan.began,
        };
        let candidate = Candidate { found, since };
        self.candidate = Some(candidate);
        let is_stable = scan.began >= self.stable_at(candidate);
        self.desired = (is_quiet && is_stable).then_some(found.digest);
        if self.desired.is_some() && self.desired == self.applied {
            // The failed content is gone; the application uses the content that is back.
            self.failed = None;
        }
    }

    /// Records the end of a reload. `jitter` is between 0 and 1: a retry waits for half of the
    /// backoff at 0, and for the whole backoff at 1.
    pub fn record_reload(&mut self, now: Instant, digest: Hash, effect: Effect, jitter: f64) {
        self.is_reloading = false;
        match effect {
            Effect::Applied => {
                (self.applied, self.failed, self.reloaded_at) = (Some(digest), None, Some(now));
                return;
            }
            Effect::Unknown => self.applied = None,
            Effect::Unchanged => {}
        }
        let same = self.failed.filter(|failed| failed.digest == digest);
        let attempts = same.map_or(0, |failed| failed.attempts);
        let backoff = FIRST_RETRY.saturating_mul(1 << attempts.min(16)).min(LAST_RETRY);
        let retry_at = now + backoff.mul_f64(0.5 + jitter / 2.0);
        self.failed = Some(Failed { digest, attempts: attempts + 1, retry_at });
    }

    /// Takes content as applied without a reload.
    pub fn assume_applied(&mut self, digest: Hash) {
        (self.is_reloading, self.applied) = (false, Some(digest));
    }

    /// Whether the last reload failed and its content has not been replaced or applied since.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// What to do now. After [`Next::Reload`] a reload is under way until
    /// [`record_reload`](Self::record_reload).
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(last_scan) = self.last_scan else { return Next::Scan { thorough: true } };
        let scan_at = self.next_scan(last_scan);
        if scan_at <= now {
            return Next::Scan { thorough: self.events.is_some() };
        }
        match self.next_reload(last_scan) {
            Some((digest, at)) if at <= now => {
                self.is_reloading = true;
                Next::Reload(digest)
            }
            Some((_, at)) => Next::Wait(at.min(scan_at)),
            None => Next::Wait(scan_at),
        }
    }

    /// When a candidate counts as complete, if the scans until then find the same.
    fn stable_at(&self, candidate: Candidate) -> Instant {
        let apart = self.last_scan.map_or(Duration::ZERO, |scan| scan.apart);
        candidate.since + if candidate.found.is_verified { Duration::ZERO } else { apart }
    }

    /// When content counts as quiet, if no other event comes.
    fn quiet_at(&self, Events { first, last }: Events) -> Instant {
        (last + self.settings.debounce).min(first + self.settings.max_wait)
    }

    fn next_scan(&self, last_scan: ScanReport) -> Instant {
        let poll_at = last_scan.began + last_scan.poll;
        let is_done = |digest| self.applied == Some(digest) && self.failed.is_none();
        let open = self.candidate.filter(|Candidate { found, .. }| {
            self.desired != Some(found.digest) && !is_done(found.digest)
        });
        let stable_at = open.map(|candidate| self.stable_at(candidate));
        let Some(events) = self.events else {
            return stable_at
                .map_or(poll_at, |at| poll_at.min(at.max(last_scan.began + FIRST_SCAN)));
        };
        if last_scan.began < events.first {
            // An early scan is the first of two that must agree.
            return poll_at.min(events.first + FIRST_SCAN);
        }
        let quiet_at = match self.quiet_at(events) {
            at if last_scan.began < at => at,
            // Events keep coming: scan once per debounce.
            _ => last_scan.began + self.settings.debounce,
        };
        poll_at.min(stable_at.map_or(quiet_at, |at| at.max(quiet_at)))
    }

    fn next_reload(&self, last_scan: ScanReport) -> Option<(Hash, Instant)> {
        let digest = self.desired.filter(|_| !self.is_reloading)?;
        let at = match self.failed {
            Some(failed) if failed.digest == digest => failed.retry_at,
            _ if self.applied == Some(digest) => return None,
            // New content is tried at once after a failure.
            Some(_) => last_scan.ended,
            None => self.reloaded_at.map_or(last_scan.ended, |reloaded_at| {
                (reloaded_at + self.settings.cooldown).max(last_scan.ended)
            }),
        };
        // If an event came while it waited, a scan comes before the reload.
        (at <= last_scan.ended || self.events.is_none()).then_some((digest, at))
    }
}

#[cfg(test)]
mod tests;
