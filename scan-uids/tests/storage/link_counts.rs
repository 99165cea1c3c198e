//! Directories that have, or had, more subdirectories than ext4 can count: their link count is 1.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::compare::{THREADS, assert_equal, find};
use crate::scan::{excerpt, limited, stream};
use e2e::mounts::{in_private_mounts, mount_image};

/// A little more than the 64,998 that ext4 can count.
const MANY: usize = 65_100;

fn mount_and_fill(place: &Path) {
    mount_image(place, "disk", "2G", "mkfs.ext4 -q -F -N 100000");
    let wide = place.join("disk/wide");
    fs::create_dir(&wide).expect("made");
    for number in 0..MANY {
        fs::create_dir(wide.join(number.to_string())).expect("made");
    }
    assert_eq!(fs::metadata(&wide).expect("there").nlink(), 1, "ext4 has stopped counting");
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn more_subdirectories_than_ext4_counts_are_all_listed() {
    in_private_mounts(|place| {
        mount_and_fill(place);
        fs::create_dir_all(place.join("disk/wide/65099/below/it")).unwrap();
        // The disk itself, lost+found, and wide.
        let expected = find(place, "disk", &["-type", "d"]).len();
        assert_eq!(expected, 3 + MANY + 2);
        for threads in THREADS {
            let (mut lines, mut below) = (0, 0);
            let args = ["--recursive", "--format", "tsv", "--threads", threads, "disk"];
            let ended = stream(limited("exec").current_dir(place).args(args), |line| {
                lines += 1;
                below += usize::from(line.starts_with(b"disk/wide/65099/below"));
            });
            assert_eq!((ended.code, excerpt(&ended.stderr)), (Some(0), ""));
            assert_eq!((lines, below), (expected, 2), "{threads} threads");
        }
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn the_few_subdirectories_left_of_too_many_to_count_are_all_listed() {
    in_private_mounts(|place| {
        mount_and_fill(place);
        let wide = place.join("disk/wide");
        let is_kept = |number: usize| number % 13_000 == 7;
        for number in (0..MANY).filter(|&number| !is_kept(number)) {
            fs::remove_dir(wide.join(number.to_string())).unwrap();
        }
        for number in (0..MANY).filter(|&number| is_kept(number)) {
            fs::create_dir_all(wide.join(format!("{number}/with/children"))).unwrap();
        }
        assert_eq!(fs::metadata(&wide).unwrap().nlink(), 1, "ext4 does not count again");
        assert_eq!(assert_equal(place, "disk", &[]), 3 + 6 * 3);
    });
}
