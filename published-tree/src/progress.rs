//! Counters of the files and bytes that worker threads have finished, from which another thread makes a
//! progress line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counters of one run. The threads that do the work share them with the one that shows them.
#[derive(Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    phase: Mutex<Option<Phase>>,
}

#[derive(Clone, Copy)]
struct Phase {
    name: &'static str,
    total_files: u64,
    start: Instant,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The step of the run, as a participle: `copying`.
    pub phase: &'static str,
    /// Files finished in this phase.
    pub files: u64,
    /// Files of this phase; 0 if it does not go file by file.
    pub total_files: u64,
    /// Bytes finished in this phase.
    pub bytes: u64,
    /// How long the phase has taken.
    pub elapsed: Duration,
}

impl Progress {
    /// Starts the phase `name` over `files` files, and resets the counters.
    pub fn begin(&self, name: &'static str, files: usize) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        *phase = Some(Phase { name, total_files: files as u64, start: Instant::now() });
    }

    /// Counts a finished file.
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts finished bytes.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// The counters now; `None` before the first phase.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let phase = (*self.phase.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(Snapshot {
            phase: phase.name,
            files: self.files.load(Ordering::Relaxed),
            total_files: phase.total_files,
            bytes: self.bytes.load(Ordering::Relaxed),
            elapsed: phase.start.elapsed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_phase_starts_from_zero() {
        let progress = Progress::default();
        assert_eq!(progress.snapshot(), None);
        progress.begin("copying", 2);
        progress.add_file();
        progress.add_bytes(7);
        let seen = progress.snapshot().unwrap();
        assert_eq!((seen.phase, seen.files, seen.total_files, seen.bytes), ("copying", 1, 2, 7));
        progress.begin("syncing", 0);
        let seen = progress.snapshot().unwrap();
        assert_eq!((seen.phase, seen.files, seen.total_files, seen.bytes), ("syncing", 0, 0, 0));
    }
}
