//! Volumes on which another program puts links that lead out: no run writes, changes or removes
//! anything through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::volume::{assert_publishes, publish, visible};
use crate::support::run::Place;
use crate::support::tree::{Seen, directory, file, make_new, make_old, seen, without_root};

/// Makes a directory outside of the volume that has all the names of `a` in the trees.
fn make_outside(outside: &Path) -> Seen {
    directory(outside, 0o711);
    directory(outside.join("deep"), 0o711);
    for number in 0..12 {
        file(outside.join(format!("n{number}")), "outside", 0o611);
    }
    file(outside.join("deep/two"), "outside", 0o611);
    seen(outside)
}

#[test]
fn a_link_in_place_of_a_directory_is_not_followed() {
    let place = Place::new();
    let (old, new, empty) = (place.at("old"), place.at("new"), place.at("empty"));
    make_old(&old);
    make_new(&new);
    directory(&empty, 0o755);
    file(empty.join("only"), "this", 0o644);
    let outside = make_outside(&place.at("outside"));
    let volume = place.volume();
    for next in [&old, &new, &empty] {
        for name in ["a", "a/deep"] {
            assert_publishes(&old, &volume);
            fs::rename(volume.join(name), place.at("away")).unwrap();
            let target = if name == "a" { "outside" } else { "outside/deep" };
            symlink(place.at(target), volume.join(name)).unwrap();
            let outcome = publish(next, &volume);
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{next:?} {name}");
            assert_eq!(seen(&place.at("outside")), outside, "{next:?} {name}");
            let mut found = visible(&volume);
            if *next == empty {
                // The link was not published, so it stays.
                assert!(found.remove(name.as_bytes()).is_some());
                found.remove(&b"a"[..]);
                let _ = fs::remove_file(volume.join(name));
                let _ = fs::remove_dir(volume.join("a"));
            }
            assert_eq!(found, without_root(seen(next)));
            fs::remove_dir_all(place.at("away")).unwrap();
        }
    }
}

#[test]
fn a_hard_link_to_another_file_is_replaced_not_written_to() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    for name in ["changes", "mode", "same", "a/n1"] {
        let outside = place.at("outside");
        file(&outside, "outside", 0o611);
        fs::remove_file(volume.join(name)).unwrap();
        fs::hard_link(&outside, volume.join(name)).unwrap();
        assert_publishes(&new, &volume);
        assert_eq!(
            seen(&outside).into_values().collect::<Vec<_>>(),
            [crate::support::tree::Entry::File(0o611, b"outside".to_vec())]
        );
        fs::remove_file(outside).unwrap();
    }
}

/// How often trees are published while links come and go.
const ROUNDS: u32 = 40;

#[test]
fn a_directory_that_becomes_a_link_at_any_moment_is_not_followed() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    let outside = make_outside(&place.at("outside"));
    assert_publishes(&old, &volume);
    let is_over = AtomicBool::new(false);
    let turns = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            let (mut turns, away) = (0_u32, place.at("away"));
            symlink(place.at("outside"), &away).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                // The exchange is one system call, so that the name is never missing.
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                turns += u32::from(
                    rustix::fs::renameat_with(here, &away, here, volume.join("a"), flags).is_ok(),
                );
                std::thread::sleep(std::time::Duration::from_micros(u64::from(turns % 1500)));
            }
            turns
        });
        let _stop = StopOnDrop(&is_over);
        for round in 0..ROUNDS {
            let outcome = publish(if round % 2 == 0 { &new } else { &old }, &volume);
            assert!([Some(0), Some(1)].contains(&outcome.code), "{outcome:?}");
            assert!(outcome.stderr.lines().count() <= 1, "{}", outcome.stderr);
            assert_eq!(seen(&place.at("outside")), outside);
        }
        is_over.store(true, Ordering::Relaxed);
        hostile.join().expect("no panic")
    });
    assert!(turns > ROUNDS, "{turns}");
    assert_eq!(seen(&place.at("outside")), outside);
    assert_eq!(publish(&new, &volume).code, Some(0));
}

/// Stops the other thread when the test ends, also by a panic.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
