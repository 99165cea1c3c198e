//! What a run tells people, the same for every binary: error wording, exit codes, warnings, the
//! summary, progress and metrics.
//!
//! * [`stderr`]: lines on stderr.
//! * [`wording`]: operating system errors and file names as they stand in one-line messages.
//! * [`exit`]: the exit codes, and the one place that prints a failure.
//! * [`report`]: counts and warnings of a run, shown on stderr or written as a summary.
//! * [`termination`]: the summary as a container's termination message.
//! * [`progress`]: how far it is, on a terminal.
//! * [`metrics`]: counts of a run for Prometheus.

pub mod exit;
mod help;
pub mod metrics;
pub mod progress;
pub mod report;
pub mod stderr;
pub mod termination;
pub mod wording;
