//! SIGTERM and SIGINT, which a process with PID 1 would not get without asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

/// How often a wait looks for a signal.
const EVERY: Duration = Duration::from_millis(50);

/// What to do when a signal comes.
pub struct Shutdown {
    /// End at once, as a signal does: a publication may be cut off anywhere.
    ends_all: Arc<AtomicBool>,
    has_come: Arc<AtomicBool>,
}

impl Shutdown {
    /// Takes the signals, which end everything at once, until [`defer`](Self::defer).
    ///
    /// # Errors
    /// They cannot be taken.
    pub fn listen() -> Result<Self> {
        let stop = Self { ends_all: Arc::new(AtomicBool::new(true)), has_come: Arc::default() };
        for signal in [SIGTERM, SIGINT] {
            register_conditional_shutdown(signal, 128 + signal, stop.ends_all.clone())
                .and_then(|_| register(signal, stop.has_come.clone()))
                .context("failed to take signals")?;
        }
        Ok(stop)
    }

    /// From now on the work is done, and a signal only ends waiting.
    pub fn defer(&self) {
        self.ends_all.store(false, Ordering::Relaxed);
    }

    /// Whether a signal has come, which did not end everything.
    pub fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Waits, unless a signal has come or comes: whether it has waited to the end.
    pub fn wait(&self, time: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < time && !self.has_come() {
            sleep(EVERY.min(time));
        }
        !self.has_come()
    }
}
