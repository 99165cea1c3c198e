//! Reacts to SIGTERM and SIGINT. The kernel does not deliver them to a process with PID 1, as in a
//! container, unless it has handlers for them.
//!
//! 1. At first a signal ends the process at once. A publication may be cut off anywhere.
//! 2. After [`Shutdown::defer`], a signal only ends waiting, until [`Shutdown::resume`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

/// How often a wait checks for a signal.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a signal has come, and what the next one does.
pub struct Shutdown {
    /// Whether a signal ends the process at once.
    exits_at_once: Arc<AtomicBool>,
    has_come: Arc<AtomicBool>,
}

impl Shutdown {
    /// Installs the handlers. Signals end the process at once, until [`defer`](Self::defer).
    ///
    /// # Errors
    /// Fails if a handler cannot be installed.
    pub fn listen() -> Result<Self> {
        let shutdown =
            Self { exits_at_once: Arc::new(AtomicBool::new(true)), has_come: Arc::default() };
        for signal in [SIGTERM, SIGINT] {
            register_conditional_shutdown(signal, 128 + signal, shutdown.exits_at_once.clone())
                .and_then(|_| register(signal, shutdown.has_come.clone()))
                .context("failed to handle signals")?;
        }
        Ok(shutdown)
    }

    /// From now on, a signal only ends waiting.
    pub fn defer(&self) {
        self.exits_at_once.store(false, Ordering::Relaxed);
    }

    /// From now on, a signal ends the process at once again. One that has come before does not.
    pub fn resume(&self) {
        self.exits_at_once.store(true, Ordering::Relaxed);
    }

    /// Whether a signal has come that did not end the process.
    pub fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Waits until `time` has passed or a signal comes. Returns whether no signal has come.
    pub fn wait(&self, time: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < time && !self.has_come() {
            sleep(CHECK_INTERVAL.min(time));
        }
        !self.has_come()
    }
}
