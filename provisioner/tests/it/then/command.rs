//! Commands of `--then`: when they run, how their failures are shown, and how they end.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::programs::Outcome;
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::server::{Answer, Server};
use super::{Places, digest_of, traces};

/// Appends its environment variables to the file `calls`.
const WRITES: &str = r#"sh -c 'echo "$PROVISIONER_DIGEST $PROVISIONER_TARGET" >> calls'"#;

fn output(child: Child) -> Outcome {
    child.wait_with_output().expect("its end").into()
}

#[test]
fn a_command_runs_only_when_another_version_is_live() {
    let places = Places::filled();
    let target = fs::canonicalize(places.path("volume")).expect("a path");
    let mut expected = String::new();
    let mut assert_called = |digest: &str| {
        expected.push_str(&format!("{digest} {}\n", target.display()));
        assert_eq!(places.read("calls"), expected);
        assert_eq!(places.pending(), 0);
    };
    let first = places.publishes(&["--then", WRITES]);
    assert_called(&first);
    let before = traces(&places.path("volume"));
    assert_eq!(places.publishes(&["--then", WRITES]), first);
    assert_eq!(traces(&places.path("volume")), before);
    places.write("two");
    let second = places.publishes(&["--then", WRITES]);
    assert_called(&second);
    assert_eq!(places.publishes(&["rollback", "--then", WRITES]), first);
    assert_called(&first);
    // Pinned: nothing is published, so the command does not run.
    places.publishes(&["--then", WRITES]);
    assert_eq!(places.publishes(&["--unpin", "--then", WRITES]), second);
    assert_called(&second);
    // A removed link and a changed live file are repaired, which is another publication.
    fs::remove_file(places.path("volume/a")).expect("removed");
    places.publishes(&["--then", WRITES]);
    assert_called(&second);
    fs::write(places.path("volume/a"), "too").expect("written");
    assert_eq!(places.publishes(&["--then", WRITES]), second);
    assert_called(&second);
}

#[test]
fn a_command_that_failed_is_run_again_by_the_next_run() {
    let places = Places::filled();
    let command = format!("{} && test ! -e broken'", WRITES.trim_end_matches('\''));
    fs::write(places.path("broken"), "").expect("written");
    for round in 1..3 {
        let outcome = places.run(&["--then", &command]);
        assert_eq!(outcome.code, Some(1));
        let message = "provisioner: not every listener was notified of the live version; the next \
                       run tries again: `sh` ended with code 1\n";
        assert_eq!(outcome.stderr, message);
        let word = if round == 1 { "published: " } else { "unchanged: " };
        assert!(outcome.stdout.starts_with(word), "{}", outcome.stdout);
        assert_eq!(places.read("volume/a"), "one", "the publication stands");
        assert_eq!(places.read("calls").lines().count(), round);
    }
    // A run without listeners leaves the notification pending.
    places.publishes(&[]);
    fs::remove_file(places.path("broken")).expect("removed");
    let digest = places.publishes(&["--then", &command]);
    assert_eq!(places.pending(), 0);
    assert!(places.read("calls").lines().all(|line| line.starts_with(&digest)));
    assert_eq!(places.read("calls").lines().count(), 3);
    let before = traces(&places.path("volume"));
    places.publishes(&["--then", &command]);
    assert_eq!(traces(&places.path("volume")), before);
    assert_eq!(places.read("calls").lines().count(), 3);
}

#[test]
fn a_hostile_name_of_the_volume_reaches_command_and_server() {
    let places = Places::filled();
    let name = OsStr::from_bytes(b"v\xff\n\"");
    fs::rename(places.path("volume"), places.path("").join(name)).expect("renamed");
    let server = Server::start(vec![Answer::Text("HTTP/1.1 200 OK\r\n\r\n")], None);
    let url = server.url("http");
    let command = "sh -c 'printf %s \"$PROVISIONER_TARGET\" > calls'";
    let mut run = places.provisioner(&["--then", command, "--then-post", &url]);
    let outcome = e2e::programs::run(run.env("PROVISIONER_TARGET", name), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(fs::read(places.path("calls")).expect("read").ends_with(b"/v\xff\n\""));
    let body: serde_json::Value = serde_json::from_str(&server.request().body).expect("JSON");
    assert!(body["target"].as_str().is_some_and(|target| target.ends_with("/v\u{fffd}\n\"")));
}

#[test]
fn the_output_of_a_command_goes_to_stderr() {
    let places = Places::filled();
    let outcome = places.run(&["--then", "sh -c 'echo out; echo err >&2; cat'"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), "out\nerr\n"));
    assert_eq!(outcome.stdout.lines().count(), 1, "{}", outcome.stdout);
}

#[test]
fn the_error_says_how_a_command_failed() {
    for (command, why) in [
        ("/nowhere/x secret", "failed to run `/nowhere/x`: no such file or directory"),
        ("sh -c 'kill -9 $$'", "`sh` ended by signal 9"),
    ] {
        let places = Places::filled();
        let log = places.path("log");
        fs::write(&log, "").expect("written");
        let args = ["--then", command, "--termination-log", "log", "--metrics-file", "x.prom"];
        let outcome = places.run(&args);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.ends_with(&format!(": {why}\n")), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
        assert!(places.read("log").contains(why), "{}", places.read("log"));
        assert!(!places.read("x.prom").contains("last_success"), "{}", places.read("x.prom"));
        assert_eq!((places.pending(), &places.read("volume/a")[..]), (1, "one"));
    }
}

#[test]
fn a_bad_command_line_is_refused_before_anything_is_published() {
    let places = Places::filled();
    for (command, why) in [("sh -c 'x", "ends within quotes"), (" ", "is empty")] {
        let outcome = places.run(&["--then", command]);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""));
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        places.assert_empty();
    }
}

#[test]
fn sigterm_is_passed_on_to_the_command_and_its_children() {
    let places = Places::filled();
    // Without SIGTERM, the shell's child would go on for ever.
    let command = r#"sh -c 'trap "echo ended > ended; exit 7" TERM
        sh -c "trap : TERM; echo started > started; while sleep 0.1; do :; done; echo child > child" &
        while :; do wait; done'"#;
    let mut child = places.provisioner(&["--then", command]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    wait_for("the command", || places.path("started").exists());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("sent");
    let outcome = output(child);
    assert_eq!((outcome.code, &places.read("ended")[..]), (Some(1), "ended\n"));
    assert!(outcome.stderr.contains("`sh` ended with code 7"), "{}", outcome.stderr);
    wait_for("the command's child", || places.path("child").exists());
    assert_eq!(places.pending(), 1);
    places.publishes(&["--then", "true"]);
    assert_eq!(places.pending(), 0);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_ten_seconds() {
    let places = Places::filled();
    let command = r#"sh -c 'trap "" TERM; echo > started; while :; do sleep 1; done'"#;
    let mut child = places.provisioner(&["--then", command]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    wait_for("the command", || places.path("started").exists());
    let start = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("sent");
    let outcome = output(child);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("`sh` ended by signal 9"), "{}", outcome.stderr);
    assert!(start.elapsed() >= Duration::from_secs(10), "it has 10 seconds to end");
}

#[test]
fn a_version_that_was_replaced_meanwhile_is_skipped() {
    let places = Places::filled();
    mkfifo(&places.path("gate"), Mode::S_IRWXU).expect("made");
    let waits = format!("sh -c 'echo > started; cat gate; {}", &WRITES["sh -c '".len()..]);
    let start = |command: &str| {
        let mut run = places.provisioner(&["--then", command]);
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let mut runs = vec![start(&waits)];
    wait_for("the command", || places.path("started").exists());
    // Meanwhile other runs can publish.
    for content in ["two", "three"] {
        places.write(content);
        runs.push(start(WRITES));
        wait_for("the version", || places.read("volume/a") == content);
    }
    assert_eq!(places.read("calls"), "");
    fs::write(places.path("gate"), "").expect("opened");
    let digests = runs.into_iter().map(|child| {
        let outcome = output(child);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        digest_of(&outcome.stdout)
    });
    let digests: Vec<_> = digests.collect();
    let calls = places.read("calls");
    let calls: Vec<_> = calls.lines().map(|line| &line[..64]).collect();
    assert_eq!(calls, [&digests[0], &digests[2]]);
    assert_eq!(places.pending(), 0);
}

#[test]
fn a_run_waits_for_the_notification_of_another_until_its_lock_timeout() {
    let places = Places::filled();
    mkfifo(&places.path("gate"), Mode::S_IRWXU).expect("made");
    let mut first = places.provisioner(&["--then", "sh -c 'echo > started; cat gate'"]);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    wait_for("the command", || places.path("started").exists());
    let outcome = places.run(&["--then", "true", "--lock-timeout", "0"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("is locked by another writer"), "{}", outcome.stderr);
    fs::write(places.path("gate"), "").expect("opened");
    assert_eq!(output(first).code, Some(0));
}
