//! The usual file systems for data, and the root file system of this machine, compared with find.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::compare::{MODES, THREADS, assert_equal, assert_same, find};
use crate::scan::scanned;
use crate::trees::{add_hostile_names, add_odd_entries, grow};
use e2e::mounts::{in_private_mounts, mount_image, mount_tmpfs, require_root, sh};

/// Makes a tree of about 2,500 entries of all kinds.
fn populate(root: &Path) {
    grow(root, 1000, 1);
    assert!(add_hostile_names(root) >= 11, "the file system refuses too many names");
    add_odd_entries(root);
}

fn assert_populated_and_equal(place: &Path, root: &str) {
    let count = assert_equal(place, root, &[]);
    assert!(count > 2000, "{count} entries");
    assert_equal(place, root, &["--one-file-system"]);
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn ext4_is_scanned_as_find_does() {
    in_private_mounts(|place| {
        mount_image(place, "disk", "256M", "mkfs.ext4 -q -F");
        populate(&place.join("disk"));
        assert_populated_and_equal(place, "disk");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn xfs_is_scanned_as_find_does() {
    in_private_mounts(|place| {
        mount_image(place, "disk", "400M", "mkfs.xfs -q");
        populate(&place.join("disk"));
        assert_populated_and_equal(place, "disk");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn tmpfs_is_scanned_as_find_does() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "disk");
        populate(&place.join("disk"));
        assert_populated_and_equal(place, "disk");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn btrfs_and_its_subvolumes_are_scanned_as_find_does() {
    in_private_mounts(|place| {
        mount_image(place, "disk", "300M", "mkfs.btrfs -q");
        let disk = place.join("disk");
        populate(&disk);
        sh(&disk, "btrfs subvolume create volume; btrfs subvolume create volume/inner");
        grow(&disk.join("volume"), 50, 2);
        grow(&disk.join("volume/inner"), 50, 3);
        chown(disk.join("volume"), Some(30003), None).unwrap();
        // In a snapshot, an empty directory takes the place of an inner subvolume.
        sh(&disk, "btrfs subvolume snapshot volume copy");
        assert_populated_and_equal(place, "disk");

        let device = |path: &str| fs::metadata(disk.join(path)).unwrap().dev();
        assert!(device("volume") != device("") && device("volume/inner") != device("volume"));
        let within = find(place, "disk", &["-xdev"]);
        assert_eq!(within.get(&b"disk/volume"[..]).map(|uid| &uid[..]), Some("30003"));
        assert!(!within.keys().any(|path| path.starts_with(b"disk/volume/")));
        let below = find(place, "disk", &[]);
        assert!(below.keys().filter(|path| path.starts_with(b"disk/volume/inner/d")).count() >= 50);
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn an_overlay_with_changes_is_scanned_as_find_does() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "below");
        mount_tmpfs(place, "above");
        sh(place, "mkdir below/tree above/changes above/work disk");
        let (lower, disk) = (place.join("below/tree"), place.join("disk"));
        populate(&lower);
        for name in ["deleted", "replaced", "emptied", "touched"] {
            fs::create_dir(lower.join(name)).unwrap();
            grow(&lower.join(name), 30, 4);
        }
        let layers = "lowerdir=below/tree,upperdir=above/changes,workdir=above/work";
        sh(place, &format!("mount -t overlay -o {layers} overlay disk"));
        sh(&disk, "rm -r deleted replaced emptied/*; mkdir replaced replaced/new");
        sh(&disk, "chown 30004 touched; mkdir touched/d0/new; rm -r odd/sub; touch odd/sub");
        grow(&disk.join("replaced"), 30, 5);
        assert_populated_and_equal(place, "disk");

        let found = find(place, "disk", &[]);
        assert!(!found.contains_key(&b"disk/deleted"[..]), "the lower layer is listed");
        assert_eq!(found.get(&b"disk/touched"[..]).map(|uid| &uid[..]), Some("30004"));
        let merged = fs::metadata(disk.join("touched")).unwrap();
        assert_eq!(merged.nlink(), 1, "merged directories have no link count");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn the_system_itself_is_scanned_as_find_does() {
    require_root(); // Other users may not read every directory.
    let root = Path::new("/");
    for (mode, tests) in MODES {
        for threads in THREADS {
            let args = [mode, "--threads", threads, "usr"];
            // A package may be installed meanwhile.
            let attempt = |_| {
                let expected = find(root, "usr", tests);
                let found = scanned(root, &args);
                (find(root, "usr", tests) == expected).then_some((found, expected))
            };
            let (found, expected) = (0..5).find_map(attempt).expect("a while without changes");
            assert_same(&found, &expected, &args.join(" "));
        }
    }
}
