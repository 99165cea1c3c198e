//! Disks that are full.

use std::fs;
use std::path::Path;

use e2e::place::{in_private_mounts, sh};

use crate::run::{assert_publishes, assert_settled, publish};
use crate::tree::{make_new, make_old, seen, seen_by_name, without_root};

/// How much more room there is each time, in bytes.
const STEP: u64 = 16 * 1024;

/// Updates a volume with so much room as `leave` makes, a little more each time, until there is
/// room for both versions. Returns how often there was not.
fn fill(place: &Path, leave: impl Fn(u64)) -> u64 {
    let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    for step in 0.. {
        leave(step * STEP);
        let outcome = publish(&new, &volume);
        if outcome.code == Some(0) {
            assert_settled(&new, &volume);
            return step;
        }
        let stderr = &outcome.stderr;
        assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        let reasons = ["no space left on device", "less than a new version takes"];
        assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{stderr}");
        assert_eq!(seen_by_name(&volume), without_root(seen(&old)));
        assert_publishes(&old, &volume);
    }
    unreachable!()
}

/// Free and used bytes.
fn room(path: &Path) -> (u64, u64) {
    let found = rustix::fs::statvfs(path).expect("a file system");
    (found.f_bavail * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize)
}

#[test]
fn a_full_memory_disk_keeps_the_old_tree() {
    if !e2e::is_root() {
        return;
    }
    in_private_mounts(|place| {
        let volume = place.join("volume");
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m,mode=755 tmpfs volume");
        let failed = fill(place, |left| {
            let size = room(&volume).1 + left;
            sh(place, &format!("mount -o remount,size={size} volume"));
        });
        assert!(failed > 10, "{failed}");
    });
}

#[test]
fn a_full_ext4_keeps_the_old_tree() {
    if !e2e::is_root() {
        return;
    }
    in_private_mounts(|place| {
        sh(place, "truncate -s 8m disk; mkfs.ext4 -q -m 0 disk; mkdir mounted");
        sh(place, "mount -o loop disk mounted; mkdir mounted/volume; ln -s mounted/volume volume");
        let ballast = place.join("mounted/ballast");
        let failed = fill(place, |left| {
            let _ = fs::remove_file(&ballast);
            sh(place, "sync -f mounted");
            // The ballast itself takes a little more than its size.
            let size = room(&place.join("mounted")).0.saturating_sub(left + 4 * STEP);
            sh(place, &format!("fallocate -l {size} mounted/ballast"));
        });
        assert!(failed > 10, "{failed}");
    });
}
