//! Targets that are not like others: without links, modes or room to move, or not to be written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use e2e::place::{in_private_mounts, sh};
use e2e::strace::assert_order;

use super::plain::{assert_publishes, assert_settled, plainly, publish, shown};
use crate::support::run::{Place, names, strace};
use crate::support::tree::{Entry, directory, file, make_new, make_old, seen, without_root};

/// As vfat answers, symlink(2).
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
fn a_file_system_without_links_takes_a_tree_without_links() {
    let place = Place::new();
    let volume = place.volume();
    for (number, content) in ["one", "other"].into_iter().enumerate() {
        let tree = place.at(content);
        make_plain(&tree, content);
        let outcome = strace(&NO_LINKS, &place.at("log"), &plainly(&tree, &volume, &[]));
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{number}");
        assert_settled(&tree, &volume);
    }
    let before = shown(&volume);
    symlink("top", place.at("other/link")).unwrap();
    let run = plainly(&place.at("other"), &volume, &[]);
    let outcome = strace(&NO_LINKS, &place.at("log"), &run);
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("the volume takes no symbolic links"), "{stderr}");
    assert_eq!(shown(&volume), before);
    assert_publishes(&place.at("one"), &volume);
}

#[test]
fn a_first_publication_that_fails_leaves_the_volume_empty() {
    let place = Place::new();
    make_old(&place.at("tree"));
    let run = plainly(&place.at("tree"), &place.volume(), &[]);
    assert_eq!(strace(&NO_LINKS, &place.at("log"), &run).code, Some(1));
    assert_eq!(names(&place.volume()).len(), 0);
}

#[test]
fn a_file_system_without_modes_is_published_to_once() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let volume = place.join("volume");
        // By FUSE, until it is unmounted. Directories are 0750 and files 0640, whatever is asked for.
        let modes = "--chmod-ignore --perms=u=rwX:g=rX:o=";
        sh(place, &format!("mkdir below volume; bindfs {modes} below volume"));
        for content in ["one", "other"] {
            let tree = place.join(content);
            make_plain(&tree, content);
            let outcome = publish(&tree, &volume);
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            let said = "Warning: the volume keeps no permission bits: all files have the modes that it gives\n";
            assert_eq!(outcome.stderr, said);
            let mut expected = without_root(seen(&tree));
            for entry in expected.values_mut() {
                match entry {
                    Entry::Directory(mode) => *mode = 0o750,
                    Entry::File(mode, _) => *mode = 0o640,
                    Entry::Link(_) => {}
                }
            }
            assert_eq!(shown(&volume), expected);
            let again = publish(&tree, &volume);
            assert_eq!((again.code, &again.stderr[..]), (Some(0), ""));
            assert!(again.stdout.starts_with("unchanged: "), "{}", again.stdout);
        }
        // Modes are what the volume says, and its mind may change.
        sh(place, "umount volume");
        let tree = place.join("other");
        sh(place, "mount --bind below volume");
        assert!(assert_publishes(&tree, &volume).starts_with("published: 0 added,"));
        assert!(assert_publishes(&tree, &volume).starts_with("unchanged: "));
        sh(place, "umount volume");
    });
}

#[test]
fn a_volume_that_must_not_be_written_stays_as_it_is() {
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
        // There is nothing to write for what is there already.
        assert!(assert_publishes(&old, &volume).starts_with("unchanged: "));
    });
}

#[test]
fn a_directory_that_is_another_file_system_is_refused_before_anything_is_changed() {
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
            let before = shown(&volume);
            let outcome = publish(&new, &volume);
            assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{mount}");
            assert!(outcome.stderr.contains("`a` is another file system"), "{}", outcome.stderr);
            assert_eq!(shown(&volume), before);
            sh(place, "umount volume/a");
            assert_publishes(&new, &volume);
            sh(place, "rm -r volume");
        }
    });
}

#[test]
fn each_file_is_on_the_disk_before_it_takes_its_place() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    assert_publishes(&old, &volume);
    let outcome = strace(&["-y"], &place.at("log"), &plainly(&new, &volume, &[]));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let steps: [&[&str]; 8] = [
        &["write(", "/tree/changes>"],
        &["sync"],
        &["renameat(", "\"pending-"],
        &["fsync(", "/..provisioner/files>)"],
        &["renameat(", "/tree>, \"changes\"", "/volume>, \"changes\""],
        // The new ones are on the disk before the old ones go.
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
