//! Runs that are killed at any of their system calls, or told that it has failed.

use std::fs;
use std::path::Path;

use e2e::programs::Outcome;

use super::plain::{assert_settled, plainly, publish, shown};
use crate::support::run::{self, Calls, Place, strace};
use crate::support::tree::{Entry, Seen, make_new, make_old, seen, without_root};

/// What is on a volume before the new tree is published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// The old tree, as plain files.
    Files,
    /// The old tree, behind links.
    Links,
}

/// What is published afterwards.
const NEXT: [&str; 2] = ["new", "old"];

/// What is published over what, and its calls that may change something.
struct Case {
    place: Place,
    before: Before,
    old: Seen,
    new: Seen,
    calls: Calls,
}

impl Case {
    fn new(before: Before) -> Self {
        let place = Place::in_memory();
        make_old(&place.at("old"));
        make_new(&place.at("new"));
        let old = match before {
            Before::Nothing => Seen::new(),
            Before::Files | Before::Links => without_root(seen(&place.at("old"))),
        };
        let new = without_root(seen(&place.at("new")));
        let mut case = Self { place, before, old, new, calls: Calls::default() };
        let undisturbed = case.fresh();
        assert_eq!(case.run(&undisturbed, &[]).code, Some(0));
        case.calls = Calls::read(&case.place.at("log"), &undisturbed.volume());
        case
    }

    /// A volume as it is before.
    fn fresh(&self) -> Place {
        let place = Place::in_memory();
        let old = self.place.at("old");
        match self.before {
            Before::Nothing => {}
            Before::Files => assert_eq!(publish(&old, &place.volume()).code, Some(0)),
            Before::Links => assert_eq!(run::publish(&old, &place.volume()).code, Some(0)),
        }
        fs::write(place.volume().join("mine"), "of somebody else").expect("written");
        place
    }

    fn run(&self, place: &Place, options: &[&str]) -> Outcome {
        let run = plainly(&self.place.at("new"), &place.volume(), &[]);
        strace(options, &self.place.at("log"), &run)
    }

    /// Asserts that each file is the old or the new one, and none is missing that is in both. Whether
    /// all are old, whether all are new.
    fn look(&self, volume: &Path, at: &str) -> (bool, bool) {
        let found = self.found(volume);
        for (path, entry) in &found {
            let known = [self.old.get(path), self.new.get(path)];
            // A directory may wait for its mode.
            let is_directory = matches!(entry, Entry::Directory(_))
                && known.iter().flatten().any(|known| matches!(known, Entry::Directory(_)));
            assert!(is_directory || known.contains(&Some(entry)), "{at}: {path:?}: {entry:?}");
        }
        for (path, entry) in &self.old {
            let both_files = |entry: &Entry| !matches!(entry, Entry::Directory(_));
            if self.new.get(path).is_some_and(|new| both_files(new) && both_files(entry)) {
                assert!(found.contains_key(path), "{at}: {path:?} is missing");
            }
        }
        (found == self.old, found == self.new)
    }

    fn found(&self, volume: &Path) -> Seen {
        let mut found =
            if self.before == Before::Links { through_links(volume) } else { shown(volume) };
        let mine = found.remove(&b"mine"[..]);
        assert!(matches!(mine, Some(Entry::File(_, content)) if content == b"of somebody else"));
        found
    }

    /// Publishes with something injected; `None` if the call was not reached. What is published `next`,
    /// the new tree or the old one, is there then, and nothing else is left.
    fn disturb(&self, inject: &str, next: &[&str]) -> Option<(Outcome, (bool, bool))> {
        let mut came = None;
        for next in next {
            let place = self.fresh();
            let outcome = self.run(&place, &["-e", &format!("inject={inject}")]);
            let log = fs::read_to_string(self.place.at("log")).expect("a log");
            let is_reached = outcome.code.is_none() || log.contains("(INJECTED)");
            let looked = self.look(&place.volume(), inject);
            let next = self.place.at(next);
            let finished = publish(&next, &place.volume());
            assert_eq!((finished.code, &finished.stderr[..]), (Some(0), ""), "{inject}");
            fs::remove_file(place.volume().join("mine")).expect("still there");
            assert_settled(&next, &place.volume());
            if !is_reached {
                return None;
            }
            came = Some((outcome, looked));
        }
        came
    }
}

/// What readers see who follow links, as long as they lead anywhere.
fn through_links(volume: &Path) -> Seen {
    let mut all = Seen::new();
    for name in run::names(volume) {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(&*name).to_vec();
        if bytes.starts_with(b"..") {
            continue;
        }
        let at = volume.join(&name);
        let target = fs::read_link(&at).ok().filter(|target| target.starts_with("..data"));
        let at = target.map_or(at, |target| volume.join(target));
        if fs::symlink_metadata(&at).is_err() {
            continue;
        }
        for (path, entry) in seen(&at) {
            let path =
                if path.is_empty() { bytes.clone() } else { [&bytes[..], &path].join(&b'/') };
            all.insert(path, entry);
        }
    }
    all
}

/// Kills a publication at each call: how often all was old then, all new, and neither.
fn kill_everywhere(before: Before) -> [u32; 3] {
    let case = Case::new(before);
    let mut counts = [0; 3];
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            let at = format!("{call}:signal=KILL:when={number}");
            let next =
                if before == Before::Files { &NEXT } else { &NEXT[number as usize % 2..][..1] };
            let Some((outcome, (is_old, is_new))) = case.disturb(&at, next) else { continue };
            assert_eq!(outcome.code, None, "{at}: {}", outcome.stderr);
            counts[if is_new {
                1
            } else if is_old {
                0
            } else {
                2
            }] += 1;
        }
    }
    counts
}

#[test]
fn a_first_publication_that_is_killed_anywhere_leaves_whole_files() {
    let [nothing, all, some] = kill_everywhere(Before::Nothing);
    assert!(nothing > 40 && all > 5 && some > 5, "{nothing} {all} {some}");
}

#[test]
fn an_update_that_is_killed_anywhere_leaves_whole_files() {
    let [old, new, mixed] = kill_everywhere(Before::Files);
    assert!(old > 20 && new > 5 && mixed > 10, "{old} {new} {mixed}");
}

#[test]
fn a_change_of_layout_that_is_killed_anywhere_leaves_whole_files() {
    let [old, new, mixed] = kill_everywhere(Before::Links);
    assert!(old > 40 && new > 5 && mixed > 5, "{old} {new} {mixed}");
}

#[test]
fn a_call_that_fails_is_told_of_in_one_line_and_leaves_whole_files() {
    let case = Case::new(Before::Files);
    let (mut failed, mut unchanged) = (0, 0);
    for (call, numbers) in case.calls.numbers() {
        let (error, message) = match &call[..] {
            "fsync" | "syncfs" | "renameat" | "unlinkat" => ("EIO", "input/output error"),
            "renameat2" => ("EPERM", "operation not permitted"),
            "ioctl" => ("EOPNOTSUPP", ""),
            _ => ("ENOSPC", "no space left on device"),
        };
        for number in numbers {
            if call == "openat" && number <= case.calls.start {
                continue; // That would be a library.
            }
            let at = format!("{call}:error={error}:when={number}");
            let next = &NEXT[number as usize % 2..][..1];
            let Some((outcome, (is_old, is_new))) = case.disturb(&at, next) else { continue };
            if outcome.code == Some(0) {
                // What is only said, a directory's mode before its contents go, the number of
                // processors, and a history that is only told of.
                let is_told = outcome.stderr.starts_with("Warning: ");
                let may_fail = ["write", "fchmod", "openat", "ioctl"].contains(&&call[..]);
                assert!(is_new && (is_told || may_fail), "{at}: {outcome:?}");
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
            failed += 1;
            unchanged += u32::from(is_old);
        }
    }
    assert!(failed > 35 && unchanged > 15, "{failed}, {unchanged} of them before the first file");
}

#[test]
fn names_that_cannot_be_exchanged_are_replaced_one_after_the_other() {
    for before in [Before::Files, Before::Links] {
        let case = Case::new(before);
        for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
            let place = case.fresh();
            let outcome = case.run(&place, &["-e", &format!("inject=renameat2:error={error}")]);
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{error}");
            assert!(case.look(&place.volume(), error).1);
        }
    }
}
