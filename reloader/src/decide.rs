//! When to look, and when to act: without a clock, a disk or a process of its own.
//!
//! Content is acted upon when it is quiet (no event for a while) and stable: a manifest proves
//! that it is whole, or two looks some time apart have seen the same.

use std::time::{Duration, Instant};

use published_tree::tree::Hash;

/// How long after the first event a first look is taken.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest.
const LAST_RETRY: Duration = Duration::from_mins(5);

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long no event must come before content is acted upon.
    pub debounce: Duration,
    /// How long after the first event that is given up.
    pub max_wait: Duration,
    /// How long after an action the next one waits.
    pub cooldown: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at everything, since something may have happened to it.
    Look {
        /// Something has happened for certain.
        thorough: bool,
    },
    /// Make the application use this.
    Act(Hash),
    /// Wait for an event, at most until then.
    Wait(Instant),
}

/// Events that nobody has looked into.
#[derive(Clone, Copy, Debug)]
struct Events {
    first: Instant,
    last: Instant,
}

/// Content whose action has failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    digest: Hash,
    count: u32,
    again: Instant,
}

/// What the last looks have seen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    digest: Hash,
    /// When the first of them began that saw it.
    since: Instant,
    is_proven: bool,
}

/// A look at what is live.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What it has seen, and whether that is proven to be whole; `None` if that cannot be used.
    pub content: Option<(Hash, bool)>,
    /// When the next one is due without any event.
    pub poll: Duration,
    /// How far two looks must be apart that show that content is stable.
    pub apart: Duration,
}

/// Decides.
#[derive(Debug)]
pub struct Decider {
    settings: Settings,
    events: Option<Events>,
    /// The last look; `None` before the first.
    last: Option<Look>,
    candidate: Option<Candidate>,
    /// What is to be applied.
    desired: Option<Hash>,
    applied: Option<Hash>,
    failed: Option<Failed>,
    is_acting: bool,
    /// When the last action that succeeded ended.
    acted: Option<Instant>,
}

impl Decider {
    /// One that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            events: None,
            last: None,
            candidate: None,
            desired: None,
            applied: None,
            failed: None,
            is_acting: false,
            acted: None,
        }
    }

    /// Something has happened, nobody knows what.
    pub fn event(&mut self, now: Instant) {
        let first = self.events.map_or(now, |events| events.first);
        self.events = Some(Events { first, last: now });
    }

    /// Takes note of a look.
    pub fn looked(&mut self, look: Look) {
        self.last = Some(look);
        let is_quiet = self.events.is_none_or(|events| look.began >= self.quiet(events));
        if is_quiet && self.events.is_some_and(|events| events.last < look.began) {
            self.events = None;
        }
        let Some((digest, is_proven)) = look.content else {
            (self.candidate, self.desired) = (None, None);
            return;
        };
        let since = match self.candidate {
            Some(known) if known.digest == digest => known.since,
            _ => look.began,
        };
        let candidate = Candidate { digest, since, is_proven };
        self.candidate = Some(candidate);
        let is_stable = look.began >= self.stable(candidate);
        self.desired = (is_quiet && is_stable).then_some(digest);
        if self.desired.is_some() && self.desired == self.applied {
            // What is live was applied before, and what came since was not.
            self.failed = None;
        }
    }

    /// When content that is seen until then may be taken for whole.
    fn stable(&self, candidate: Candidate) -> Instant {
        let apart = self.last.map_or(Duration::ZERO, |look| look.apart);
        candidate.since + if candidate.is_proven { Duration::ZERO } else { apart }
    }

    /// When events are to be acted upon.
    fn quiet(&self, Events { first, last }: Events) -> Instant {
        (last + self.settings.debounce).min(first + self.settings.max_wait)
    }

    /// The action has ended: the application uses that content, still uses what it did, or nobody
    /// knows. `chance` is between 0 and 1.
    pub fn acted(&mut self, now: Instant, digest: Hash, effect: Effect, chance: f64) {
        self.is_acting = false;
        if effect == Effect::Done {
            (self.applied, self.failed, self.acted) = (Some(digest), None, Some(now));
            return;
        }
        if effect == Effect::Unknown {
            self.applied = None;
        }
        let count = self.failed.filter(|failed| failed.digest == digest).map_or(0, |f| f.count);
        let wait = FIRST_RETRY.saturating_mul(1 << count.min(16)).min(LAST_RETRY);
        let again = now + wait.mul_f64(0.5 + chance / 2.0);
        self.failed = Some(Failed { digest, count: count + 1, again });
    }

    /// Takes content for applied that nobody has acted upon.
    pub fn assume(&mut self, digest: Hash) {
        (self.is_acting, self.applied) = (false, Some(digest));
    }

    /// What was applied last, as far as that is known.
    pub fn applied(&self) -> Option<Hash> {
        self.applied
    }

    /// Whether the application is known not to use what is live.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// What to do now. After [`Next::Act`], an action is under way until [`acted`](Self::acted).
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(last) = self.last else { return Next::Look { thorough: true } };
        let look = self.next_look(last);
        if look <= now {
            return Next::Look { thorough: self.events.is_some() };
        }
        match self.next_action(last) {
            Some((digest, at)) if at <= now => {
                self.is_acting = true;
                Next::Act(digest)
            }
            Some((_, at)) => Next::Wait(at.min(look)),
            None => Next::Wait(look),
        }
    }

    fn next_look(&self, last: Look) -> Instant {
        let poll = last.began + last.poll;
        let is_done = |digest| self.applied == Some(digest) && self.failed.is_none();
        let open = self.candidate.filter(|candidate| {
            self.desired != Some(candidate.digest) && !is_done(candidate.digest)
        });
        let stable = open.map(|candidate| self.stable(candidate));
        let Some(events) = self.events else {
            return stable.map_or(poll, |stable| poll.min(stable.max(last.began + FIRST_LOOK)));
        };
        if last.began < events.first {
            // An early look makes the first of two that must agree.
            return poll.min(events.first + FIRST_LOOK);
        }
        let quiet = self.quiet(events);
        // They do not end.
        let quiet = if last.began < quiet { quiet } else { last.began + self.settings.debounce };
        poll.min(stable.map_or(quiet, |stable| stable.max(quiet)))
    }

    fn next_action(&self, last: Look) -> Option<(Hash, Instant)> {
        let digest = self.desired.filter(|_| !self.is_acting)?;
        let at = match self.failed {
            Some(failed) if failed.digest == digest => failed.again,
            _ if self.applied == Some(digest) => return None,
            // New content is tried at once after a failure.
            Some(_) => last.ended,
            None => {
                let cooldown = self.settings.cooldown;
                self.acted.map_or(last.ended, |acted| (acted + cooldown).max(last.ended))
            }
        };
        // What had to wait, while something has happened, is looked at again before.
        (at <= last.ended || self.events.is_none()).then_some((digest, at))
    }
}

/// What an action has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The application uses the content.
    Done,
    /// It uses what it did before.
    None,
    /// Nobody knows.
    Unknown,
}

#[cfg(test)]
mod tests;
