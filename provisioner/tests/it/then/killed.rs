//! Runs that are killed, or fail, at each system call between the switch and the end of the
//! notification.

use std::fs;
use std::process::Command;

use e2e::programs::{program, run};

use super::{Places, digest_of};

const WRITES: &str = "sh -c 'echo $PROVISIONER_DIGEST >> calls'";

/// Whether a run fails if this fault is injected into the call of this number.
fn is_cut_off(places: &Places, (call, number): (&str, usize), fault: &str, layout: &str) -> bool {
    let mut strace = Command::new("strace");
    let inject = format!("inject={call}:{fault}:when={number}");
    strace.args(["-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "--"]);
    strace.arg(program("provisioner")).args(["--grace", "0", "--keep", "0", "--then", WRITES]);
    strace.args(["--source", "source", "--target", "volume", "--layout", layout]);
    run(strace.current_dir(places.path("")), b"").code != Some(0)
}

/// Injects a fault into each of these calls, one in a run, and returns how many runs failed. Asserts
/// that the next run notifies of the live version.
fn cut_off(calls: &[&str], fault: &str, before: &str, layout: &str) -> u32 {
    let mut cuts = 0;
    for call in calls {
        // A call that does not matter may fail.
        let (mut number, mut passed) = (0, 0);
        while passed < 3 {
            number += 1;
            let places = Places::filled();
            places.publishes(&["--keep", "0", "--then", WRITES, "--layout", before]);
            places.write("two");
            fs::write(places.path("source/b"), "").expect("written");
            fs::remove_file(places.path("calls")).expect("a call for the first version");
            if !is_cut_off(&places, (call, number), fault, layout) {
                passed += 1;
                continue;
            }
            (cuts, passed) = (cuts + 1, 0);
            let outcome = places.run(&["--keep", "0", "--then", WRITES, "--layout", layout]);
            let what = format!("{before} {layout} {call} {number} {fault}: {outcome:?}");
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{what}");
            let (calls, digest) = (places.read("calls"), digest_of(&outcome.stdout));
            assert!(calls.lines().any(|line| line == digest), "{what}: {calls}");
            assert_eq!(places.pending(), 0, "{what}");
        }
    }
    cuts
}

#[test]
fn a_run_killed_at_any_call_leaves_the_notification_to_the_next_run() {
    let calls = ["renameat", "fsync", "unlinkat", "symlinkat", "mkdirat", "execve"];
    let kills = cut_off(&calls, "signal=KILL", "atomic", "atomic");
    assert!(kills > 15, "{kills}");
}

#[test]
fn a_run_of_plain_files_killed_or_failing_at_any_call_leaves_the_notification_to_the_next_run() {
    let calls = ["renameat", "fsync", "unlinkat", "mkdirat"];
    let kills = cut_off(&calls, "signal=KILL", "files", "files");
    assert!(kills > 15, "{kills}");
    let failures = cut_off(&calls, "error=EIO", "files", "files");
    assert!(failures > 15, "{failures}");
    let ways = cut_off(&["renameat", "unlinkat"], "error=EIO", "atomic", "files");
    assert!(ways > 5, "{ways}");
}
