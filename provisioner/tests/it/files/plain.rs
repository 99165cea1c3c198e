//! Volumes of plain files: how they are published to, and what is on them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use e2e::programs::{Outcome, run};

use crate::support::run::{names, provisioner};
use crate::support::tree::{Seen, seen, without_root};

/// The program, to publish `source` to `volume` as plain files.
pub fn plainly(source: &Path, volume: &Path, args: &[&str]) -> Command {
    let mut provisioner = provisioner(source, volume, &["--layout", "files", "--grace", "0"]);
    provisioner.args(args);
    provisioner
}

/// What a run comes to.
pub fn publish(source: &Path, volume: &Path) -> Outcome {
    run(&mut plainly(source, volume, &[]), b"")
}

/// Publishes, and asserts that it is done and nothing else is left; the line on stdout.
pub fn assert_publishes(source: &Path, volume: &Path) -> String {
    let outcome = publish(source, volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_settled(source, volume);
    outcome.stdout
}

/// Asserts that what is in `source` is on `volume`, as `diff` sees it too, and nothing else but what
/// is remembered.
pub fn assert_settled(source: &Path, volume: &Path) {
    assert_eq!(shown(volume), without_root(seen(source)));
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference", "--exclude=..provisioner"]).arg(source).arg(volume);
    let outcome = run(&mut diff, b"");
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), ""), "{}", outcome.stderr);
    assert_tidy(volume);
}

/// Asserts that nothing is remembered but what was published, and when.
pub fn assert_tidy(volume: &Path) {
    let hidden = names(volume).into_iter().filter(|name| name.to_string_lossy().starts_with(".."));
    assert_eq!(hidden.collect::<Vec<_>>(), ["..provisioner"]);
    let state = volume.join("..provisioner");
    let known = ["files", "history", "versions"].map(Into::into);
    assert!(names(&state).is_subset(&BTreeSet::from(known)), "{:?}", names(&state));
    assert_eq!(names(&state.join("files")), BTreeSet::from(["published".into()]));
}

/// All that consumers see of a volume.
pub fn shown(volume: &Path) -> Seen {
    let mut shown = without_root(seen(volume));
    shown.retain(|path, _| !path.starts_with(b".."));
    shown
}
