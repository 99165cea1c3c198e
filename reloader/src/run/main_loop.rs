//! The main loop: starts scans and reloads as `decide` says, and logs their results.
//!
//! 1. Ask the [`Decider`] what to do next: scan, reload, or wait.
//! 2. Start the scan or the reload in a thread, at most one of each at a time.
//! 3. Wait for an event: a change, the end of a scan or a reload, a shutdown.
//!
//! Since the loop itself neither scans nor reloads, a hanging file system or application delays neither
//! a shutdown nor the health checks.

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

use super::changes::changed_names;
use super::event::{Event, EventSender, ScanEnd, start_scanning};
use crate::action::Content;
use crate::decide::{Decider, Effect, Found, Next, ScanReport, Settings};
use crate::log::{print, warn};
use crate::reload::{Outcome, Steps};
use crate::serve::Metrics;
use crate::serve::bundle::Published;
use crate::stop::Stop;
use crate::watch::{Entry, Scan, Scanner};

/// Time between scans where every change raises an event.
const POLL_WITH_EVENTS: Duration = Duration::from_mins(1);
/// Time between scans elsewhere.
const POLL_WITHOUT_EVENTS: Duration = Duration::from_secs(5);
/// How long a shutdown waits for the action under way.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(900);
/// Longer than any wait.
const FOREVER: Duration = Duration::from_hours(24);

/// Options from the command line.
pub struct Options {
    /// The watched directories.
    pub directories: Vec<PathBuf>,
    /// Time between scans without events, if it does not depend on the file system.
    pub poll: Option<Duration>,
    /// When to reload.
    pub settings: Settings,
    /// Reload the content that is there at the start.
    pub at_start: bool,
    /// The bundle that is served, if one is. Scans refresh its files.
    pub bundle: Published,
    /// End after the first change.
    pub once: bool,
    /// Report what a reload would do instead of doing it.
    pub dry_run: bool,
}

/// The state of the main loop.
pub struct MainLoop {
    options: Options,
    steps: Steps,
    decider: Decider,
    metrics: Metrics,
    stop: Stop,
    events: EventSender,
    /// Requests to the scanning thread: whether the scan is to be thorough.
    scans: Sender<bool>,
    is_scanning: bool,
    is_reloading: bool,
    /// The first content that was to be reloaded.
    first: Option<Hash>,
    /// Whether the application is known to use some content.
    is_initialized: bool,
    last_scan: Option<Scan>,
    /// The entries of the content that the application uses.
    applied: Arc<[Entry]>,
    /// Warnings of the last scan, which are not repeated.
    warnings: Vec<String>,
}

impl MainLoop {
    /// Starts the thread for `scanner`.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn new(
        options: Options,
        steps: Steps,
        scanner: Scanner,
        events: EventSender,
        metrics: Metrics,
    ) -> Result<Self> {
        let scans = start_scanning(scanner, &events)?;
        Ok(Self {
            decider: Decider::new(options.settings),
            options,
            steps,
            metrics,
            stop: Stop::default(),
            events,
            scans,
            is_scanning: false,
            is_reloading: false,
            first: None,
            is_initialized: false,
            last_scan: None,
            applied: Arc::default(),
            warnings: Vec::new(),
        })
    }

    /// Runs until a shutdown, or with `once` until the first reload; returns the exit code.
    pub fn run(&mut self, events: &Receiver<Event>) -> u8 {
        loop {
            let now = Instant::now();
            let next = match self.is_scanning {
                true => Next::Wait(now + FOREVER),
                false => self.decider.next(now),
            };
            let until = match next {
                Next::Scan { thorough } => {
                    self.is_scanning = self.scans.send(thorough).is_ok();
                    continue;
                }
                Next::Reload(digest) => {
                    if self.start_reload(digest) && self.options.once {
                        return DONE;
                    }
                    continue;
                }
                Next::Wait(until) => until,
            };
            match events.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Event::Changed) => {
                    self.events.change_received();
                    self.decider.record_event(Instant::now());
                }
                Ok(Event::Scanned(end)) => self.scanned(*end),
                Ok(Event::Reloaded(digest, outcome)) => {
                    let is_applied = outcome.effect == Effect::Applied;
                    self.reloaded(digest, outcome);
                    if self.options.once {
                        return if is_applied { DONE } else { FAILED };
                    }
                }
                Ok(Event::Shutdown) | Err(RecvTimeoutError::Disconnected) => {
                    self.shut_down(events);
                    return DONE;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Interrupts the action under way and waits for its end.
    fn shut_down(&self, events: &Receiver<Event>) {
        self.stop.set();
        if !self.is_reloading {
            return;
        }
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        let next = || events.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        while matches!(next(), Ok(Event::Changed | Event::Scanned(_) | Event::Shutdown)) {}
    }

    fn scanned(&mut self, ScanEnd { began, ended, scan, has_events }: ScanEnd) {
        self.is_scanning = false;
        let poll = match (self.options.poll, has_events && scan.is_ok()) {
            (Some(poll), _) => poll,
            (None, true) => POLL_WITH_EVENTS,
            (None, false) => POLL_WITHOUT_EVENTS,
        };
        // Clients of a network file system may show each other's changes this late.
        let delay = if has_events { Duration::ZERO } else { POLL_WITHOUT_EVENTS.min(poll) };
        let apart = self.options.settings.debounce.max(delay);
        let content = scan.as_ref().ok();
        if let Some((scan, files)) = content.and_then(|scan| Some((scan, scan.files()?))) {
            self.options.bundle.refresh(&files, &hex(&scan.digest));
        }
        let content =
            content.map(|scan| Found { digest: scan.digest, is_verified: scan.is_verified });
        self.decider.record_scan(ScanReport { began, ended, content, poll, apart });
        {
            let mut metrics = self.metrics.lock();
            metrics.scans[usize::from(scan.is_err())] += 1;
            metrics.scan_times.add(ended - began);
            (metrics.scanned_at, metrics.poll) = (ended, poll);
            if let Ok(scan) = &scan {
                metrics.entries = scan.entries.len();
                metrics.is_partial = !scan.warnings.is_empty();
                metrics.desired = with_algorithm(&scan.digest);
            }
            if self.is_initialized && !self.is_reloading && !self.decider.has_failed() {
                metrics.is_successful = Some(true);
            }
        }
        let warnings = match &scan {
            Ok(scan) => scan.warnings.clone(),
            Err(error) => vec![format!("{error:#}")],
        };
        warnings.iter().filter(|text| !self.warnings.contains(text)).for_each(|text| warn(text));
        self.warnings = warnings;
        if let Ok(scan) = scan {
            self.last_scan = Some(scan);
        }
    }

    /// Starts to reload content. Returns true if that was a dry run of a change, which is over.
    fn start_reload(&mut self, digest: Hash) -> bool {
        let is_first = self.first.is_none();
        self.first = self.first.or(Some(digest));
        let is_start = !self.is_initialized && self.first == Some(digest);
        if is_first && !(self.options.at_start && self.steps.any_at_start()) {
            self.decider.assume_applied(digest);
            self.applied(digest);
            return false;
        }
        let directories = self.options.directories.clone();
        let scan = self.last_scan.as_ref().filter(|scan| scan.digest == digest);
        let files = scan.and_then(Scan::files);
        let content = Content { digest: hex(&digest), directories, files };
        if self.options.dry_run {
            let prefix = format!("would reload: {}{}", self.changes(), with_algorithm(&digest));
            for text in self.steps.dry_run(&content, is_start) {
                print(&format!("{prefix}; {text}"));
            }
            self.decider.assume_applied(digest);
            self.applied(digest);
            return !is_start;
        }
        self.is_reloading = true;
        let (steps, stop, events) = (self.steps.clone(), self.stop.clone(), self.events.clone());
        thread::spawn(move || {
            let run = || steps.run(&content, is_start, &stop);
            let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Outcome {
                effect: Effect::Unknown,
                text: "an action has panicked".to_owned(),
                took: Duration::ZERO,
            });
            events.send(Event::Reloaded(digest, outcome));
        });
        false
    }

    fn reloaded(&mut self, digest: Hash, Outcome { effect, text, took }: Outcome) {
        self.is_reloading = false;
        self.decider.record_reload(Instant::now(), digest, effect, jitter());
        let is_applied = effect == Effect::Applied;
        {
            let mut metrics = self.metrics.lock();
            metrics.reloads[usize::from(!is_applied)] += 1;
            metrics.reload_times.add(took);
            if is_applied {
                metrics.succeeded_at = Some(SystemTime::now());
            } else {
                metrics.is_successful = Some(false);
            }
        }
        let (changes, digest_text) = (self.changes(), with_algorithm(&digest));
        let seconds = took.as_secs_f64();
        if is_applied {
            print(&format!("reloaded: {changes}{digest_text}; {text}; {seconds:.2} s"));
            self.applied(digest);
        } else {
            warn(&format!("reload failed: {changes}{digest_text}; {text}; {seconds:.2} s"));
        }
    }

    /// Records that the application uses content.
    fn applied(&mut self, digest: Hash) {
        self.is_initialized = true;
        if let Some(scan) = self.last_scan.as_ref().filter(|scan| scan.digest == digest) {
            self.applied = scan.entries.clone();
        }
        let mut metrics = self.metrics.lock();
        metrics.applied = with_algorithm(&digest);
        metrics.is_successful = Some(true);
        metrics.is_ready = true;
    }

    /// The names that differ from the content in use, as the beginning of a line.
    fn changes(&self) -> String {
        if !self.is_initialized {
            return "at start, ".to_owned();
        }
        let scan = self.last_scan.as_ref();
        let names = scan.and_then(|scan| changed_names(&self.applied, &scan.entries));
        names.map_or(String::new(), |names| format!("{names}, "))
    }
}

fn with_algorithm(digest: &Hash) -> String {
    format!("sha256:{}", hex(digest))
}

/// A random number between 0 and 1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
