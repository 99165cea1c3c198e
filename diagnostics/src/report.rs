//! Collects the counts, warnings and failures of a run. They go to stderr or into a summary.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::exit::DONE;
use crate::progress::Progress;
use crate::stderr::print_line;
use crate::wording::io_failure;

/// How many warnings a summary has at most. Further ones are counted.
const MAX_WARNINGS: usize = 100;

/// The summary of a run, as JSON: `{"exit_code": 0, "counts": {...}, "warnings": [...],
/// "warnings_dropped": 0, "error": null}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The exit code of the run.
    pub exit_code: u8,
    /// Counts by name.
    pub counts: BTreeMap<String, u64>,
    /// Warnings. They do not mean that the result is incomplete.
    pub warnings: Vec<String>,
    /// How many warnings were left out.
    pub warnings_dropped: u64,
    /// The error that ended the run, or else its first partial failure.
    pub error: Option<String>,
}

impl Summary {
    /// Formats the summary as one line of JSON of at most `limit` bytes, which must be 200 or more.
    /// Until it fits, first warnings are left out from the end, then the error is truncated, then
    /// counts are left out.
    pub fn to_json_within(&self, limit: usize) -> String {
        let mut fitted = self.clone();
        loop {
            let json = serde_json::json!(fitted).to_string();
            let excess = json.len().saturating_sub(limit);
            if excess == 0 {
                return json;
            }
            if fitted.warnings.pop().is_some() {
                fitted.warnings_dropped += 1;
            } else if let Some(error) = fitted.error.as_mut().filter(|error| error.len() > 8) {
                let room = error.len().saturating_sub(excess + 4);
                error.truncate(error.floor_char_boundary(room));
                error.push('…');
            } else {
                fitted.counts.pop_last();
            }
        }
    }
}

/// The report of a run while it lasts.
///
/// A run without a summary file prints warnings to stderr as they occur. A run with one keeps them
/// for the summary, and prints only failures.
pub struct Report {
    summary: Summary,
    errors: u64,
    show_warnings: bool,
    progress: Progress,
}

impl Report {
    /// A report that prints warnings to stderr if `show_warnings`, and keeps them for the summary.
    pub fn new(show_warnings: bool) -> Self {
        Self::with(show_warnings, Progress::new(show_warnings))
    }

    /// Like [`new`](Self::new), for a run that writes to stdout only after it has shown its
    /// [`progress`](Self::progress).
    pub fn before_output(show_warnings: bool) -> Self {
        Self::with(show_warnings, Progress::before_output(show_warnings))
    }

    fn with(show_warnings: bool, progress: Progress) -> Self {
        Self { summary: Summary::default(), errors: 0, show_warnings, progress }
    }

    /// The line on the terminal that shows how far the run is.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Warns of a failure that must not stop the run. `consequence` says what it means.
    pub fn warn_on_error(&mut self, outcome: Result<()>, consequence: &str) {
        if let Err(error) = outcome {
            self.warn(format!("{consequence}: {error:#}"));
        }
    }

    /// Adds a warning, and prints it if this report shows warnings.
    pub fn warn(&mut self, warning: String) {
        if self.show_warnings {
            self.progress.clear();
            print_line(&format!("Warning: {warning}"));
        }
        if self.summary.warnings.len() < MAX_WARNINGS {
            self.summary.warnings.push(warning);
        } else {
            self.summary.warnings_dropped += 1;
        }
    }

    /// Adds a warning unless the report already has the same one.
    pub fn warn_once(&mut self, warning: String) {
        if !self.summary.warnings.contains(&warning) {
            self.warn(warning);
        }
    }

    /// Prints and records a failure after which the run goes on. Its result will be partial.
    pub fn partial_failure(&mut self, program: &str, error: &anyhow::Error) {
        self.progress.clear();
        print_line(&format!("{program}: {error:#}"));
        self.errors += 1;
        self.summary.error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// How many failures were recorded by [`partial_failure`](Self::partial_failure).
    pub fn partial_failures(&self) -> u64 {
        self.errors
    }

    /// Sets a count of the summary.
    pub fn count(&mut self, name: &str, value: u64) {
        self.summary.counts.insert(name.to_owned(), value);
    }

    /// Adds the outcome of the run to the summary.
    pub fn summarize(&mut self, outcome: &Result<u8>) -> &Summary {
        self.summary.exit_code = match outcome {
            Ok(code) => *code,
            Err(error) => crate::exit::code_of(error),
        };
        if let Err(error) = outcome {
            self.summary.error = Some(format!("{error:#}"));
        }
        &self.summary
    }

    /// Adds the outcome of the run and writes the summary to `file`, unless that is `None`.
    ///
    /// # Errors
    /// Fails with the error of the run. After a run that succeeded, fails if the summary cannot be
    /// written.
    pub fn finish(mut self, outcome: Result<u8>, file: Option<&Path>) -> Result<u8> {
        self.progress.clear();
        self.summarize(&outcome);
        if outcome.is_ok()
            && self.errors > 1
            && let Some(first) = &mut self.summary.error
        {
            first.push_str(&format!(" (and {} more)", self.errors - 1));
        }
        let Some(file) = file else { return outcome };
        let written = fs::write(file, serde_json::json!(self.summary).to_string() + "\n");
        let Err(error) = written else { return outcome };
        let error = io_failure("write the summary to", file, &error);
        if matches!(outcome, Ok(DONE)) {
            return Err(error);
        }
        // The error of the run is more important than this one.
        print_line(&format!("Warning: {error:#}"));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(warnings: usize, error: Option<String>) -> Summary {
        Summary {
            exit_code: 1,
            counts: BTreeMap::from([("paths".to_owned(), 3)]),
            warnings: (0..warnings).map(|n| format!("warning {n} 🦀")).collect(),
            warnings_dropped: 0,
            error,
        }
    }

    #[test]
    fn a_summary_that_fits_is_complete() {
        let whole = summary(2, Some("lost".to_owned()));
        let json = whole.to_json_within(4096);
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), whole);
    }

    #[test]
    fn a_long_summary_loses_warnings_first_then_the_end_of_its_error() {
        let json = summary(1000, Some("é\"\n".repeat(5000))).to_json_within(4096);
        assert!(json.len() <= 4096);
        let fitted: Summary = serde_json::from_str(&json).unwrap();
        assert_eq!(fitted.warnings_dropped, 1000);
        assert!(fitted.error.unwrap().ends_with('…'));

        let json = summary(1000, None).to_json_within(4096);
        assert!((4000..=4096).contains(&json.len()), "{} bytes", json.len());
        let fitted: Summary = serde_json::from_str(&json).unwrap();
        assert_eq!(fitted.warnings.len() as u64 + fitted.warnings_dropped, 1000);
        assert_eq!(fitted.warnings[0], "warning 0 🦀");
    }

    #[test]
    fn the_first_of_several_failures_is_reported_with_their_number() {
        let file = std::env::temp_dir().join(format!("report-{}", std::process::id()));
        let mut report = Report::new(false);
        report.warn("odd".to_owned());
        report.count("paths", 7);
        report.partial_failure("test", &anyhow::anyhow!("first"));
        report.partial_failure("test", &anyhow::anyhow!("second"));
        assert_eq!(report.finish(Ok(1), Some(&file)).unwrap(), 1);
        let read: Summary = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(read.error.as_deref(), Some("first (and 1 more)"));
        assert_eq!((read.exit_code, read.counts["paths"], &read.warnings[0][..]), (1, 7, "odd"));
    }
}
