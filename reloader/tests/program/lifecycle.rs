//! Help, start and end of the program.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::programs::{child_of, command, program, run};
use e2e::{skip_unless_root, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{Fixture, Reloader};

#[test]
fn the_short_help_fits_on_a_screen_and_the_long_one_tells_all() {
    let help = |flag| {
        let outcome = run(command("reloader").arg(flag).env("COLUMNS", "80"), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    let short = help("-h");
    assert!(short.lines().count() <= 24, "{short}");
    assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
    assert!(short.contains("\nExample: ") && short.contains("more: --help"), "{short}");
    let long = help("--help");
    for part in ["--max-bytes <MIB>", "RELOADER_MAX_BYTES", "Rolling restarts:", "Exit codes: "] {
        assert!(long.contains(part) && !short.contains(part), "{part}: {long}");
    }
}

#[test]
fn it_ends_within_a_second_even_during_an_action() {
    let fixture = Fixture::new();
    let marker = fixture.at("marker");
    let stuck =
        format!("sh -c 'trap : TERM; touch {}; while :; do sleep 0.1; done'", marker.display());
    for (args, ready) in [(["--exec", "true"], false), (["--exec", &stuck], true)] {
        let mut args = args.to_vec();
        args.push("--at-start");
        let mut reloader = Reloader::start(&args, &fixture.data());
        wait_for("the start", || match ready {
            true => marker.exists(),
            false => reloader.get("/readyz").0 == 200,
        });
        let start = Instant::now();
        reloader.signal(Signal::SIGTERM);
        assert_eq!(reloader.ended(), Some(0));
        // The README promises one second; a busy test machine may take longer.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn it_also_ends_as_process_1() {
    if skip_unless_root("makes a PID namespace") {
        return;
    }
    let fixture = Fixture::new();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).arg(program("reloader"));
    unshare.args(["--listen", "127.0.0.1:0", "--exec", "true"]).arg(fixture.data());
    let mut reloader = Reloader::run(unshare);
    wait_for("the start", || reloader.get("/readyz").0 == 200);
    let pid = child_of(reloader.pid(), "reloader").expect("running");
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).expect("sent");
    assert_eq!(reloader.ended(), Some(0));
}

#[test]
fn once_ends_after_one_change_with_its_result() {
    let fixture = Fixture::new();
    for (content, command, code) in [("two", "true", 0), ("three", "false", 1)] {
        let mut reloader = Reloader::start(&["--once", "--exec", command], &fixture.data());
        wait_for("the first scan", || {
            reloader.stdout().contains("watching ") && reloader.get("/readyz").0 == 200
        });
        fs::write(fixture.file(), content).expect("written");
        assert_eq!(reloader.ended(), Some(code));
    }
}

#[test]
fn a_dry_run_reports_and_does_nothing() {
    let fixture = Fixture::new();
    let args = ["--dry-run", "--once", "--exec", &fixture.record_command()];
    let mut reloader = Reloader::start(&args, &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    fs::write(fixture.file(), "two").expect("written");
    assert_eq!(reloader.ended(), Some(0));
    assert!(reloader.stdout().contains("would reload: file, sha256:"), "{}", reloader.stdout());
    assert_eq!(fixture.recorded(), [""; 0]);
}

#[test]
fn health_is_ok_while_scans_go_on() {
    let fixture = Fixture::new();
    let reloader = Reloader::start(&["--exec", "true"], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(reloader.get("/nothing").0, 404);
}

#[test]
fn wrong_settings_are_refused_at_once() {
    for (args, message) in [
        (&["--debounce", "soon"][..], "not a number of seconds"),
        (&["--listen", "nowhere"], "--listen takes an address and port, not `nowhere`"),
        (&["--http-ca", "x"], "--http-ca must follow the --http that it belongs to"),
        (&["--rollout", "pod/x"], "pod/x"),
        (&["--exec", "'"], "--exec"),
        (&["--signal", "NONE"], "NONE"),
    ] {
        let outcome = run(command("reloader").args(args), b"");
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
}
