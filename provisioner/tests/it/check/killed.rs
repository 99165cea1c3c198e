//! Signals while a check runs: the old version stays live, and the next run starts anew.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LAYOUTS, changed, entries, sh};
use crate::support::places::traces;

#[test]
fn a_signal_ends_the_check_and_removes_the_tree() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let before = traces(&places.path("volume"));
        let script = format!("echo $$ >{}; exec sleep 1000", places.path("up").display());
        let mut run = places.provisioner(&["--layout", layout, "--check", &sh(&script)]);
        let child = run.stderr(Stdio::piped()).spawn().expect("started");
        wait_for("the check", || {
            fs::read_to_string(places.path("up")).is_ok_and(|up| up.ends_with('\n'))
        });
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("sent");
        let output = child.wait_with_output().expect("its end");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("interrupted by a signal"), "{stderr}");
        assert_eq!(places.live_file("a"), "one");
        assert_eq!(entries(&traces(&places.path("volume"))), entries(&before));
        let check = fs::read_to_string(places.path("up")).expect("a pid");
        let check = Pid::from_raw(check.trim().parse().expect("a number"));
        wait_for("the end of the check", || kill(check, None).is_err());
    }
}

#[test]
fn a_run_that_was_killed_leaves_the_old_version_live_and_no_version_to_go_back_to() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let script = format!(
            "echo $$ >{}; while test -e {}; do sleep 0.05; done",
            places.path("up").display(),
            places.path("up").display()
        );
        let mut run = places.provisioner(&["--layout", layout, "--check", &sh(&script)]);
        let mut child = run.spawn().expect("started");
        wait_for("the check", || places.path("up").exists());
        child.kill().expect("killed");
        assert_eq!(child.wait().expect("its end").signal(), Some(9));
        assert_eq!(places.live_file("a"), "one");
        fs::remove_file(places.path("up")).expect("removed");
        // What was not accepted is nothing that a rollback can return to.
        let outcome = places.run(&["rollback"]);
        assert_ne!(outcome.code, Some(0), "{}", outcome.stdout);
        places.done(&["--layout", layout, "--check", "true"]);
        assert_eq!(places.live_file("a"), "two");
        let left = traces(&places.path("volume"));
        let versions = left.lines().filter(|line| line.contains("/tree|")).count();
        assert!(versions <= 1, "{left}");
    }
}
