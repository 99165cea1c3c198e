//! Counts and times of scans and reloads, which the main loop writes and `/metrics`, `/healthz` and
//! `/readyz` read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diagnostics::metrics::{Durations, Metrics as Text};

use crate::process::nginx::LastMaster;

/// Scanning has stalled when no scan has ended for this many intervals.
const STALL_INTERVALS: u32 = 3;
/// But not before this time.
const MIN_STALL: Duration = Duration::from_secs(15);

/// Shared metrics. Clones refer to the same values.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Values>>);

/// The values of the metrics.
#[derive(Debug)]
pub struct Values {
    /// Successful and failed reloads.
    pub reloads: [u64; 2],
    /// Successful and failed scans.
    pub scans: [u64; 2],
    /// How long reloads took.
    pub reload_times: Durations,
    /// How long scans took.
    pub scan_times: Durations,
    /// Whether the application uses the live content; `None` before the first reload.
    pub is_successful: Option<bool>,
    /// When a reload last succeeded.
    pub succeeded_at: Option<SystemTime>,
    /// The digest of the live content.
    pub desired: String,
    /// The digest of the content that the application uses.
    pub applied: String,
    /// Files, directories and links in the last scan.
    pub entries: usize,
    /// Whether the last scan did not cover everything.
    pub is_partial: bool,
    /// Time between scans without events.
    pub poll: Duration,
    /// When the last scan ended, or the program started.
    pub scanned_at: Instant,
    /// Whether the application uses the content from the start, or later content.
    pub is_ready: bool,
    /// The master of nginx that was reloaded last.
    pub nginx: LastMaster,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Values {
            reloads: [0; 2],
            scans: [0; 2],
            reload_times: Durations::default(),
            scan_times: Durations::default(),
            is_successful: None,
            succeeded_at: None,
            desired: String::new(),
            applied: String::new(),
            entries: 0,
            is_partial: false,
            poll: Duration::ZERO,
            scanned_at: Instant::now(),
            is_ready: false,
            nginx: LastMaster::default(),
        })))
    }
}

impl Metrics {
    /// Locks the values, to read or change them.
    pub fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    /// The time since the last scan, if that is too long.
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.scanned_at);
        (since > (self.poll * STALL_INTERVALS).max(MIN_STALL)).then_some(since)
    }

    /// The values in Prometheus's text format.
    pub fn to_prometheus(&self) -> String {
        let mut text = Text::default();
        let results = |[done, failed]: [u64; 2]| [("success", done), ("failure", failed)];
        text.counter(
            "reloader_reloads_total",
            "Reloads by result.",
            "result",
            &results(self.reloads),
        );
        text.histogram(
            "reloader_reload_duration_seconds",
            "Duration of reloads, including their proof.",
            &self.reload_times,
        );
        text.gauge(
            "reloader_last_reload_successful",
            "Whether the application is known to use the live content.",
            u8::from(self.is_successful == Some(true)),
        );
        if let Some(at) = self.succeeded_at {
            let time = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            text.gauge(
                "reloader_last_reload_success_timestamp_seconds",
                "Unix time of the last successful reload.",
                time,
            );
        }
        text.info(
            "reloader_content_info",
            "Digests of the live content, and of the content that the application uses.",
            &[("desired", &self.desired), ("applied", &self.applied)],
        );
        text.counter(
            "reloader_scans_total",
            "Scans of the watched directories by result.",
            "result",
            &results(self.scans),
        );
        text.histogram("reloader_scan_duration_seconds", "Duration of scans.", &self.scan_times);
        text.gauge(
            "reloader_scan_interval_seconds",
            "Time between scans without events.",
            self.poll.as_secs_f64(),
        );
        text.gauge(
            "reloader_watched_entries",
            "Files, directories and links in the last scan.",
            self.entries,
        );
        text.gauge(
            "reloader_scan_partial",
            "Whether the last scan did not cover everything.",
            u8::from(self.is_partial),
        );
        if let Some(workers) = self.nginx.shutting_down() {
            text.gauge(
                "reloader_nginx_workers_shutting_down",
                "Old workers of nginx that still have connections.",
                workers,
            );
        }
        text.text().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanning_has_stalled_after_three_intervals_without_a_scan() {
        let metrics = Metrics::default();
        let scanned_at = metrics.lock().scanned_at;
        for (poll, limit) in [(1, 15), (5, 15), (60, 180)] {
            metrics.lock().poll = Duration::from_secs(poll);
            let stalled =
                |seconds| metrics.lock().stalled(scanned_at + Duration::from_secs(seconds));
            assert_eq!(stalled(limit), None);
            assert_eq!(stalled(limit + 1), Some(Duration::from_secs(limit + 1)));
        }
    }

    #[test]
    fn metrics_are_in_the_text_format() {
        let metrics = Metrics::default();
        let mut values = metrics.lock();
        (values.reloads, values.is_successful) = ([3, 1], Some(false));
        let text = values.to_prometheus();
        for line in [
            "# TYPE reloader_reloads_total counter",
            "reloader_reloads_total{result=\"failure\"} 1",
            "reloader_last_reload_successful 0",
            "reloader_content_info{desired=\"\",applied=\"\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("success_timestamp"), "no reload has succeeded yet");
    }
}
