//! Publications with something injected into one of their system calls: when there was nothing
//! before, another version, or plain files.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::Outcome;

use crate::support::run::{Calls, Place, assert_settled, provisioner, publish, strace};
use crate::support::tree::{Seen, make_new, make_old, seen, seen_by_name, without_root};

/// What a tree is published over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// An empty volume.
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
    /// Whether nothing was published.
    fn has_plain_files(self) -> bool {
        matches!(self, Self::Plain | Self::PlainWithGap)
    }
}

/// A name that the old tree has and the new one has not.
const GONE: &str = "gone";

/// What is published over what.
pub struct Case {
    place: Place,
    over: Over,
    /// What names show before and afterwards.
    shown: [Seen; 2],
    /// Calls that may change something.
    pub calls: Calls,
}

impl Case {
    /// Finds out which calls it makes.
    pub fn new(over: Over) -> Self {
        let place = Place::in_memory();
        make_old(&place.at("old"));
        make_new(&place.at("new"));
        let [before, mut after] = ["old", "new"].map(|tree| without_root(seen(&place.at(tree))));
        if over.has_plain_files() {
            // An entry that was not published is left alone.
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

    /// Publishes with something injected into a call; `None` if it was not reached. Readers never
    /// see anything but the old tree or the new one, and the next run leaves nothing behind.
    pub fn disturb(&self, call: &str, what: &str) -> Option<(Outcome, bool)> {
        self.disturb_all(&[(call, what)])
    }

    /// [`disturb`](Self::disturb) with something injected into each of several calls; `None` if
    /// none was reached.
    pub fn disturb_all(&self, calls: &[(&str, &str)]) -> Option<(Outcome, bool)> {
        let (place, log) = (self.fresh(), self.place.at("log"));
        let inject = |(call, what): &(&str, &str)| format!("--inject={call}:{what}");
        let mut options: Vec<String> = calls.iter().map(inject).collect();
        let inject = options.join(" ");
        let names: Vec<_> = calls.iter().map(|(call, _)| *call).collect();
        options.push(format!("--trace={}", names.join(",")));
        if !inject.contains("signal=") {
            // The other calls are as fast as ever; but strace sends no signals then.
            options.push("--seccomp-bpf".to_owned());
        }
        let options: Vec<&str> = options.iter().map(|option| &option[..]).collect();
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
            fs::remove_file(place.volume().join(GONE)).expect("a foreign file");
        }
        assert_settled(&self.place.at("new"), &place.volume());
        Some((outcome, shown == self.shown[1]))
    }
}
