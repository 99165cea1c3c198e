//! Unchanged runs and dry runs write nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use e2e::mounts::{in_private_mounts, sh};
use e2e::strace::Call;

use crate::support::run::{Place, assert_publishes, may_change, provisioner, strace};
use crate::support::tree::make_old;

/// What `stat` returns for each path.
fn stats(paths: &[PathBuf]) -> BTreeMap<&Path, [i64; 8]> {
    let stat = |path: &PathBuf| {
        let stat = fs::symlink_metadata(path).expect("an entry");
        // Who reads a symbolic link cannot help its time of access.
        let is_link = stat.is_symlink();
        let accessed = if is_link { (0, 0) } else { (stat.atime(), stat.atime_nsec()) };
        let changed = (stat.ctime(), stat.ctime_nsec());
        let (ino, mode) = (stat.ino() as i64, i64::from(stat.mode()));
        let modified = (stat.mtime(), stat.mtime_nsec());
        [ino, mode, accessed.0, accessed.1, changed.0, changed.1, modified.0, modified.1]
    };
    paths.iter().map(|path| (&**path, stat(path))).collect()
}

/// All paths at `root` and below.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = paths.get(at) {
        if fs::symlink_metadata(path).expect("an entry").is_dir() {
            let entries = fs::read_dir(path).expect("a directory");
            paths.extend(entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>());
        }
        at += 1;
    }
    paths
}

/// Asserts that another run makes no call that changes a file, and changes no time.
fn assert_untouched(source: &Path, volume: &Path, log: &Path) {
    assert_publishes(source, volume);
    let paths = paths(volume);
    let before = stats(&paths);
    // Times in file systems may be as coarse as 4 ms.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let outcome = strace(&[], log, &provisioner(source, volume, &[]));
    assert!(outcome.stdout.starts_with("unchanged: 0 added, 0 changed, 0 removed,"), "{outcome:?}");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(stats(&paths), before);
    let mut changes = e2e::strace::read(log);
    // `fsync` brings to the disk what is there already.
    changes.retain(|call| may_change(call) && call.name != "fsync");
    let is_output = |call: &Call| call.text.starts_with("write(1, \"unchanged: ");
    assert!(matches!(&changes[..], [call] if is_output(call)), "{changes:?}");
}

#[test]
fn an_unchanged_run_writes_nothing() {
    let place = Place::new();
    make_old(&place.at("tree"));
    assert_untouched(&place.at("tree"), &place.volume(), &place.at("log"));
}

#[test]
fn an_unchanged_run_leaves_access_times_alone() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m,strictatime tmpfs volume");
        make_old(&place.join("tree"));
        assert_untouched(&place.join("tree"), &place.join("volume"), &place.join("log"));
    });
}

#[test]
fn a_dry_run_makes_no_call_that_changes_a_file() {
    let place = Place::new();
    let (source, volume, log) = (place.at("tree"), place.volume(), place.at("log"));
    make_old(&source);
    assert_publishes(&source, &volume);
    // There is something to publish, something left over, and something earlier to give up.
    fs::write(source.join("another"), "new").expect("written");
    fs::create_dir(volume.join("..version-left")).expect("made");
    let paths = paths(&volume);
    let before = stats(&paths);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let outcome = strace(&[], &log, &provisioner(&source, &volume, &["--dry-run"]));
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout.starts_with("+ another\nwould publish: 1 added"), "{outcome:?}");
    assert_eq!(stats(&paths), before);
    let calls = e2e::strace::read(&log);
    assert!(calls.iter().any(|call| call.text.starts_with("write(1, ")), "{calls:?}");
    let is_change = |call: &&Call| may_change(call) && !call.text.starts_with("write(1, ");
    let changes: Vec<_> = calls.iter().filter(is_change).collect();
    assert!(changes.is_empty(), "{changes:?}");
}
