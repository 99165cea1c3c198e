//! Full disks.

use e2e::mounts::{in_private_mounts, sh};

use super::volume::{assert_published, assert_publishes, publish, visible};
use crate::support::tree::{make_new, make_old, seen, without_root};

/// How much larger the volume is in each round, in bytes.
const STEP: u64 = 16 * 1024;

#[test]
fn a_full_disk_leaves_all_files_unchanged() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m,mode=755 tmpfs volume");
        make_old(&old);
        make_new(&new);
        assert_publishes(&old, &volume);
        let mut failed = 0;
        loop {
            let found = rustix::fs::statvfs(&volume).expect("a file system");
            let used = (found.f_blocks - found.f_bfree) * found.f_frsize;
            sh(place, &format!("mount -o remount,size={} volume", used + failed * STEP));
            let outcome = publish(&new, &volume);
            if outcome.code == Some(0) {
                break;
            }
            let stderr = &outcome.stderr;
            assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
            let reasons = ["no space left on device", "less than a new version takes"];
            assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{stderr}");
            assert_eq!(visible(&volume), without_root(seen(&old)));
            sh(place, "mount -o remount,size=9m volume");
            assert!(assert_publishes(&old, &volume).starts_with("unchanged: "));
            failed += 1;
        }
        assert_published(&new, &volume);
        assert!(failed > 10, "{failed}");
    });
}

#[test]
fn unchanged_files_take_no_space() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let (tree, volume) = (place.join("tree"), place.join("volume"));
        sh(place, "mkdir volume; mount -t tmpfs -o size=1m,mode=755 tmpfs volume");
        make_old(&tree);
        assert_publishes(&tree, &volume);
        std::fs::write(tree.join("gone"), "changed").unwrap();
        // The volume has no space for two copies of the tree.
        assert!(assert_publishes(&tree, &volume).starts_with("published: 0 added, 1 changed"));
    });
}
