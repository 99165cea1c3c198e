//! Writing to stderr, which several processes may share and which may not be writable.

use std::io::{self, Write};

/// Writes one line to stderr in a single call, so that lines of several processes do not mix.
/// When stderr cannot be written, nobody is left to be told: the run goes on as if it could.
pub fn print_line(line: &str) {
    print(&format!("{line}\n"));
}

/// As [`print_line`], without ending the line: for what is written over again.
pub fn print(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
