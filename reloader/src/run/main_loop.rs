//! Attends to the directories: has them looked at, has the application reloaded, tells of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED};
use published_tree::manifest::hex;
use published_tree::tree::Hash;

use super::changes::names;
use super::event::{Bell, Looked, Wake, start_looking};
use crate::action::Content;
use crate::decide::{Decider, Effect, Look, Next};
use crate::reload::{Outcome, Steps};
use crate::report::{say, warn};
use crate::serve::metrics::Figures;
use crate::stop::Stop;
use crate::watch::Entry;
use crate::watch::{Scanner, Seen};

/// How often a look is taken where every change raises an event.
const POLL_TOLD: Duration = Duration::from_mins(1);
/// How often elsewhere.
const POLL: Duration = Duration::from_secs(5);
/// How long an action may take to end when the program is to.
const FAREWELL: Duration = Duration::from_millis(900);
/// Longer than any wait.
const FOREVER: Duration = Duration::from_hours(24);

/// What the command line says.
pub struct Wishes {
    /// What is watched.
    pub directories: Vec<PathBuf>,
    /// How often a look is taken, if not as often as the file system needs it.
    pub poll: Option<Duration>,
    /// How far apart looks are at least that show content to be stable.
    pub debounce: Duration,
    /// Act upon what is there at the start.
    pub at_start: bool,
    /// End after a change.
    pub once: bool,
    /// Do nothing but tell.
    pub dry_run: bool,
}

/// Attends to directories.
pub struct Attendant {
    wishes: Wishes,
    steps: Steps,
    decider: Decider,
    figures: Figures,
    stop: Stop,
    bell: Bell,
    looks: Sender<bool>,
    is_looking: bool,
    is_acting: bool,
    /// What was there at the start, until the application uses it or something else.
    first: Option<Hash>,
    is_started: bool,
    seen: Option<Seen>,
    /// What the application uses.
    applied: Arc<[Entry]>,
    /// What was told of the last looks, and need not be again.
    told: Vec<String>,
}

impl Attendant {
    /// One that has `scanner` look at the directories from a thread of its own.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(
        wishes: Wishes,
        (steps, decider, figures, stop): (Steps, Decider, Figures, Stop),
        scanner: Scanner,
        bell: Bell,
    ) -> Result<Self> {
        let looks = start_looking(scanner, &bell)?;
        Ok(Self {
            wishes,
            steps,
            decider,
            figures,
            stop,
            bell,
            looks,
            is_looking: false,
            is_acting: false,
            first: None,
            is_started: false,
            seen: None,
            applied: Arc::default(),
            told: Vec::new(),
        })
    }

    /// Attends until it is to end, or has attended to one change if that is wished; the exit code.
    pub fn attend(&mut self, wakes: &Receiver<Wake>) -> u8 {
        loop {
            let now = Instant::now();
            let next = match self.is_looking {
                true => Next::Wait(now + FOREVER),
                false => self.decider.next(now),
            };
            let until = match next {
                Next::Look { thorough } => {
                    self.is_looking = self.looks.send(thorough).is_ok();
                    continue;
                }
                Next::Act(digest) => {
                    if self.act(digest) && self.wishes.once {
                        return DONE;
                    }
                    continue;
                }
                Next::Wait(until) => until,
            };
            match wakes.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Wake::Event) => {
                    self.bell.heard();
                    self.decider.event(Instant::now());
                }
                Ok(Wake::Looked(looked)) => self.looked(*looked),
                Ok(Wake::Acted(digest, outcome)) => {
                    let is_done = outcome.effect == Effect::Done;
                    self.acted(digest, outcome);
                    if self.wishes.once {
                        return if is_done { DONE } else { FAILED };
                    }
                }
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.part(wakes);
                    return DONE;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Lets an action end that is under way.
    fn part(&self, wakes: &Receiver<Wake>) {
        self.stop.set();
        if !self.is_acting {
            return;
        }
        let deadline = Instant::now() + FAREWELL;
        let next = || wakes.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        while matches!(next(), Ok(Wake::Event | Wake::Looked(_) | Wake::Stop)) {}
    }

    fn looked(&mut self, Looked { began, ended, seen, is_told }: Looked) {
        self.is_looking = false;
        let poll = match (self.wishes.poll, is_told && seen.is_ok()) {
            (Some(poll), _) => poll,
            (None, true) => POLL_TOLD,
            (None, false) => POLL,
        };
        // Clients of a network file system may show each other's work this late.
        let apart = self.wishes.debounce.max(if is_told { Duration::ZERO } else { POLL.min(poll) });
        let content = seen.as_ref().ok().map(|seen| (seen.digest, seen.is_proven));
        self.decider.looked(Look { began, ended, content, poll, apart });
        {
            let mut numbers = self.figures.now();
            numbers.looks[usize::from(seen.is_err())] += 1;
            numbers.look_times.add(ended - began);
            (numbers.looked, numbers.poll) = (ended, poll);
            if let Ok(seen) = &seen {
                numbers.entries = seen.entries.len();
                numbers.is_partial = !seen.notes.is_empty();
                numbers.desired = spell(&seen.digest);
            }
            if self.is_started && !self.is_acting && !self.decider.has_failed() {
                numbers.is_successful = Some(true);
            }
        }
        let tidings = match &seen {
            Ok(seen) => seen.notes.clone(),
            Err(error) => vec![format!("{error:#}")],
        };
        tidings.iter().filter(|text| !self.told.contains(text)).for_each(|text| warn(text));
        self.told = tidings;
        if let Ok(seen) = seen {
            self.seen = Some(seen);
        }
    }

    /// Begins to act upon content; whether a change has been attended to already.
    fn act(&mut self, digest: Hash) -> bool {
        let is_first = self.first.is_none();
        self.first = self.first.or(Some(digest));
        let at_start = !self.is_started && self.first == Some(digest);
        if is_first && !(self.wishes.at_start && self.steps.any_at_start()) {
            self.assume(digest);
            return false;
        }
        let directories = self.wishes.directories.clone();
        let content = Content { digest: hex(&digest), directories };
        if self.wishes.dry_run {
            for text in self.steps.rehearse(&content, at_start) {
                say(&format!("would reload: {}{}; {text}", self.changes(), spell(&digest)));
            }
            self.assume(digest);
            return !at_start;
        }
        self.is_acting = true;
        let (steps, stop, bell) = (self.steps.clone(), self.stop.clone(), self.bell.clone());
        thread::spawn(move || {
            let run = || steps.run(&content, at_start, &stop);
            let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Outcome {
                effect: Effect::Unknown,
                text: "an action has panicked".to_owned(),
                took: Duration::ZERO,
            });
            bell.tell(Wake::Acted(digest, outcome));
        });
        false
    }

    /// Takes content for what the application uses.
    fn assume(&mut self, digest: Hash) {
        self.decider.assume(digest);
        self.use_content(digest);
    }

    fn use_content(&mut self, digest: Hash) {
        self.is_started = true;
        if let Some(seen) = self.seen.as_ref().filter(|seen| seen.digest == digest) {
            self.applied = seen.entries.clone();
        }
        let mut numbers = self.figures.now();
        numbers.applied = spell(&digest);
        numbers.is_successful = Some(true);
        numbers.is_ready = true;
    }

    fn acted(&mut self, digest: Hash, Outcome { effect, text, took }: Outcome) {
        self.is_acting = false;
        let chance = chance();
        self.decider.acted(Instant::now(), digest, effect, chance);
        {
            let mut numbers = self.figures.now();
            numbers.reloads[usize::from(effect != Effect::Done)] += 1;
            numbers.reload_times.add(took);
            if effect == Effect::Done {
                numbers.succeeded = Some(SystemTime::now());
            } else {
                numbers.is_successful = Some(false);
            }
        }
        let (changes, digest_text) = (self.changes(), spell(&digest));
        let seconds = took.as_secs_f64();
        if effect == Effect::Done {
            say(&format!("reloaded: {changes}{digest_text}; {text}; {seconds:.2} s"));
            self.use_content(digest);
        } else {
            warn(&format!("reload failed: {changes}{digest_text}; {text}; {seconds:.2} s"));
        }
    }

    /// What is different from what the application uses, to begin a line with.
    fn changes(&self) -> String {
        if !self.is_started {
            return "at start, ".to_owned();
        }
        let names = self.seen.as_ref().and_then(|seen| names(&self.applied, &seen.entries));
        names.map_or(String::new(), |names| format!("{names}, "))
    }
}

fn spell(digest: &Hash) -> String {
    format!("sha256:{}", hex(digest))
}

/// A number between 0 and 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
