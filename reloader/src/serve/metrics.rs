//! What is told of the run: counts, times, and whether the work goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diagnostics::metrics::{Durations, Metrics};

/// A look that takes longer than this many intervals has stopped.
const INTERVALS: u32 = 3;
/// The shortest time after which the work may be said to have stopped.
const PATIENCE: Duration = Duration::from_secs(15);

/// Figures that the work keeps and others read.
#[derive(Clone, Debug)]
pub struct Figures(Arc<Mutex<Numbers>>);

/// The figures themselves.
#[derive(Debug)]
pub struct Numbers {
    /// Reloads that have succeeded, and that have not.
    pub reloads: [u64; 2],
    /// Looks, likewise.
    pub looks: [u64; 2],
    /// How long reloads took.
    pub reload_times: Durations,
    /// How long looks took.
    pub look_times: Durations,
    /// Whether the application uses what is live, as far as it has been tried.
    pub is_successful: Option<bool>,
    /// When it last was made to.
    pub succeeded: Option<SystemTime>,
    /// What is live, by its digest.
    pub desired: String,
    /// What the application uses.
    pub applied: String,
    /// How many files, directories and links were seen.
    pub entries: usize,
    /// Whether some of them are not covered.
    pub is_partial: bool,
    /// How often a look is taken without any event.
    pub poll: Duration,
    /// When the last look ended, or the run began.
    pub looked: Instant,
    /// Whether the application has been made to use what was live at the start.
    pub is_ready: bool,
}

impl Default for Figures {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Numbers {
            reloads: [0; 2],
            looks: [0; 2],
            reload_times: Durations::default(),
            look_times: Durations::default(),
            is_successful: None,
            succeeded: None,
            desired: String::new(),
            applied: String::new(),
            entries: 0,
            is_partial: false,
            poll: Duration::ZERO,
            looked: Instant::now(),
            is_ready: false,
        })))
    }
}

impl Figures {
    /// The figures, to be read or changed.
    pub fn now(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    /// Whether the work goes on, or since when it does not.
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.looked);
        (since > (self.poll * INTERVALS).max(PATIENCE)).then_some(since)
    }

    /// All of it in Prometheus's text format.
    pub fn metrics(&self) -> String {
        let mut metrics = Metrics::default();
        let results = |[done, failed]: [u64; 2]| [("success", done), ("failure", failed)];
        metrics.counter(
            "reloader_reloads_total",
            "Reloads by what came of them.",
            "result",
            &results(self.reloads),
        );
        metrics.histogram(
            "reloader_reload_duration_seconds",
            "How long reloads took, with their proof.",
            &self.reload_times,
        );
        metrics.gauge(
            "reloader_last_reload_successful",
            "Whether the application is known to use what was live when it was last reloaded.",
            u8::from(self.is_successful == Some(true)),
        );
        if let Some(succeeded) = self.succeeded {
            let time = succeeded.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            metrics.gauge(
                "reloader_last_reload_success_timestamp_seconds",
                "When a reload last succeeded, in Unix time.",
                time,
            );
        }
        metrics.info(
            "reloader_content_info",
            "The digests of what is live, and of what the application uses.",
            &[("desired", &self.desired), ("applied", &self.applied)],
        );
        metrics.counter(
            "reloader_scans_total",
            "Looks at the watched directories by what came of them.",
            "result",
            &results(self.looks),
        );
        metrics.histogram(
            "reloader_scan_duration_seconds",
            "How long looks took.",
            &self.look_times,
        );
        metrics.gauge(
            "reloader_scan_interval_seconds",
            "How often a look is taken without any event.",
            self.poll.as_secs_f64(),
        );
        metrics.gauge(
            "reloader_watched_entries",
            "Files, directories and links that the last look has seen.",
            self.entries,
        );
        metrics.gauge(
            "reloader_scan_partial",
            "Whether there is something that looks do not cover.",
            u8::from(self.is_partial),
        );
        metrics.text().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_has_stopped_after_three_intervals_without_a_look() {
        let figures = Figures::default();
        let looked = figures.now().looked;
        for (poll, patience) in [(1, 15), (5, 15), (60, 180)] {
            figures.now().poll = Duration::from_secs(poll);
            let stalled = |seconds| figures.now().stalled(looked + Duration::from_secs(seconds));
            assert_eq!(stalled(patience), None);
            assert_eq!(stalled(patience + 1), Some(Duration::from_secs(patience + 1)));
        }
    }

    #[test]
    fn figures_are_what_a_scrape_understands() {
        let figures = Figures::default();
        let mut numbers = figures.now();
        (numbers.reloads, numbers.is_successful) = ([3, 1], Some(false));
        let text = numbers.metrics();
        for line in [
            "# TYPE reloader_reloads_total counter",
            "reloader_reloads_total{result=\"failure\"} 1",
            "reloader_last_reload_successful 0",
            "reloader_content_info{desired=\"\",applied=\"\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("success_timestamp"), "there was none yet");
    }
}
