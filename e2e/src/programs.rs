//! Runs the programs of this workspace, and others.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::freshness;

/// The path of a program of this workspace, built with the same profile as the running test.
///
/// `cargo test -p CRATE` builds only the programs of that crate. This function therefore refuses
/// to return the path of a program that is older than its sources.
///
/// # Panics
/// Panics if the program is missing or older than a file that it is built from.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let deps = test.parent().expect("the directory `deps`");
    let path = deps.parent().expect("the directory of the profile").join(name);
    if let Err(problem) = freshness::verify(&path) {
        panic!("{problem}: run `cargo build --workspace`, with the profile of the tests");
    }
    path
}

/// Copies a program of this workspace into `dir`, where other users can reach it.
///
/// The copy is made by another process: a descriptor open for writing here could be inherited by
/// a process that another test starts meanwhile, and the copy could not be run ("text file busy").
///
/// # Panics
/// Panics if this fails.
pub fn copy_program(name: &str, dir: &Path) -> PathBuf {
    let status = Command::new("cp").arg(program(name)).arg(dir).status().expect("cp");
    assert!(status.success());
    dir.join(name)
}

/// A command of this workspace. The variables of the environment that set its options are removed.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    remove_settings(&mut command);
    command
}

fn remove_settings(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        let prefixes = ["LDAP_", "PROVISIONER_", "RELOADER_", "RESOLVE", "SCAN_UIDS_"];
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(variable);
        }
    }
}

/// The exit code and the output, as text, of a program that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
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

/// Runs a command with `input` as its stdin, and waits for its end.
///
/// # Panics
/// Panics if the command cannot be started or waited for.
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

/// The id of a child of process `parent` that runs the program `name`, if there is one.
///
/// # Panics
/// Panics if `/proc` cannot be read.
pub fn child_of(parent: u32, name: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes.flatten().find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // "pid (name) state ppid ...": the name may hold anything, parentheses too.
        let (start, rest) = stat.rsplit_once(") ")?;
        let is_child = rest.split(' ').nth(1)? == parent.to_string();
        (is_child && start.ends_with(&format!("({name}"))).then_some(id)
    })
}

/// Runs a program as process 1 of a PID namespace, as in a container, with a stdin that stays open.
/// Sends SIGTERM and returns the exit code.
///
/// # Panics
/// Panics if the program has not ended after 30 seconds.
pub fn ended_as_first_process(name: &str, args: &[&str]) -> Option<i32> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]);
    unshare.args(if crate::is_root() { &[][..] } else { &["--map-root-user"] });
    unshare.arg(program(name)).args(args).stdin(Stdio::piped()).stdout(Stdio::null());
    remove_settings(&mut unshare);
    let mut unshare = unshare.spawn().expect("unshare is installed");
    let mut status = None;
    crate::wait_for(&format!("{name} to end"), || {
        // A signal that arrives before the program handles it is lost.
        if let Some(id) = child_of(unshare.id(), name) {
            let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGTERM);
        }
        status = unshare.try_wait().expect("its state");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

/// Reads a JSON object with Python. Returns the bytes of each key, which are `os.fsencode` of the key
/// that `json.loads` returns, and each value as JSON.
///
/// # Panics
/// Panics if Python is missing or refuses the JSON.
pub fn python_pairs(json: &str) -> Vec<(Vec<u8>, String)> {
    const SCRIPT: &str = "\
import json, os, sys
pairs = json.loads(sys.stdin.read(), object_pairs_hook=list)
for key, value in pairs:
    value = dict(value) if isinstance(value, list) else value
    sys.stdout.buffer.write(os.fsencode(key) + b'\\0' + json.dumps(value).encode() + b'\\0')
";
    let mut python = Command::new("python3");
    let mut child = python
        .args(["-c", SCRIPT])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut stdin = child.stdin.take().expect("a piped stdin");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(json.as_bytes()).expect("python reads it all"));
        child.wait_with_output().expect("python's end")
    });
    assert!(output.status.success(), "not JSON: {json:.300}");
    let mut fields = output.stdout.split(|&b| b == 0).map(<[u8]>::to_vec);
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((key, String::from_utf8(value).expect("ASCII")));
    }
    pairs
}
