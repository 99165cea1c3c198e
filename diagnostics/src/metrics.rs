//! Metrics in Prometheus's text format. A batch program writes them to a file for the textfile
//! collector of the node exporter; a program that keeps running serves them.

use std::fmt::{Display, Write as _};
use std::fs::{self, Permissions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tempfile::Builder;

use crate::wording::io_failure;

/// How much of an older file is read at most, in bytes.
const MAX_OLD: u64 = 1024 * 1024;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Durations for a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// How many durations are in each bucket and not in the one before. The last bucket has no bound.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Counts a duration.
    pub fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += took;
    }
}

/// Metrics in the text format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Adds a counter `name` with a sample for each value of a label.
    pub fn counter(&mut self, name: &str, help: &str, label: &str, samples: &[(&str, u64)]) {
        self.head(name, help, "counter");
        for (value, count) in samples {
            self.sample(format_args!("{name}{{{label}=\"{value}\"}}"), count);
        }
    }

    /// Adds a counter without labels.
    pub fn count(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, value);
    }

    /// Adds a histogram, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, durations: &Durations) {
        self.head(name, help, "histogram");
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(durations.counts) {
            total += count;
            self.sample(format_args!("{name}_bucket{{le=\"{bound}\"}}"), total);
        }
        self.sample(format_args!("{name}_sum"), durations.sum.as_secs_f64());
        self.sample(format_args!("{name}_count"), total);
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.sample(name, value);
    }

    /// Adds a gauge of value 1 whose labels carry the information. The values are not escaped.
    pub fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.head(name, help, "gauge");
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.sample(format_args!("{name}{{{}}}", labels.join(",")), 1);
    }

    /// All metrics, as the answer to a scrape.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds how long the run of `binary` took, and when a run last succeeded: now if this one did,
    /// otherwise the time that `file` has from an earlier run.
    pub fn run(&mut self, binary: &str, took: Duration, succeeded: bool, file: &Path) {
        let name = format!("{binary}_last_run_duration_seconds");
        self.gauge(&name, "How long the last run took.", took.as_secs_f64());
        let name = format!("{binary}_last_success_timestamp_seconds");
        let last = if succeeded {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(now.as_secs_f64())
        } else {
            previous(file, &name)
        };
        if let Some(last) = last {
            self.gauge(&name, "When a run last succeeded, in Unix time.", last);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Replaces `file` by the metrics, in one step and readable by all users.
    ///
    /// # Errors
    /// Fails if the file cannot be replaced, is not a regular file, or is the file that stdout goes
    /// to.
    pub fn write(&self, file: &Path) -> Result<()> {
        self.replace(file).map_err(|error| io_failure("write the metrics to", file, &error))
    }

    fn replace(&self, file: &Path) -> io::Result<()> {
        // The target of a link is replaced, not the link.
        let file = &match fs::canonicalize(file) {
            Err(_) if fs::symlink_metadata(file).is_ok() => {
                return Err(io::Error::other("a link that leads nowhere"));
            }
            target => target.unwrap_or_else(|_| file.to_owned()),
        };
        if let Ok(metadata) = fs::metadata(file) {
            if !metadata.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            if is_stdout(&metadata)? {
                return Err(io::Error::other("the output goes there"));
            }
        }
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        // The name must not end in `.prom`, because the collector reads such files.
        let builder = &mut Builder::new();
        let mut part = builder.prefix(".metrics-").tempfile_in(parent.unwrap_or(Path::new(".")))?;
        part.as_file().set_permissions(Permissions::from_mode(0o644))?;
        part.write_all(self.text.as_bytes())?;
        part.persist(file).map(drop).map_err(|error| error.error)
    }
}

fn is_stdout(metadata: &fs::Metadata) -> io::Result<bool> {
    let stdout = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()?;
    Ok((stdout.dev(), stdout.ino()) == (metadata.dev(), metadata.ino()))
}

/// The value of a metric without labels in an older file.
fn previous(file: &Path, name: &str) -> Option<f64> {
    let mut text = String::new();
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    fs::File::open(file).ok()?.take(MAX_OLD).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_keeps_the_time_of_the_last_success() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.prom");
        let write = |succeeded| {
            let mut metrics = Metrics::default();
            metrics.counter("x_things_total", "Things.", "result", &[("ok", 3), ("bad", 0)]);
            metrics.run("x", Duration::from_millis(1500), succeeded, &file);
            metrics.write(&file).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        let name = "x_last_success_timestamp_seconds";
        assert!(!write(false).contains(name), "nothing has succeeded yet");
        let first = write(true);
        assert!(first.starts_with(
            "# HELP x_things_total Things.\n# TYPE x_things_total counter\n\
             x_things_total{result=\"ok\"} 3\nx_things_total{result=\"bad\"} 0\n"
        ));
        assert!(first.contains("\nx_last_run_duration_seconds 1.5\n"), "{first}");
        let time = previous(&file, name).unwrap();
        write(false);
        assert_eq!(previous(&file, name), Some(time));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_histogram_adds_up() {
        let mut durations = Durations::default();
        for millis in [1, 2, 2, 60_000] {
            durations.add(Duration::from_millis(millis));
        }
        let mut metrics = Metrics::default();
        metrics.histogram("x_seconds", "Time.", &durations);
        let bucket = |bound: &str, count| {
            let sample = format!("\nx_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            assert!(metrics.text.contains(&sample), "{sample}: {}", metrics.text);
        };
        bucket("0.001", 1);
        bucket("0.0025", 3);
        bucket("10", 3);
        bucket("+Inf", 4);
        assert!(metrics.text.ends_with("x_seconds_sum 60.005\nx_seconds_count 4\n"));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = Metrics::default().write(Path::new("/nowhere/x.prom")).unwrap_err();
        let expected =
            "failed to write the metrics to `/nowhere/x.prom`: no such file or directory";
        assert_eq!(error.to_string(), expected);
    }
}
