//! Commands: how they end, what they are told, and that none is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reloader::action::Action;
use reloader::action::exec::Exec;
use reloader::stop::Stop;
use tempfile::{TempDir, tempdir};

use crate::{content, failure, stopped};

/// Long enough for a loaded machine.
const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(300);

/// A shell script as a command, and a directory for what it tells, named `$0`.
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

    /// The process id that the script has written to a file, whole.
    fn pid(&self, name: &str) -> u32 {
        let told = fs::read_to_string(self.file(name)).expect("a file");
        told.trim().parse().expect("a number")
    }

    fn has_told(&self, name: &str) -> bool {
        fs::read_to_string(self.file(name)).is_ok_and(|text| text.ends_with('\n'))
    }
}

/// Whether a process runs. One that is dead and waits to be buried by process 1 does not.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[test]
fn the_exit_code_is_the_proof() {
    let outcome = |script: &str| Script::new(script, LONG).exec.act(&content(), &Stop::default());
    assert_eq!(outcome("exit 0").unwrap(), "exit code 0");
    for (script, told) in [
        ("exit 3", "failed to run `sh`: exit code 3"),
        ("kill -9 $$", "failed to run `sh`: killed by signal 9"),
        ("kill -TERM $$", "failed to run `sh`: killed by signal 15"),
    ] {
        assert_eq!(failure(outcome(script)), (told.to_owned(), false));
    }
}

#[test]
fn a_command_that_cannot_be_run_is_without_effect() {
    for (line, told) in [
        ("no-such-program-anywhere s3cret", "no such file or directory"),
        ("/etc/passwd s3cret", "permission denied"),
        ("/ s3cret", "permission denied"),
    ] {
        let exec = Exec::parse(line).unwrap();
        let (message, is_without_effect) = failure(exec.act(&content(), &Stop::default()));
        assert!(message.ends_with(told) && is_without_effect, "{message}");
        assert!(!message.contains("s3cret"));
        assert!(exec.rehearse(&content()).is_err(), "{line}");
    }
}

#[test]
fn a_rehearsal_finds_the_program_and_runs_nothing() {
    let script = Script::new("touch \"$0/run\"", LONG);
    let told = script.exec.rehearse(&content()).unwrap();
    let rest = "/sh` with 3 arguments and RELOADER_DIRECTORIES=/srv/a:/srv/b";
    assert!(told.starts_with("run `/") && told.ends_with(rest), "{told}");
    assert!(!script.file("run").exists());
}

#[test]
fn it_is_told_what_is_live_and_hears_nothing_else() {
    let script = Script::new(
        "printf '%s\\n' \"$RELOADER_DIGEST\" \"$RELOADER_DIRECTORIES\" \"$HOME\" >\"$0/told\"
         cat >\"$0/heard\"; says=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo \"$says\" >\"$0/says\"",
        LONG,
    );
    script.exec.act(&content(), &Stop::default()).unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let told = format!("{}\n/srv/a:/srv/b\n{home}\n", content().digest);
    assert_eq!(fs::read_to_string(script.file("told")).unwrap(), told);
    assert_eq!(fs::read_to_string(script.file("heard")).unwrap(), "");
    let stderr = fs::read_link("/proc/self/fd/2").unwrap();
    let says = format!("{0}\n{0}\n", stderr.display());
    assert_eq!(fs::read_to_string(script.file("says")).unwrap(), says);
}

#[test]
fn what_takes_too_long_is_ended_with_all_that_it_has_started() {
    let begun = Instant::now();
    let script = Script::new("sleep 1000 & echo $! >\"$0/pid\"; wait", Duration::from_secs(2));
    let (message, is_without_effect) = failure(script.exec.act(&content(), &Stop::default()));
    assert_eq!(message, "failed to run `sh`: not done within 2s, it ended after SIGTERM");
    assert!(!is_without_effect);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!runs(script.pid("pid")));
}

#[test]
fn what_cleans_up_when_asked_to_end_may_do_so() {
    let script = Script::new(
        "sh -c 'trap \"sleep 0.5; echo >$0/clean; exit\" TERM; echo >$0/up; while :; do sleep 0.1; done' \"$0\"
         echo never",
        LONG,
    );
    let up = || script.has_told("up");
    let outcome = stopped(up, |stop| script.exec.act(&content(), stop));
    let (message, _) = failure(outcome);
    assert!(message.contains("stopped before it was done"), "{message}");
    // On a loaded machine the second of grace may be too short; then it was killed.
    let is_killed = message.ends_with("it was killed");
    assert!(script.file("clean").exists() || is_killed, "{message}");
}

#[test]
fn what_does_not_end_when_asked_to_is_killed() {
    let script = Script::new(
        "trap '' TERM; sh -c 'echo $$ >\"$0/pid\"; while :; do sleep 1; done' \"$0\"; exit 0",
        Duration::from_secs(2),
    );
    let (message, _) = failure(script.exec.act(&content(), &Stop::default()));
    assert_eq!(message, "failed to run `sh`: not done within 2s, it was killed");
    assert!(!runs(script.pid("pid")));

    let up = || script.has_told("pid");
    fs::remove_file(script.file("pid")).unwrap();
    let exec = script.exec.clone().timeout(LONG);
    let (message, _) = failure(stopped(up, |stop| exec.act(&content(), stop)));
    assert_eq!(message, "failed to run `sh`: stopped before it was done, it was killed");
    assert!(!runs(script.pid("pid")));
}

#[test]
fn what_goes_on_in_the_background_is_neither_waited_for_nor_ended() {
    let begun = Instant::now();
    let script = Script::new("sleep 1000 & echo $! >\"$0/pid\"", LONG);
    assert_eq!(script.exec.act(&content(), &Stop::default()).unwrap(), "exit code 0");
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
    let (_, is_without_effect) = failure(script.exec.act(&content(), &stop));
    assert!(is_without_effect);
    assert!(!script.file("run").exists());
}

#[test]
fn words_reach_the_program_as_they_are() {
    let directory = tempdir().unwrap();
    let out = directory.path().join("a b\nc");
    let quoted = shlex::try_quote(out.to_str().unwrap()).unwrap().into_owned();
    let exec = Exec::parse(&format!("touch -- {quoted}")).unwrap();
    exec.act(&content(), &Stop::default()).unwrap();
    assert!(Path::new(&out).exists());
}
