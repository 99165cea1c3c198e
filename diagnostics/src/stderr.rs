//! Prints to stderr. Several processes may share stderr, and it may be closed.

use std::io::{self, Write};

/// Prints one line in a single call, so that lines of several processes do not mix.
///
/// An error is ignored, because there is no other place to report it.
pub fn print_line(line: &str) {
    print(&format!("{line}\n"));
}

/// Prints text without ending the line, like [`print_line`] otherwise.
pub fn print(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
