//! Runs that are killed anywhere between the new version and the end of the telling.

use std::fs;
use std::process::Command;

use e2e::programs::{program, run};

use crate::{Places, digest_in};

const WRITES: &str = "sh -c 'echo $PROVISIONER_DIGEST >> told'";

/// Whether the run is killed at the call of this number.
fn is_killed(places: &Places, call: &str, number: usize) -> bool {
    let mut strace = Command::new("strace");
    let inject = format!("inject={call}:signal=KILL:when={number}");
    strace.args(["-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "--"]);
    strace.arg(program("provisioner")).args(["--grace", "0", "--keep", "0", "--then", WRITES]);
    strace.args(["--source", "source", "--target", "volume"]).current_dir(places.path(""));
    run(&mut strace, b"").code != Some(0)
}

#[test]
fn nothing_that_went_live_is_left_untold_whenever_a_run_is_killed() {
    let mut kills = 0;
    for call in ["renameat", "fsync", "unlinkat", "symlinkat", "mkdirat", "execve"] {
        for number in 1.. {
            let places = Places::new();
            places.done(&["--keep", "0", "--then", WRITES]);
            places.write("two");
            fs::write(places.path("source/b"), "").expect("written");
            fs::remove_file(places.path("told")).expect("told of the first");
            if !is_killed(&places, call, number) {
                break;
            }
            kills += 1;
            let outcome = places.run(&["--keep", "0", "--then", WRITES]);
            let what = format!("{call} {number}: {outcome:?}");
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{what}");
            let (told, digest) = (places.read("told"), digest_in(&outcome.stdout));
            assert!(told.lines().any(|line| line == digest), "{what}: {told}");
            assert_eq!(places.notes(), 0, "{what}");
        }
    }
    assert!(kills > 15, "{kills}");
}
