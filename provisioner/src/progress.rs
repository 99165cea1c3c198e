//! How far a run is, on a terminal: what it does, and how much of it is done.
//!
//! Whoever reads or writes files counts them here, for whoever may look at it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diagnostics::progress::Progress;

/// How often is looked how far the run is.
const LOOK: Duration = Duration::from_millis(100);

static FILES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static PHASE: Mutex<Option<Phase>> = Mutex::new(None);

/// What a run is doing.
#[derive(Clone, Copy)]
struct Phase {
    /// In a word.
    name: &'static str,
    /// How many files there are.
    files: u64,
    start: Instant,
}

/// Begins with something else, for so many files.
pub fn begin(name: &'static str, files: usize) {
    let mut phase = PHASE.lock().unwrap_or_else(PoisonError::into_inner);
    FILES.store(0, Ordering::Relaxed);
    BYTES.store(0, Ordering::Relaxed);
    *phase = Some(Phase { name, files: files as u64, start: Instant::now() });
}

/// Counts a file that is done.
pub fn add_file() {
    FILES.fetch_add(1, Ordering::Relaxed);
}

/// Counts bytes that are done.
pub fn add_bytes(count: u64) {
    BYTES.fetch_add(count, Ordering::Relaxed);
}

/// Shows how far the run is, as long as it lives.
pub struct Shown {
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shown {
    /// Shows it in a line, if that is wanted.
    pub fn on(line: &Progress) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let (mut line, ended) = (line.clone(), has_ended.clone());
        let is_wanted = line.is_wanted();
        let look = move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(phase) = *PHASE.lock().unwrap_or_else(PoisonError::into_inner) {
                    line.show(|_| phase.line(phase.start.elapsed()));
                }
                thread::park_timeout(LOOK);
            }
            line.hide();
        };
        Self { has_ended, thread: is_wanted.then(|| thread::spawn(look)) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that has failed shows nothing any more either.
            let _ = thread.join();
        }
    }
}

impl Phase {
    fn line(&self, took: Duration) -> String {
        let (files, bytes) = (FILES.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
        let seconds = took.as_secs_f64().max(0.001);
        if self.files == 0 {
            return format!("{}, {seconds:.0} s", self.name);
        }
        let rate = size(bytes as f64 / seconds);
        format!("{} {files} of {} files, {}, {rate}/s", self.name, self.files, size(bytes as f64))
    }
}

/// A number of bytes for people.
fn size(bytes: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0.0, 999.0, 1000.0, 1_234_567.0, 5e9, 2e15].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB", "2000.0 TB"]);
    }
}
