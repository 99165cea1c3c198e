//! A run as a Job sees it: output, signals, exit codes, options.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::programs::{command, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn provisioner(dir: &Path) -> Command {
    let mut provisioner = command("provisioner");
    provisioner.current_dir(dir).env("PROVISIONER_SOURCE", "source");
    provisioner.env("PROVISIONER_TARGET", "volume");
    provisioner
}

fn places() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["source/certs", "volume"] {
        fs::create_dir_all(dir.path().join(name)).expect("made");
    }
    fs::write(dir.path().join("source/certs/a.pem"), "one\n").expect("written");
    dir
}

/// Names on the volume that begin with `..version-`.
fn versions(dir: &Path) -> usize {
    let entries = fs::read_dir(dir.join("volume")).expect("read");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("..version-")).count()
}

#[test]
fn sigterm_ends_the_wait_for_readers_of_the_old_version() {
    let dir = places();
    let path = dir.path();
    assert_eq!(run(provisioner(path).args(["--grace", "0"]), b"").code, Some(0));
    fs::write(path.join("source/certs/a.pem"), "two\n").expect("written");
    let mut child = provisioner(path).stdout(Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("published: 0 added, 1 changed, 0 removed"), "{line}");
    assert_eq!(versions(path), 2, "the old one stays for its readers");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("sent");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert_eq!(fs::read(path.join("volume/certs/a.pem")).expect("read"), b"two\n");
    // The next run does what this one has left, when it is time.
    assert_eq!(run(&mut provisioner(path), b"").code, Some(0));
    assert_eq!(versions(path), 2);
    assert_eq!(run(provisioner(path).args(["--grace", "0"]), b"").code, Some(0));
    assert_eq!(versions(path), 1);
}

#[test]
fn summary_metrics_and_termination_log_show_the_result() {
    let dir = places();
    let path = dir.path();
    fs::write(path.join("log"), "of an earlier container").expect("written");
    let files = ["--termination-log=log", "--summary=summary", "--metrics-file=x.prom"];
    let outcome = run(provisioner(path).args(files), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let counts =
        r#""counts":{"added":1,"bytes":4,"changed":0,"removed":0,"repaired":0,"unchanged":0}"#;
    for file in ["log", "summary"] {
        let summary = fs::read_to_string(path.join(file)).expect("read");
        assert!(summary.contains(counts), "{file}: {summary}");
    }
    let metrics = fs::read_to_string(path.join("x.prom")).expect("read");
    for sample in [
        "provisioner_files_total{op=\"added\"} 1\n",
        "provisioner_bytes_total 4\n",
        "provisioner_last_run_duration_seconds 0.",
        "provisioner_last_success_timestamp_seconds 1",
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }

    fs::remove_dir_all(path.join("source")).expect("removed");
    let outcome = run(provisioner(path).args(files), b"");
    let message = "failed to open `source`: no such file or directory";
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.stderr, format!("provisioner: {message}\n"));
    let log = fs::read_to_string(path.join("log")).expect("read");
    assert!(log.contains(&format!(r#""error":"{message}","exit_code":1"#)), "{log}");
}

#[test]
fn a_missing_termination_log_is_not_created() {
    let dir = places();
    let outcome = run(provisioner(dir.path()).args(["--termination-log", "log"]), b"");
    assert_eq!(outcome.code, Some(0));
    assert!(!dir.path().join("log").exists());
}

#[test]
fn each_command_accepts_only_the_options_that_it_uses() {
    let dir = places();
    let usage = |args: &[&str]| {
        let outcome = run(provisioner(dir.path()).args(args), b"");
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{args:?}");
        outcome.stderr
    };
    for flag in ["--grace=5", "--keep=1", "--lock-timeout=1", "--dry-run", "--then=true"] {
        for look in ["status", "history"] {
            let said = usage(&[look, flag]);
            assert!(said.contains("unexpected argument"), "{look} {flag}: {said}");
        }
        let said = usage(&[flag, "rollback"]);
        assert!(said.contains("the subcommand 'rollback' cannot be used with"), "{flag}: {said}");
        // Here it means something: there is only nothing to go back to.
        assert_eq!(usage(&["rollback", flag]), "provisioner: no earlier version is kept\n");
    }
    // Variables may be set for all of them, and empty ones are not.
    for (variable, value) in [("PROVISIONER_GRACE", "5"), ("PROVISIONER_KEEP", "")] {
        for command in [&["history"][..], &["rollback"], &[]] {
            let outcome = run(provisioner(dir.path()).args(command).env(variable, value), b"");
            assert!(!outcome.stderr.contains("try --help"), "{variable}: {}", outcome.stderr);
        }
    }
}

#[test]
fn short_help_of_each_command_fits_one_screen() {
    for command_line in [&["-h"][..], &["rollback", "-h"], &["status", "-h"], &["history", "-h"]] {
        let help = run(command("provisioner").args(command_line).env("COLUMNS", "80"), b"").stdout;
        assert!(help.lines().count() <= 24, "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        for part in ["Usage: provisioner ", "--target", "--help", "\nExample: provisioner "] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }
}
