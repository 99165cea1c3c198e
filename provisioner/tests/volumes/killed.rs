//! Runs that are killed at any of their system calls, or told that it has failed.

use std::fs;
use std::path::Path;

use e2e::programs::Outcome;

use crate::run::{Calls, Place, assert_publishes, provisioner, publish, strace};
use crate::tree::{Seen, make_new, make_old, seen, seen_by_name, without_root};

/// What `volume` shows by names, which must be what `..data` leads to.
fn shown(volume: &Path) -> Seen {
    let by_name = seen_by_name(volume);
    let data = volume.join("..data/");
    let whole = if data.exists() { without_root(seen(&data)) } else { Seen::new() };
    assert_eq!(by_name, whole);
    by_name
}

/// What is published over what, and its calls that may change something.
struct Case {
    place: Place,
    is_first: bool,
    /// What names show before and afterwards.
    shown: [Seen; 2],
    calls: Calls,
}

impl Case {
    fn new(is_first: bool) -> Self {
        let place = Place::new();
        make_old(&place.at("old"));
        make_new(&place.at("new"));
        let before = if is_first { Seen::new() } else { without_root(seen(&place.at("old"))) };
        let shown = [before, without_root(seen(&place.at("new")))];
        let mut case = Self { place, is_first, shown, calls: Calls::default() };
        let undisturbed = case.fresh();
        assert_eq!(case.run(&undisturbed, &[]).code, Some(0));
        case.calls = Calls::read(&case.place.at("log"), &undisturbed.volume());
        case
    }

    /// A volume as it is before.
    fn fresh(&self) -> Place {
        let place = Place::new();
        if !self.is_first {
            assert_eq!(publish(&self.place.at("old"), &place.volume()).code, Some(0));
        }
        place
    }

    fn run(&self, place: &Place, options: &[&str]) -> Outcome {
        let run = provisioner(&self.place.at("new"), &place.volume(), &["--grace", "0"]);
        strace(options, &self.place.at("log"), &run)
    }

    /// Publishes with something injected; `None` if the call was not reached. Nobody ever sees
    /// anything but the old tree or the new one, and the next run leaves nothing behind.
    fn disturb(&self, inject: &str) -> Option<(Outcome, bool)> {
        let place = self.fresh();
        let outcome = self.run(&place, &["-e", &format!("inject={inject}")]);
        let shown = shown(&place.volume());
        assert!(self.shown.contains(&shown), "{inject}: {shown:?}");
        let log = fs::read_to_string(self.place.at("log")).expect("a log");
        let is_reached = outcome.code.is_none() || log.contains("(INJECTED)");
        assert_publishes(&self.place.at("new"), &place.volume());
        is_reached.then(|| (outcome, shown == self.shown[1]))
    }
}

/// Kills a publication at each call, counting what is shown afterwards: the old tree, and the new.
fn kill_everywhere(is_first: bool) -> [u32; 2] {
    let case = Case::new(is_first);
    let mut counts = [0, 0];
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            let at = format!("{call}:signal=KILL:when={number}");
            let Some((outcome, is_new)) = case.disturb(&at) else { continue };
            assert_eq!(outcome.code, None, "{at}: {}", outcome.stderr);
            counts[usize::from(is_new)] += 1;
        }
    }
    counts
}

#[test]
fn a_first_publication_that_is_killed_anywhere_shows_nothing_or_all() {
    let [nothing, all] = kill_everywhere(true);
    assert!(nothing > 50 && all > 1, "{nothing} before, {all} after");
}

#[test]
fn an_update_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(false);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_call_that_fails_leaves_the_old_tree_live_and_one_line() {
    let case = Case::new(false);
    let mut failed = 0;
    for (call, numbers) in case.calls.numbers() {
        let (error, message) = match &call[..] {
            "fsync" | "syncfs" | "renameat" | "unlinkat" => ("EIO", "input/output error"),
            "ioctl" => ("EOPNOTSUPP", ""),
            _ => ("ENOSPC", "no space left on device"),
        };
        for number in numbers {
            if call == "openat" && number <= case.calls.start {
                continue; // That would be a library.
            }
            let at = format!("{call}:error={error}:when={number}");
            let Some((outcome, is_new)) = case.disturb(&at) else { continue };
            if outcome.code == Some(0) {
                // The line on stdout is nothing but news, a clone may be a copy, what is removed
                // needs no mode, nobody has to know how many processors there are, and a history
                // that cannot be written is only told of.
                let is_told = outcome.stderr.starts_with("Warning: ");
                assert!(
                    is_new
                        && (is_told || ["write", "ioctl", "fchmod", "openat"].contains(&&call[..])),
                    "{at}"
                );
                continue;
            }
            let stderr = &outcome.stderr;
            // Each thread has its own count: the line itself may be what cannot be written.
            if call == "write" && stderr.is_empty() {
                assert!(outcome.code == Some(1) && !is_new, "{at}");
                continue;
            }
            assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{at}: {stderr}");
            assert!(stderr.contains(message), "{at}: {stderr}");
            // What fails after the switch is said too, but the new tree is whole.
            assert!(
                !is_new || ["fsync", "openat", "unlinkat"].contains(&&call[..]),
                "{at}: {stderr}"
            );
            failed += 1;
        }
    }
    assert!(failed > 80, "{failed}");
}
