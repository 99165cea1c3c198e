//! Volumes that change from one layout to the other.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::programs::command;

use super::volume::{assert_published, provisioner, publish, visible};
use crate::support::run::{self, Place, names, strace};
use crate::support::tree::{make_new, make_old, seen, without_root};

#[test]
fn readers_miss_no_file_when_the_layout_changes() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    run::assert_publishes(&old, &volume);
    let is_over = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_over.load(Ordering::Relaxed) {
                for path in ["a/n1", "a/deep/two", "same", "changes", "link", "points"] {
                    let content = fs::read(volume.join(path));
                    let content = content.unwrap_or_else(|error| panic!("{path}: {error}"));
                    let is_whole = [1, 9, 200_000, 300_000, 310_000, 3, 6].contains(&content.len());
                    assert!(is_whole, "{path}: {} bytes", content.len());
                    reads += 1;
                }
            }
            reads
        });
        for round in 0..12 {
            let source = if round % 3 == 0 { &new } else { &old };
            if reader.is_finished() {
                break; // It has panicked.
            }
            assert_eq!(publish(source, &volume).code, Some(0));
            assert_published(source, &volume);
            // `assert_publishes` checks that no plain file of the other tree is left.
            let source = if round % 2 == 0 { &new } else { &old };
            run::assert_publishes(source, &volume);
        }
        is_over.store(true, Ordering::Relaxed);
        reader.join().expect("no panic")
    });
    assert!(reads > 100, "{reads}");
}

#[test]
fn the_last_atomic_version_is_archived_and_can_be_restored_in_that_layout() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    run::assert_publishes(&old, &volume);
    let provisioner_keeping = |source: &Path, args: &[&str]| {
        let mut provisioner = command("provisioner");
        provisioner.env("PROVISIONER_GRACE", "0").env("PROVISIONER_SOURCE", source);
        provisioner.env("PROVISIONER_TARGET", &volume);
        e2e::programs::run(provisioner.args(args), b"")
    };
    let outcome = provisioner_keeping(&new, &["--layout", "files"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_published(&new, &volume);
    assert_eq!(names(&volume.join("..provisioner/versions")).len(), 1);
    assert_eq!(provisioner_keeping(&new, &["rollback"]).code, Some(2));
    assert_published(&new, &volume);
    assert_eq!(provisioner_keeping(&new, &[]).code, Some(0));
    let outcome = provisioner_keeping(&new, &["rollback"]);
    assert!(outcome.stdout.starts_with("rolled back: 22 files"), "{outcome:?}");
    assert_eq!(seen(&volume.join("..data/")), seen(&old));
}

#[test]
fn a_pinned_volume_keeps_the_atomic_layout() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    let rollback = |args: &[&str]| {
        let mut rollback = command("provisioner");
        rollback.env("PROVISIONER_GRACE", "0").env("PROVISIONER_TARGET", &volume).args(args);
        e2e::programs::run(&mut rollback, b"")
    };
    for source in [&old, &new] {
        let args = ["--keep", "2", "--source", source.to_str().unwrap()];
        assert_eq!(rollback(&args).code, Some(0));
    }
    assert_eq!(rollback(&["rollback"]).code, Some(0));
    let outcome = publish(&new, &volume);
    assert!(outcome.stdout.ends_with("not published\n"), "{outcome:?}");
    assert_eq!(seen(&volume.join("..data/")), seen(&old));
    let outcome = e2e::programs::run(&mut provisioner(&new, &volume, &["--unpin"]), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_published(&new, &volume);
}

#[test]
fn a_killed_change_to_the_atomic_layout_is_finished_by_the_next_run() {
    let place = Place::new();
    let (old, new) = (place.at("old"), place.at("new"));
    make_old(&old);
    make_new(&new);
    let mut killed = 0;
    // Calls after the switch only. Migration has other tests.
    for (call, last) in [("unlinkat", 60), ("fsync", 40), ("renameat", 12)] {
        for number in 1..=last {
            let place = Place::in_memory();
            let volume = place.volume();
            assert_eq!(publish(&old, &volume).code, Some(0));
            fs::write(volume.join("mine"), "of another program").unwrap();
            let run = run::provisioner(&new, &volume, &["--grace", "0"]);
            let kill = format!("inject={call}:signal=KILL:when={number}");
            let outcome = strace(&["-e", &kill], &place.at("log"), &run);
            killed += u32::from(outcome.code.is_none());
            assert_eq!(fs::read(volume.join("mine")).unwrap(), b"of another program");
            fs::remove_file(volume.join("mine")).unwrap();
            run::assert_publishes(&new, &volume);
            let state = names(&volume.join("..provisioner"));
            assert!(!state.contains(std::ffi::OsStr::new("files")), "{kill}: {state:?}");
            if outcome.code.is_some() {
                break;
            }
        }
    }
    assert!(killed > 30, "{killed}");
}

#[test]
fn a_volume_of_another_program_is_unchanged() {
    let place = Place::new();
    make_old(&place.at("tree"));
    let volume = place.volume();
    std::os::unix::fs::symlink("2026_11_22/data", volume.join("..data")).unwrap();
    let outcome = publish(&place.at("tree"), &volume);
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
    assert!(outcome.stderr.contains("in use by another program"), "{}", outcome.stderr);
    assert_eq!(names(&volume).len(), 1);
    fs::remove_file(volume.join("..data")).unwrap();
    assert_eq!(publish(&place.at("tree"), &volume).code, Some(0));
    assert_eq!(visible(&volume), without_root(seen(&place.at("tree"))));
}
