//! Bind mounts: directories and files that are mounted a second time, also below themselves.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::Path;

use crate::compare::{MODES, THREADS, assert_equal, assert_same, find};
use crate::scan::{excerpt, owners, scan, scanned};
use crate::trees::grow;
use e2e::mounts::{in_private_mounts, mount_tmpfs, sh};

const LOOP: &str = "a directory above it is mounted there";

/// Asserts that a scan lists the same as find, and also lists `at` with this owner and reports it
/// as a mount of a directory above.
fn assert_loop_is_reported(place: &Path, at: &str, uid: &str) {
    for (mode, tests) in MODES {
        let mut expected = find(place, "tree", tests);
        // find does not list a mount of a directory above.
        expected.insert(at.into(), uid.to_owned());
        for threads in THREADS {
            let outcome = scan(place, &[mode, "--threads", threads, "tree"]);
            let message = format!("scan-uids: failed to enter `{at}`: {LOOP}\n");
            assert_eq!((outcome.code, excerpt(&outcome.stderr)), (Some(1), &message[..]));
            assert_same(&owners(&outcome.stdout), &expected, mode);
        }
    }
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_directory_that_is_mounted_below_itself_is_reported_and_not_entered() {
    in_private_mounts(|place| {
        grow(&place.join("tree/x"), 50, 1);
        sh(place, "mkdir -p tree/x/y/z; mount --bind tree/x tree/x/y/z; chown 30001 tree/x");
        assert_loop_is_reported(place, "tree/x/y/z", "30001");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn directories_that_are_mounted_in_each_other_are_entered_once() {
    in_private_mounts(|place| {
        sh(place, "mkdir -p tree/x/in tree/y/in tree/x/of-x tree/y/of-y; chown 30002 tree/x");
        // Now y/in is x, x/in is y, and so x/in/in is x again.
        sh(place, "mount --bind tree/x tree/y/in; mount --rbind tree/y tree/x/in");
        assert!(place.join("tree/x/in/in/of-x").exists());
        assert_loop_is_reported(place, "tree/x/in/in", "30002");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn with_one_file_system_a_bind_mount_of_the_same_device_is_not_entered() {
    in_private_mounts(|place| {
        for name in ["tree/plain", "other"] {
            grow(&place.join(name), 50, 2);
        }
        fs::create_dir(place.join("tree/here")).unwrap();
        sh(place, "mount --bind other tree/here");
        chown(place.join("other"), Some(30003), None).unwrap();
        let count = assert_equal(place, "tree", &[]);
        assert!(count > 100, "find has entered it: {count}");

        for (mode, tests) in MODES {
            let prune = ["-path", "tree/here/*", "-prune", "-o"];
            let expected = find(place, "tree", &[&prune, tests].concat());
            assert_eq!(expected.get(&b"tree/here"[..]).map(|uid| &uid[..]), Some("30003"));
            for threads in THREADS {
                let args = [mode, "--one-file-system", "--threads", threads, "tree"];
                assert_same(&scanned(place, &args), &expected, &args.join(" "));
            }
        }
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_file_mounted_on_a_file_is_listed_with_its_own_owner() {
    in_private_mounts(|place| {
        grow(&place.join("tree"), 20, 3);
        mount_tmpfs(place, "memory");
        for name in ["tree/same", "tree/other", "source", "memory/source"] {
            File::create(place.join(name)).unwrap();
        }
        chown(place.join("source"), Some(30004), None).unwrap();
        chown(place.join("memory/source"), Some(30005), None).unwrap();
        sh(place, "mount --bind source tree/same; mount --bind memory/source tree/other");
        assert_equal(place, "tree", &[]);
        assert_equal(place, "tree", &["--one-file-system"]);
        let found = scanned(place, &["--entries", "tree"]);
        let owner = |path: &str| found.get(path.as_bytes()).map(|uid| &uid[..]);
        assert_eq!((owner("tree/same"), owner("tree/other")), (Some("30004"), Some("30005")));
    });
}
