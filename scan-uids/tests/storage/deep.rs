//! Trees that are much deeper than there are descriptors, with paths longer than any limit.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::compare::{MODES, THREADS, assert_same, find};
use crate::scan::{excerpt, limited, output, owners, stream};
use crate::trees::add_chain;
use e2e::mounts::{in_private_mounts, mount_tmpfs};

const LEVELS: usize = 10_000;
/// A chain of directories that are each too large for the walk's buffer.
const WIDE_LEVELS: usize = 40;
const WIDTH: usize = 1200;

/// Asserts that 16 descriptors are enough to list a chain: `count` entries, each on the chain or
/// beside it, and so identified by depth and name.
fn assert_complete(place: &Path, count: usize) {
    let chain = ["chain", &"/b".repeat(LEVELS), "/"].concat();
    for (mode, _) in MODES {
        let (mut places, mut stray) = (HashSet::new(), 0);
        let mut scan = limited("ulimit -n 16; exec");
        scan.current_dir(place.join("deep")).args([mode, "--format", "tsv", "chain"]);
        let start = std::time::Instant::now();
        let ended = stream(&mut scan, |line| {
            let path = line.strip_suffix(b"\t0").unwrap_or(line);
            // A name of one letter, below the chain or one of its directories.
            let (above, name) = path.split_at(path.len() - 1);
            let is_on_chain = chain.as_bytes().starts_with(above);
            stray += usize::from(!is_on_chain || !places.insert((above.len(), name[0])));
        });
        println!("{count} entries, {mode}: {:?}", start.elapsed());
        assert_eq!((ended.code, excerpt(&ended.stderr)), (Some(0), ""), "{mode}");
        assert_eq!((places.len(), stray), (count, 0), "{mode}");
    }
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn sixteen_descriptors_are_enough_for_a_chain_of_ten_thousand() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "deep");
        add_chain(&place.join("deep"), LEVELS, "", "");
        assert_complete(place, 1 + LEVELS);
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn sixteen_descriptors_are_enough_for_a_bushy_chain_of_ten_thousand() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "deep");
        add_chain(&place.join("deep"), LEVELS, "ac", "012");
        assert_complete(place, 1 + LEVELS * 6);
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn large_directories_are_read_on_where_reading_had_stopped() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "deep");
        let mut at = place.join("deep/chain");
        for level in 0..WIDE_LEVELS {
            // In either direction of reading, the next level comes late at every other level.
            let next = if level % 2 == 0 { 0 } else { WIDTH - 1 };
            for number in 0..WIDTH {
                fs::create_dir_all(at.join(format!("{number:080}"))).unwrap();
            }
            at.push(format!("{next:080}"));
        }
        for (mode, tests) in MODES {
            let expected = find(&place.join("deep"), "chain", tests);
            for threads in THREADS {
                let mut scan = limited("ulimit -n 16; exec");
                scan.current_dir(place.join("deep")).args([mode, "--threads", threads, "chain"]);
                let outcome = output(&mut scan);
                assert_eq!((outcome.code, excerpt(&outcome.stderr)), (Some(0), ""), "{mode}");
                assert_same(&owners(&outcome.stdout), &expected, mode);
            }
        }
    });
}
