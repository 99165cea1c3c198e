//! Lines for people: what was done on stdout, what goes wrong on stderr.

use std::io::{Write, stdout};

use diagnostics::stderr;

/// Says what was done.
pub fn say(line: &str) {
    // What is done is done, whether or not anybody hears of it.
    let _ = stdout().write_all(format!("{line}\n").as_bytes());
}

/// Says what goes wrong.
pub fn warn(line: &str) {
    stderr::tell(&format!("reloader: {line}"));
}
