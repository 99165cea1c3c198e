//! Two writers at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::programs::run;
use rustix::fs::{FlockOperation, flock};

use crate::support::run::{
    Place, assert_publishes, assert_settled, names, provisioner, publish, strace_command,
};
use crate::support::tree::{make_new, make_old, seen, seen_by_name, without_root};

#[test]
fn a_writer_that_waits_too_long_names_the_holder_of_the_lock() {
    let place = Place::new();
    make_old(&place.at("tree"));
    let held = File::open(place.volume()).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let args = ["--lock-timeout", "0", "--grace", "0"];
    let outcome = run(&mut provisioner(&place.at("tree"), &place.volume(), &args), b"");
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(&format!("process {}, `", std::process::id())), "{stderr}");
    assert_eq!(names(&place.volume()).len(), 0);
    // Who may wait gets it.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&place.at("tree"), &place.volume()));
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
        assert_eq!(waiting.join().unwrap().code, Some(0));
    });
    assert_settled(&place.at("tree"), &place.volume());
}

#[test]
fn two_writers_at_once_both_succeed() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    for _ in 0..10 {
        let outcomes = std::thread::scope(|scope| {
            let both = [&old, &new].map(|tree| scope.spawn(|| publish(tree, &volume)));
            both.map(|run| run.join().unwrap())
        });
        for outcome in outcomes {
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        }
        let is_old = seen(&volume.join("..data/")) == seen(&old);
        assert_settled(if is_old { &old } else { &new }, &volume);
    }
}

/// Publishes without a lock, as on a network file system that does not support locks.
fn publish_unlocked(tree: &Path, volume: &Path, log: &Path) {
    let run_it = provisioner(tree, volume, &["--grace", "0"]);
    let mut command = strace_command(&["-e", "inject=flock:error=EBADF"], log, &run_it);
    let outcome = run(&mut command, b"");
    assert!(outcome.code == Some(0) || outcome.code == Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), usize::from(outcome.code == Some(1)));
    assert!(fs::read_to_string(log).expect("a log").contains("(INJECTED)"));
}

#[test]
fn two_writers_at_once_never_break_a_volume_without_locks() {
    let place = Place::new();
    let (trees, volume) = (["old", "new"].map(|name| place.at(name)), place.volume());
    make_old(&trees[0]);
    make_new(&trees[1]);
    let expected = trees.each_ref().map(|tree| seen(tree));
    let mut live = BTreeSet::new();
    for round in 0..12 {
        std::thread::scope(|scope| {
            for tree in &trees {
                let (volume, log) = (&volume, tree.with_extension("log"));
                scope.spawn(move || publish_unlocked(tree, volume, &log));
            }
        });
        let found = seen(&volume.join("..data/"));
        let which = expected.iter().position(|tree| *tree == found);
        let which = which.unwrap_or_else(|| panic!("round {round}: {found:?}"));
        assert_eq!(seen_by_name(&volume), without_root(found), "round {round}");
        live.insert(which);
    }
    println!("live at the end of rounds: {live:?}");
    // With a lock, all that is left over goes.
    assert_publishes(&trees[0], &volume);
}

#[test]
#[ignore = "heavy: run by make test-volumes"]
fn a_clock_that_was_set_back_changes_nothing() {
    let place = Place::new();
    let (trees, volume) = (["old", "new"].map(|name| place.at(name)), place.volume());
    make_old(&trees[0]);
    make_new(&trees[1]);
    assert_publishes(&trees[0], &volume);
    for round in 1..6 {
        // What a run that was killed has left is there too.
        let live = fs::read_link(volume.join("..data")).unwrap();
        let version = volume.join(live.parent().unwrap());
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(&version).arg(volume.join("..version-0123")).status();
        assert!(copied.unwrap().success());
        let run_it = provisioner(&trees[round % 2], &volume, &["--grace", "0"]);
        let mut faked = Command::new("faketime");
        faked.args(["-f", "-1d"]).arg(run_it.get_program()).args(run_it.get_args());
        let outcome = run(&mut faked, b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        // The clock of the version is the faked one.
        let about = fs::read_to_string(volume.join("..data/../version")).unwrap();
        let published = about.split("\"published\":").nth(1).unwrap();
        let published: u64 = published.trim_end().trim_end_matches('}').parse().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(published + 80_000 < now, "{about}");
        assert_settled(&trees[round % 2], &volume);
    }
}
