//! Runs that are killed at any of their system calls, or see that call fail.

use std::fs;
use std::path::Path;

use e2e::programs::Outcome;

use super::volume::{assert_published, provisioner, publish, visible};
use crate::support::run::{self, Calls, Place, strace};
use crate::support::tree::{Entry, Seen, make_new, make_old, seen, without_root};

/// The volume before the new tree is published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// It holds the old tree as plain files.
    Files,
    /// It holds the old tree behind links.
    Links,
}

/// The trees that are published after the disturbed run.
const NEXT: [&str; 2] = ["new", "old"];

/// The files on a volume after a disturbed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Old,
    New,
    /// Some files are old, some new.
    Mixed,
}

/// A publication over a volume, and its system calls that may change something.
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
        let undisturbed = case.prepare();
        assert_eq!(case.run(&undisturbed, &[]).code, Some(0));
        case.calls = Calls::read(&case.place.at("log"), &undisturbed.volume());
        case
    }

    /// A volume as it is before the publication.
    fn prepare(&self) -> Place {
        let place = Place::in_memory();
        let old = self.place.at("old");
        match self.before {
            Before::Nothing => {}
            Before::Files => assert_eq!(publish(&old, &place.volume()).code, Some(0)),
            Before::Links => assert_eq!(run::publish(&old, &place.volume()).code, Some(0)),
        }
        fs::write(place.volume().join("mine"), "of another program").expect("written");
        place
    }

    fn run(&self, place: &Place, options: &[&str]) -> Outcome {
        let run = provisioner(&self.place.at("new"), &place.volume(), &[]);
        strace(options, &self.place.at("log"), &run)
    }

    /// Asserts that each file is the old or the new one, and that no file of both trees is missing.
    fn check(&self, volume: &Path, at: &str) -> State {
        let found = self.found(volume);
        for (path, entry) in &found {
            let known = [self.old.get(path), self.new.get(path)];
            // The mode of a directory may not be set yet.
            let is_directory = matches!(entry, Entry::Directory(_))
                && known.iter().flatten().any(|known| matches!(known, Entry::Directory(_)));
            assert!(is_directory || known.contains(&Some(entry)), "{at}: {path:?}: {entry:?}");
        }
        for (path, entry) in &self.old {
            let is_file = |entry: &Entry| !matches!(entry, Entry::Directory(_));
            if self.new.get(path).is_some_and(|new| is_file(new) && is_file(entry)) {
                assert!(found.contains_key(path), "{at}: {path:?} is missing");
            }
        }
        match found {
            found if found == self.new => State::New,
            found if found == self.old => State::Old,
            _ => State::Mixed,
        }
    }

    fn found(&self, volume: &Path) -> Seen {
        let mut found =
            if self.before == Before::Links { through_links(volume) } else { visible(volume) };
        let mine = found.remove(&b"mine"[..]);
        assert!(matches!(mine, Some(Entry::File(_, content)) if content == b"of another program"));
        found
    }

    /// Publishes with a signal or an error injected into a call. Asserts that publishing each tree of
    /// `next` afterwards leaves exactly that tree. `None` if the run did not reach the call.
    fn disturb(&self, inject: &str, next: &[&str]) -> Option<(Outcome, State)> {
        let mut disturbed = None;
        for next in next {
            let place = self.prepare();
            let outcome = self.run(&place, &["-e", &format!("inject={inject}")]);
            let log = fs::read_to_string(self.place.at("log")).expect("a log");
            let is_reached = outcome.code.is_none() || log.contains("(INJECTED)");
            let state = self.check(&place.volume(), inject);
            let next = self.place.at(next);
            let finished = publish(&next, &place.volume());
            assert_eq!((finished.code, &finished.stderr[..]), (Some(0), ""), "{inject}");
            fs::remove_file(place.volume().join("mine")).expect("still there");
            assert_published(&next, &place.volume());
            if !is_reached {
                return None;
            }
            disturbed = Some((outcome, state));
        }
        disturbed
    }
}

/// What readers see at each name, through links that lead to an entry.
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

/// How often killed runs have left each state.
#[derive(Default)]
struct Counts {
    old: u32,
    new: u32,
    mixed: u32,
}

/// Kills a publication at each of its calls.
fn kill_everywhere(before: Before) -> Counts {
    let case = Case::new(before);
    let mut counts = Counts::default();
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            let at = format!("{call}:signal=KILL:when={number}");
            let next =
                if before == Before::Files { &NEXT } else { &NEXT[number as usize % 2..][..1] };
            let Some((outcome, state)) = case.disturb(&at, next) else { continue };
            assert_eq!(outcome.code, None, "{at}: {}", outcome.stderr);
            match state {
                State::Old => counts.old += 1,
                State::New => counts.new += 1,
                State::Mixed => counts.mixed += 1,
            }
        }
    }
    counts
}

#[test]
fn a_first_publication_killed_at_any_call_leaves_whole_files() {
    let Counts { old, new, mixed } = kill_everywhere(Before::Nothing);
    assert!(old > 40 && new > 5 && mixed > 5, "{old} {new} {mixed}");
}

#[test]
fn an_update_killed_at_any_call_leaves_whole_files() {
    let Counts { old, new, mixed } = kill_everywhere(Before::Files);
    assert!(old > 20 && new > 5 && mixed > 10, "{old} {new} {mixed}");
}

#[test]
fn a_change_of_layout_killed_at_any_call_leaves_whole_files() {
    let Counts { old, new, mixed } = kill_everywhere(Before::Links);
    assert!(old > 40 && new > 5 && mixed > 5, "{old} {new} {mixed}");
}

#[test]
fn a_failed_call_is_reported_in_one_line_and_leaves_whole_files() {
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
                continue; // The dynamic linker opens libraries.
            }
            let at = format!("{call}:error={error}:when={number}");
            let next = &NEXT[number as usize % 2..][..1];
            let Some((outcome, state)) = case.disturb(&at, next) else { continue };
            let is_new = state == State::New;
            if outcome.code == Some(0) {
                // Not fatal: output, the mode of a directory that is made writable, the number of
                // processors, the history.
                let has_warning = outcome.stderr.starts_with("Warning: ");
                let may_fail = ["write", "fchmod", "openat", "ioctl"].contains(&&call[..]);
                assert!(is_new && (has_warning || may_fail), "{at}: {outcome:?}");
                continue;
            }
            let stderr = &outcome.stderr;
            // strace counts calls per thread: the failed write may be that of the error message.
            if call == "write" && stderr.is_empty() {
                assert!(outcome.code == Some(1) && !is_new, "{at}");
                continue;
            }
            assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{at}: {stderr}");
            assert!(stderr.contains(message), "{at}: {stderr}");
            failed += 1;
            unchanged += u32::from(state == State::Old);
        }
    }
    assert!(failed > 35 && unchanged > 15, "{failed}, {unchanged} of them before the first file");
}

#[test]
fn entries_are_replaced_in_two_steps_where_names_cannot_be_exchanged() {
    for before in [Before::Files, Before::Links] {
        let case = Case::new(before);
        for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
            let place = case.prepare();
            let outcome = case.run(&place, &["-e", &format!("inject=renameat2:error={error}")]);
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{error}");
            assert!(case.check(&place.volume(), error) == State::New);
        }
    }
}
