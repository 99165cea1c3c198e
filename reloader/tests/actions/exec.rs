//! Commands of `--exec`: how they end, what they receive, and that none is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reloader::testing::Action;
use reloader::testing::Exec;
use reloader::testing::Stop;
use tempfile::{TempDir, tempdir};

use crate::{content, failure, stopped};

/// Long enough for a loaded machine.
const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(300);

/// A shell script as a command, and a directory for its files, which the script knows as `$0`.
struct Script {
    exec: Exec,
    directory: TempDir,
}

impl Script {
    fn new(script: &str, timeout: Duration) -> Self {
        let directory = tempdir().expect("a directory");
        let at = directory.path().to_str().expect("text");
        let line = shlex::try_join(["sh", "-c", script, at]).expect("no NUL");
        Self { exec: Exec::parse(&line).expect("a command").timeout(timeout), directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The process ID that the script has written to a file.
    fn pid(&self, name: &str) -> u32 {
        let text = fs::read_to_string(self.file(name)).expect("a file");
        text.trim().parse().expect("a number")
    }

    /// Whether the script has written a whole line to a file.
    fn has_written(&self, name: &str) -> bool {
        fs::read_to_string(self.file(name)).is_ok_and(|text| text.ends_with('\n'))
    }
}

/// Whether a process runs. A zombie does not.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[test]
fn the_exit_code_decides_whether_a_command_succeeded() {
    let outcome = |script: &str| Script::new(script, LONG).exec.run(&content(), &Stop::default());
    assert_eq!(outcome("exit 0").unwrap(), "exit code 0");
    for (script, expected) in [
        ("exit 3", "failed to run `sh`: exit code 3"),
        ("kill -9 $$", "failed to run `sh`: killed by signal 9"),
        ("kill -TERM $$", "failed to run `sh`: killed by signal 15"),
    ] {
        assert_eq!(failure(outcome(script)), (expected.to_owned(), false));
    }
}

#[test]
fn a_command_that_cannot_be_started_is_without_effect() {
    for (line, why) in [
        ("no-such-program-anywhere s3cret", "no such file or directory"),
        ("/etc/passwd s3cret", "permission denied"),
        ("/ s3cret", "permission denied"),
    ] {
        let exec = Exec::parse(line).unwrap();
        let (message, is_without_effect) = failure(exec.run(&content(), &Stop::default()));
        assert!(message.ends_with(why) && is_without_effect, "{message}");
        assert!(!message.contains("s3cret"));
        assert!(exec.dry_run(&content()).is_err(), "{line}");
    }
}

#[test]
fn a_dry_run_finds_the_program_and_runs_nothing() {
    let script = Script::new("touch \"$0/run\"", LONG);
    let message = script.exec.dry_run(&content()).unwrap();
    let rest = "/sh` with 3 arguments and RELOADER_DIRECTORIES=/srv/a:/srv/b";
    assert!(message.starts_with("run `/") && message.ends_with(rest), "{message}");
    assert!(!script.file("run").exists());
}

#[test]
fn a_command_gets_the_live_version_an_empty_stdin_and_stderr_for_its_output() {
    let script = Script::new(
        "printf '%s\\n' \"$RELOADER_DIGEST\" \"$RELOADER_DIRECTORIES\" \"$HOME\" >\"$0/variables\"
         cat >\"$0/stdin\"; output=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo \"$output\" >\"$0/output\"",
        LONG,
    );
    script.exec.run(&content(), &Stop::default()).unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let variables = format!("{}\n/srv/a:/srv/b\n{home}\n", content().digest);
    assert_eq!(fs::read_to_string(script.file("variables")).unwrap(), variables);
    assert_eq!(fs::read_to_string(script.file("stdin")).unwrap(), "");
    let stderr = fs::read_link("/proc/self/fd/2").unwrap();
    let output = format!("{0}\n{0}\n", stderr.display());
    assert_eq!(fs::read_to_string(script.file("output")).unwrap(), output);
}

#[test]
fn after_the_timeout_a_command_is_ended_with_its_children() {
    let begun = Instant::now();
    let script = Script::new("sleep 1000 & echo $! >\"$0/pid\"; wait", Duration::from_secs(2));
    let (message, is_without_effect) = failure(script.exec.run(&content(), &Stop::default()));
    assert_eq!(message, "failed to run `sh`: not done within 2s, it ended after SIGTERM");
    assert!(!is_without_effect);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!runs(script.pid("pid")));
}

#[test]
fn a_stopped_command_has_time_to_clean_up() {
    let script = Script::new(
        "sh -c 'trap \"sleep 0.5; echo >$0/clean; exit\" TERM; echo >$0/up; while :; do sleep 0.1; done' \"$0\"
         echo never",
        LONG,
    );
    let up = || script.has_written("up");
    let outcome = stopped(up, |stop| script.exec.run(&content(), stop));
    let (message, _) = failure(outcome);
    assert!(message.contains("stopped before it was done"), "{message}");
    // On a loaded machine half a second may be too short; then the command was killed.
    let is_killed = message.ends_with("it was killed");
    assert!(script.file("clean").exists() || is_killed, "{message}");
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_with_its_children() {
    let script = Script::new(
        "trap '' TERM; sh -c 'echo $$ >\"$0/pid\"; while :; do sleep 1; done' \"$0\"; exit 0",
        Duration::from_secs(2),
    );
    let (message, _) = failure(script.exec.run(&content(), &Stop::default()));
    assert_eq!(message, "failed to run `sh`: not done within 2s, it was killed");
    assert!(!runs(script.pid("pid")));

    let up = || script.has_written("pid");
    fs::remove_file(script.file("pid")).unwrap();
    let exec = script.exec.clone().timeout(LONG);
    let (message, _) = failure(stopped(up, |stop| exec.run(&content(), stop)));
    assert_eq!(message, "failed to run `sh`: stopped before it was done, it was killed");
    assert!(!runs(script.pid("pid")));
}

#[test]
fn background_processes_are_neither_waited_for_nor_ended() {
    let begun = Instant::now();
    let script = Script::new("sleep 1000 & echo $! >\"$0/pid\"", LONG);
    assert_eq!(script.exec.run(&content(), &Stop::default()).unwrap(), "exit code 0");
    assert!(begun.elapsed() < LONG);
    let pid = script.pid("pid");
    assert!(runs(pid));
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
}

#[test]
fn after_a_stop_nothing_is_started() {
    let script = Script::new("touch \"$0/run\"", SHORT);
    let stop = Stop::default();
    stop.set();
    let (_, is_without_effect) = failure(script.exec.run(&content(), &stop));
    assert!(is_without_effect);
    assert!(!script.file("run").exists());
}

#[test]
fn arguments_reach_the_program_unchanged() {
    let directory = tempdir().unwrap();
    let out = directory.path().join("a b\nc");
    let quoted = shlex::try_quote(out.to_str().unwrap()).unwrap().into_owned();
    let exec = Exec::parse(&format!("touch -- {quoted}")).unwrap();
    exec.run(&content(), &Stop::default()).unwrap();
    assert!(Path::new(&out).exists());
}
