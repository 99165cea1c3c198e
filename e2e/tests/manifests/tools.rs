//! Runs the installed tools, and finds and reads files of the workspace.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, run};

/// The root directory of the workspace.
pub fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A command for a tool that `make checks` has installed.
pub fn tool(name: &str) -> Command {
    let path = top().join("target/checks/bin").join(name);
    assert!(path.is_file(), "{} is missing: run `make checks`", path.display());
    let mut command = Command::new(path);
    command.current_dir(top());
    command
}

/// Runs a command and returns its exit code and output.
pub fn outcome(command: &mut Command) -> Outcome {
    run(command, b"")
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Outcome {
    let outcome = outcome(command);
    let Outcome { code, stdout, stderr } = &outcome;
    assert_eq!(*code, Some(0), "{command:?}: {stdout:.5000}\n{stderr:.5000}");
    outcome
}

/// The files below a directory of the workspace whose paths end with one of `ends`. The paths are
/// relative to the workspace.
pub fn files(below: &str, ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![top().join(below)];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if ends
                .iter()
                .any(|end| path.as_os_str().as_encoded_bytes().ends_with(end.as_bytes()))
            {
                found.push(from_top(&path));
            }
        }
    }
    found.sort();
    found
}

/// The content of a file of the workspace.
pub fn read(path: impl AsRef<OsStr>) -> String {
    let path: PathBuf = top().join(path.as_ref());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn from_top(path: &Path) -> String {
    path.strip_prefix(top()).expect("a path below the top").to_str().expect("UTF-8").to_owned()
}
