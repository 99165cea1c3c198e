//! Runs that are killed anywhere between the new version and the end of the telling.

use std::fs;
use std::process::Command;

use e2e::programs::{program, run};

use super::{Places, digest_of};

const WRITES: &str = "sh -c 'echo $PROVISIONER_DIGEST >> told'";

/// Whether the run does not come to its end, if this happens to the call of this number.
fn is_cut_off(places: &Places, (call, number): (&str, usize), fault: &str, layout: &str) -> bool {
    let mut strace = Command::new("strace");
    let inject = format!("inject={call}:{fault}:when={number}");
    strace.args(["-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "--"]);
    strace.arg(program("provisioner")).args(["--grace", "0", "--keep", "0", "--then", WRITES]);
    strace.args(["--source", "source", "--target", "volume", "--layout", layout]);
    run(strace.current_dir(places.path("")), b"").code != Some(0)
}

/// How often a run does not come to its end, whichever of these calls that happens to. The one after
/// it tells what is live then.
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
            fs::remove_file(places.path("told")).expect("told of the first");
            if !is_cut_off(&places, (call, number), fault, layout) {
                passed += 1;
                continue;
            }
            (cuts, passed) = (cuts + 1, 0);
            let outcome = places.run(&["--keep", "0", "--then", WRITES, "--layout", layout]);
            let what = format!("{before} {layout} {call} {number} {fault}: {outcome:?}");
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{what}");
            let (told, digest) = (places.read("told"), digest_of(&outcome.stdout));
            assert!(told.lines().any(|line| line == digest), "{what}: {told}");
            assert_eq!(places.notes(), 0, "{what}");
        }
    }
    cuts
}

#[test]
fn nothing_that_went_live_is_left_untold_whenever_a_run_is_killed() {
    let calls = ["renameat", "fsync", "unlinkat", "symlinkat", "mkdirat", "execve"];
    let kills = cut_off(&calls, "signal=KILL", "atomic", "atomic");
    assert!(kills > 15, "{kills}");
}

#[test]
fn nor_are_plain_files_whenever_a_run_is_killed_or_fails() {
    let calls = ["renameat", "fsync", "unlinkat", "mkdirat"];
    let kills = cut_off(&calls, "signal=KILL", "files", "files");
    assert!(kills > 15, "{kills}");
    let failures = cut_off(&calls, "error=EIO", "files", "files");
    assert!(failures > 15, "{failures}");
    let ways = cut_off(&["renameat", "unlinkat"], "error=EIO", "atomic", "files");
    assert!(ways > 5, "{ways}");
}
