//! The log lines of reloader: results go to stdout, problems to stderr.

use std::io::{Write, stdout};

use diagnostics::stderr;

/// Prints a result to stdout.
pub fn print(line: &str) {
    // A reload counts even if its line cannot be written.
    let _ = stdout().write_all(format!("{line}\n").as_bytes());
}

/// Prints a problem to stderr.
pub fn warn(line: &str) {
    stderr::print_line(&format!("reloader: {line}"));
}
