//! Running the workspace's own programs, and others, in tests.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where a program of this workspace was built. Test programs lie in `deps` beside it.
///
/// # Panics
/// When it was not built: `cargo build --workspace` comes first.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let deps = test.parent().expect("its directory");
    let path = deps.parent().expect("the directory above").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace`", path.display());
    path
}

/// A program of this workspace, with none of its settings taken from the environment.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars_os() {
        let prefix = variable.to_string_lossy();
        if ["LDAP_", "SCAN_UIDS_", "RESOLVE"].iter().any(|p| prefix.starts_with(p)) {
            command.env_remove(variable);
        }
    }
    command
}

/// What came of a program, as text.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end, with `input` on its stdin.
///
/// # Panics
/// When it cannot be started or waited for.
pub fn run(command: &mut Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a piped stdin");
    std::thread::scope(|scope| {
        // A program that fails early does not read its input to the end.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("the program's end").into()
    })
}
