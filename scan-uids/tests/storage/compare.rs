//! Compares scans with GNU find: the same entries with the same owners.

use std::path::Path;
use std::process::Command;

use crate::scan::{Owners, excerpt, owners, scan, scanned};

/// How many differences a failed test prints.
const SHOWN: usize = 5;

/// The modes of listing, with find's tests for the same.
pub const MODES: [(&str, &[&str]); 2] = [("--recursive", &["-type", "d"]), ("--entries", &[])];
/// Numbers of threads to walk with.
pub const THREADS: [&str; 4] = ["1", "2", "4", "8"];

/// The owners of all entries below `root` that pass `tests`, according to find. Its errors are
/// ignored.
pub fn find(dir: &Path, root: &str, tests: &[&str]) -> Owners {
    let mut find = Command::new("find");
    find.env("LC_ALL", "C")
        .current_dir(dir)
        .args([root, "-noleaf"])
        .args(tests)
        .args(["-printf", r"%U %p\0"]);
    let output = find.output().expect("find is installed");
    let records = output.stdout.split(|&b| b == 0).filter(|record| !record.is_empty());
    let owner = |record: &[u8]| {
        let space = record.iter().position(|&b| b == b' ').expect("a UID and a path");
        let uid = String::from_utf8(record[..space].to_vec()).expect("digits");
        (record[space + 1..].to_vec(), uid)
    };
    records.map(owner).collect()
}

/// Asserts that scans of `root`, in both modes and with any number of threads, list the same as
/// find (with `-xdev` for `--one-file-system`). Returns the number of entries.
pub fn assert_equal(dir: &Path, root: &str, args: &[&str]) -> usize {
    let xdev: &[&str] = if args.contains(&"--one-file-system") { &["-xdev"] } else { &[] };
    let mut count = 0;
    for (mode, tests) in MODES {
        let expected = find(dir, root, &[xdev, tests].concat());
        for threads in THREADS {
            let args = [args, &[mode, "--threads", threads, root]].concat();
            assert_same(&scanned(dir, &args), &expected, &args.join(" "));
        }
        count = expected.len();
    }
    count
}

/// Asserts the same for a tree of which parts cannot be read, and that each scan reports the lines
/// `stderr`, in any order.
pub fn assert_equal_but(dir: &Path, root: &str, stderr: &[&str]) {
    for (mode, tests) in MODES {
        let expected = find(dir, root, tests);
        for threads in THREADS {
            let outcome = scan(dir, &[mode, "--threads", threads, root]);
            let what = format!("{mode} with {threads} threads");
            let mut lines: Vec<_> = outcome.stderr.lines().map(excerpt).take(10).collect();
            lines.sort_unstable();
            assert_eq!((outcome.code, &lines[..]), (Some(1), stderr), "{what}");
            assert_same(&owners(&outcome.stdout), &expected, &what);
        }
    }
}

/// Asserts that a scan lists what is expected; shows the first few differences.
pub fn assert_same(found: &Owners, expected: &Owners, what: &str) {
    if found == expected {
        return;
    }
    let beyond = |these: &Owners, those: &Owners| {
        let differing = these.iter().filter(|(path, uid)| those.get(*path) != Some(uid));
        let shown = |(path, uid): (&Vec<u8>, &String)| {
            format!("{} {uid}", excerpt(&String::from_utf8_lossy(path)))
        };
        differing.map(shown).take(SHOWN).collect::<Vec<_>>()
    };
    panic!(
        "{what}: {} entries, not {}; there are {:?} instead of {:?}",
        found.len(),
        expected.len(),
        beyond(found, expected),
        beyond(expected, found),
    );
}
