//! A progress line on a terminal: what the run does, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use diagnostics::progress::Progress as Line;
use published_tree::progress::{Progress, Snapshot};

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows the line until it is dropped.
pub struct ProgressLine {
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressLine {
    /// Starts a thread that shows `progress` on `line`, if the line is wanted at all.
    pub fn start(line: &Line, progress: &Arc<Progress>) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let (mut line, progress, ended) = (line.clone(), progress.clone(), has_ended.clone());
        let is_wanted = line.is_enabled();
        let show = move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(snapshot) = progress.snapshot() {
                    line.show(|_| text(&snapshot));
                }
                thread::park_timeout(INTERVAL);
            }
            line.clear();
        };
        Self { has_ended, thread: is_wanted.then(|| thread::spawn(show)) }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that panicked has stopped showing the line as well.
            let _ = thread.join();
        }
    }
}

fn text(now: &Snapshot) -> String {
    let seconds = now.elapsed.as_secs_f64().max(0.001);
    if now.total_files == 0 {
        return format!("{}, {seconds:.0} s", now.phase);
    }
    let (bytes, rate) = (size(now.bytes as f64), size(now.bytes as f64 / seconds));
    format!("{} {} of {} files, {bytes}, {rate}/s", now.phase, now.files, now.total_files)
}

/// A number of bytes in decimal units.
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

    #[test]
    fn the_line_counts_files_where_the_phase_has_some() {
        let copying = Snapshot {
            phase: "copying",
            files: 3,
            total_files: 10,
            bytes: 5_000_000,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(text(&copying), "copying 3 of 10 files, 5.0 MB, 2.5 MB/s");
        let syncing = Snapshot { phase: "syncing", files: 0, total_files: 0, ..copying };
        assert_eq!(text(&syncing), "syncing, 2 s");
    }
}
