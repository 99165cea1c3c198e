//! Skips tests visibly. `make unit` lists the skipped tests when the others have run.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::panic::Location;

/// The environment variable with the path of the file that each skipped test adds a line to.
const LIST: &str = "SKIPPED_TESTS";

/// Tells a test that needs root whether to return early, and reports the test as skipped then:
/// `if e2e::skip_unless_root("mounts file systems") { return; }`.
///
/// # Panics
/// Panics under `CI=true` unless the test runs as root, and if the list cannot be written.
#[track_caller]
#[must_use]
pub fn skip_unless_root(reason: &str) -> bool {
    let skip = !crate::is_root();
    if skip {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        report(&format!("{test} ({}) needs root: {reason}\n", Location::caller().file()))
            .unwrap_or_else(|error| panic!("failed to report a skipped test: {error}"));
    }
    skip
}

/// Prints the line past the test harness, which hides what a passing test prints.
fn report(line: &str) -> io::Result<()> {
    io::stderr().write_all(format!("skipped: {line}").as_bytes())?;
    if let Some(list) = std::env::var_os(LIST) {
        OpenOptions::new().append(true).create(true).open(list)?.write_all(line.as_bytes())?;
    }
    Ok(())
}
