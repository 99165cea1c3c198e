//! How all programs report to people and to other programs.
//!
//! * [`exit`]: exit codes, the command line, and the error that ends a run.
//! * [`stderr`]: prints lines to stderr.
//! * [`wording`]: formats system errors and file names for one-line messages.
//! * [`report`]: counts, warnings and failures of a run, on stderr or in a summary.
//! * [`termination`]: writes the summary as a container's termination message.
//! * [`progress`]: shows on a terminal how far a run is.
//! * [`metrics`]: metrics for Prometheus.

pub mod exit;
mod help;
pub mod metrics;
pub mod progress;
pub mod report;
pub mod stderr;
pub mod termination;
pub mod wording;
