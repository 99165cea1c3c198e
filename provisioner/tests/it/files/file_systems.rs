//! File systems without links or modes, read-only ones, and mounts within a volume.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use e2e::mounts::{in_private_mounts, sh};
use e2e::strace::assert_order;

use super::volume::{assert_published, assert_publishes, provisioner, publish, visible};
use crate::support::run::{Place, names, strace};
use crate::support::tree::{Entry, directory, file, make_new, make_old, seen, without_root};

/// The answer of vfat, by symlink(2).
const NO_LINKS: [&str; 2] = ["-e", "inject=symlinkat:error=EPERM"];

/// Makes a tree without links.
fn make_plain(root: &Path, content: &str) {
    directory(root, 0o755);
    directory(root.join("certs"), 0o750);
    file(root.join("certs/a.pem"), content, 0o640);
    file(root.join("certs").join(content), "own", 0o600);
    file(root.join("top"), content, 0o644);
}

#[test]
fn a_tree_without_links_is_published_to_a_file_system_without_links() {
    let place = Place::new();
    let volume = place.volume();
    for (number, content) in ["one", "other"].into_iter().enumerate() {
        let tree = place.at(content);
        make_plain(&tree, content);
        let outcome = strace(&NO_LINKS, &place.at("log"), &provisioner(&tree, &volume, &[]));
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{number}");
        assert_published(&tree, &volume);
    }
    let before = visible(&volume);
    symlink("top", place.at("other/link")).unwrap();
    let run = provisioner(&place.at("other"), &volume, &[]);
    let outcome = strace(&NO_LINKS, &place.at("log"), &run);
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("the volume takes no symbolic links"), "{stderr}");
    assert_eq!(visible(&volume), before);
    assert_publishes(&place.at("one"), &volume);
}

#[test]
fn a_first_publication_that_fails_leaves_the_volume_empty() {
    let place = Place::new();
    make_old(&place.at("tree"));
    let run = provisioner(&place.at("tree"), &place.volume(), &[]);
    assert_eq!(strace(&NO_LINKS, &place.at("log"), &run).code, Some(1));
    assert_eq!(names(&place.volume()).len(), 0);
}

#[test]
fn a_file_system_without_modes_needs_one_publication() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let volume = place.join("volume");
        // bindfs gives mode 0750 to all directories and 0640 to all files.
        let modes = "--chmod-ignore --perms=u=rwX:g=rX:o=";
        sh(place, &format!("mkdir below volume; bindfs {modes} below volume"));
        for content in ["one", "other"] {
            let tree = place.join(content);
            make_plain(&tree, content);
            let outcome = publish(&tree, &volume);
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            let warning = "Warning: the volume keeps no permission bits: all files have the modes that it gives\n";
            assert_eq!(outcome.stderr, warning);
            let mut expected = without_root(seen(&tree));
            for entry in expected.values_mut() {
                match entry {
                    Entry::Directory(mode) => *mode = 0o750,
                    Entry::File(mode, _) => *mode = 0o640,
                    Entry::Link(_) => {}
                }
            }
            assert_eq!(visible(&volume), expected);
            let again = publish(&tree, &volume);
            assert_eq!((again.code, &again.stderr[..]), (Some(0), ""));
            assert!(again.stdout.starts_with("unchanged: "), "{}", again.stdout);
        }
        // A later mount may keep modes.
        sh(place, "umount volume");
        let tree = place.join("other");
        sh(place, "mount --bind below volume");
        assert!(assert_publishes(&tree, &volume).starts_with("published: 0 added,"));
        assert!(assert_publishes(&tree, &volume).starts_with("unchanged: "));
        sh(place, "umount volume");
    });
}

#[test]
fn a_read_only_volume_is_an_error_only_if_something_changes() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m tmpfs volume");
        make_old(&old);
        make_new(&new);
        assert_publishes(&old, &volume);
        sh(place, "mount -o remount,ro volume");
        let outcome = publish(&new, &volume);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
        assert!(outcome.stderr.contains("read-only file system"), "{}", outcome.stderr);
        // Without changes, nothing is written.
        assert!(assert_publishes(&old, &volume).starts_with("unchanged: "));
    });
}

#[test]
fn a_mount_within_the_volume_is_refused_before_the_first_change() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
        make_old(&old);
        make_new(&new);
        for mount in ["mount -t tmpfs tmpfs volume/a", "mount --bind volume/a volume/a"] {
            sh(place, "mkdir volume");
            assert_publishes(&old, &volume);
            sh(place, mount);
            let before = visible(&volume);
            let outcome = publish(&new, &volume);
            assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{mount}");
            assert!(outcome.stderr.contains("`a` is another file system"), "{}", outcome.stderr);
            assert_eq!(visible(&volume), before);
            sh(place, "umount volume/a");
            assert_publishes(&new, &volume);
            sh(place, "rm -r volume");
        }
    });
}

#[test]
fn each_file_is_synced_before_it_is_put_in_place() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    assert_publishes(&old, &volume);
    let outcome = strace(&["-y"], &place.at("log"), &provisioner(&new, &volume, &[]));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let steps: [&[&str]; 8] = [
        &["write(", "/tree/changes>"],
        &["sync"],
        &["renameat(", "\"pending-"],
        &["fsync(", "/..provisioner/files>)"],
        &["renameat(", "/tree>, \"changes\"", "/volume>, \"changes\""],
        // New files are synced before stale ones are removed.
        &["sync"],
        &["unlinkat(", "/volume>, \"gone\""],
        &["sync"],
    ];
    let end: [&[&str]; 3] = [
        &["renameat(", "\"pending-", "\"published\""],
        &["fsync(", "/..provisioner/files>)"],
        &["write(1", "published: "],
    ];
    assert_order(&e2e::strace::read(&place.at("log")), &[&steps[..], &end].concat());
}
