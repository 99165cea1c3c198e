//! Publishes plain files to a volume, and checks the volume.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use e2e::programs::{Outcome, run};

use crate::support::run::{self as support, names};
use crate::support::tree::{Seen, seen, without_root};

/// The program with the options to publish `source` to `volume` as plain files.
pub fn provisioner(source: &Path, volume: &Path, args: &[&str]) -> Command {
    let mut provisioner =
        support::provisioner(source, volume, &["--layout", "files", "--grace", "0"]);
    provisioner.args(args);
    provisioner
}

/// Publishes, and returns the outcome.
pub fn publish(source: &Path, volume: &Path) -> Outcome {
    run(&mut provisioner(source, volume, &[]), b"")
}

/// Publishes, asserts that the volume holds the source, and returns the line on stdout.
pub fn assert_publishes(source: &Path, volume: &Path) -> String {
    let outcome = publish(source, volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_published(source, volume);
    outcome.stdout
}

/// Asserts that `volume` holds the files of `source`, as `diff` sees them too, and no others except
/// the state of the program.
pub fn assert_published(source: &Path, volume: &Path) {
    assert_eq!(visible(volume), without_root(seen(source)));
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference", "--exclude=..provisioner"]).arg(source).arg(volume);
    let outcome = run(&mut diff, b"");
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), ""), "{}", outcome.stderr);
    assert_no_leftovers(volume);
}

/// Asserts that the state holds only the published record, the history and archives.
pub fn assert_no_leftovers(volume: &Path) {
    let hidden = names(volume).into_iter().filter(|name| name.to_string_lossy().starts_with(".."));
    assert_eq!(hidden.collect::<Vec<_>>(), ["..provisioner"]);
    let state = volume.join("..provisioner");
    let known = ["files", "history", "versions"].map(Into::into);
    assert!(names(&state).is_subset(&BTreeSet::from(known)), "{:?}", names(&state));
    assert_eq!(names(&state.join("files")), BTreeSet::from(["published".into()]));
}

/// The files of a volume without the state of the program.
pub fn visible(volume: &Path) -> Seen {
    let mut visible = without_root(seen(volume));
    visible.retain(|path, _| !path.starts_with(b".."));
    visible
}
