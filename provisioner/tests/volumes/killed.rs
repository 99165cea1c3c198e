//! Runs that are killed at any of their system calls, or told that it has failed: when there was
//! nothing before, another version, or plain files.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::Outcome;

use crate::run::{Calls, Place, assert_settled, provisioner, publish, strace};
use crate::tree::{Seen, make_new, make_old, seen, seen_by_name, without_root};

/// What a tree is published over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    /// Another tree that was published.
    Old,
    /// The same tree, as `cp -r` leaves it.
    Plain,
    /// That too, but names may be missing for a moment.
    PlainWithGap,
    /// Another tree that was published, where a job that runs `cp -r` has replaced some links.
    Mixed,
}

impl Over {
    fn has_plain_files(self) -> bool {
        matches!(self, Self::Plain | Self::PlainWithGap)
    }
}

/// A name that the old tree has and the new one has not.
const GONE: &str = "gone";

/// What is published over what, and its calls that may change something.
struct Case {
    place: Place,
    over: Over,
    /// What names show before and afterwards.
    shown: [Seen; 2],
    calls: Calls,
}

impl Case {
    fn new(over: Over) -> Self {
        let place = Place::in_memory();
        make_old(&place.at("old"));
        make_new(&place.at("new"));
        let [before, mut after] = ["old", "new"].map(|tree| without_root(seen(&place.at(tree))));
        if over.has_plain_files() {
            // What was not published is nobody's business.
            after.insert(GONE.into(), before[GONE.as_bytes()].clone());
        }
        let before = if over == Over::Nothing { Seen::new() } else { before };
        let mut case = Self { place, over, shown: [before, after], calls: Calls::default() };
        let undisturbed = case.fresh();
        let log = case.place.at("log");
        assert_eq!(strace(&[], &log, &case.provisioner(&undisturbed)).code, Some(0));
        case.calls = Calls::read(&log, &undisturbed.volume());
        case
    }

    /// A volume as it is before.
    fn fresh(&self) -> Place {
        let place = Place::in_memory();
        match self.over {
            Over::Nothing => {}
            Over::Old | Over::Mixed => {
                assert_eq!(publish(&self.place.at("old"), &place.volume()).code, Some(0));
                for name in ["a", "changes"].iter().filter(|_| self.over == Over::Mixed) {
                    let at = place.volume().join(name);
                    fs::remove_file(&at).expect("a link");
                    let cp = Command::new("cp")
                        .arg("-a")
                        .arg(self.place.at("old").join(name))
                        .arg(at)
                        .status();
                    assert!(cp.expect("cp").success());
                }
            }
            Over::Plain | Over::PlainWithGap => {
                fs::remove_dir(place.volume()).expect("an empty volume");
                make_old(&place.volume());
            }
        }
        place
    }

    fn provisioner(&self, place: &Place) -> Command {
        let gap = ["--allow-gap"];
        let gap = if self.over == Over::PlainWithGap { &gap[..] } else { &[] };
        let args = [&["--grace", "0"], gap].concat();
        provisioner(&self.place.at("new"), &place.volume(), &args)
    }

    /// What `volume` shows by names, which must be what `..data` leads to if all of them are links.
    fn shown(&self, volume: &Path) -> Seen {
        let by_name = seen_by_name(volume);
        if !self.over.has_plain_files() && self.over != Over::Mixed {
            let data = volume.join("..data/");
            let whole = if data.exists() { without_root(seen(&data)) } else { Seen::new() };
            assert_eq!(by_name, whole);
        }
        by_name
    }

    /// Whether it is the old or the new tree; with a gap, some of them and no half of a file.
    fn is_expected(&self, shown: &Seen) -> bool {
        let is_whole = |(path, entry)| self.shown.iter().any(|tree| tree.get(path) == Some(entry));
        self.shown.contains(shown)
            || (self.over == Over::PlainWithGap && shown.iter().all(is_whole))
    }

    /// Publishes with something injected into a call; `None` if it was not reached. Nobody ever
    /// sees anything but the old tree or the new one, and the next run leaves nothing behind.
    fn disturb(&self, call: &str, what: &str) -> Option<(Outcome, bool)> {
        let (place, log) = (self.fresh(), self.place.at("log"));
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
        let mut options = vec!["-e", &trace, "-e", &inject];
        if !what.starts_with("signal=") {
            // The other calls are as fast as ever; but strace sends no signals then.
            options.push("--seccomp-bpf");
        }
        let outcome = strace(&options, &log, &self.provisioner(&place));
        let shown = self.shown(&place.volume());
        assert!(self.is_expected(&shown), "{inject}: {shown:?}");
        let log = fs::read_to_string(log).expect("a log");
        if outcome.code.is_some() && !log.contains("(INJECTED)") {
            return None;
        }
        let again = publish(&self.place.at("new"), &place.volume());
        assert_eq!((again.code, &again.stderr[..]), (Some(0), ""), "{inject}");
        assert_eq!(self.shown(&place.volume()), self.shown[1], "{inject}");
        if self.over.has_plain_files() {
            fs::remove_file(place.volume().join(GONE)).expect("somebody else's file");
        }
        assert_settled(&self.place.at("new"), &place.volume());
        Some((outcome, shown == self.shown[1]))
    }
}

/// Kills a publication at each call, counting what is shown afterwards: the old tree, and the new.
fn kill_everywhere(over: Over) -> [u32; 2] {
    let case = Case::new(over);
    let mut counts = [0, 0];
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            let what = format!("signal=KILL:when={number}");
            let Some((outcome, is_new)) = case.disturb(call, &what) else { continue };
            assert_eq!(outcome.code, None, "{call}:{what}: {}", outcome.stderr);
            counts[usize::from(is_new)] += 1;
        }
    }
    counts
}

#[test]
fn a_first_publication_that_is_killed_anywhere_shows_nothing_or_all() {
    let [nothing, all] = kill_everywhere(Over::Nothing);
    assert!(nothing > 50 && all > 1, "{nothing} before, {all} after");
}

#[test]
fn an_update_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(Over::Old);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_migration_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(Over::Plain);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn so_does_one_of_a_volume_where_only_some_files_are_plain() {
    let [old, new] = kill_everywhere(Over::Mixed);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_migration_with_a_gap_that_is_killed_anywhere_is_completed_by_the_next_run() {
    let [other, new] = kill_everywhere(Over::PlainWithGap);
    assert!(other > 50 && new > 10, "{other} before, {new} after");
}

#[test]
fn a_call_that_fails_leaves_the_old_tree_live_and_one_line() {
    let case = Case::new(Over::Old);
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
            let what = format!("error={error}:when={number}");
            let Some((outcome, is_new)) = case.disturb(call, &what) else { continue };
            let at = format!("{call}:{what}");
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
