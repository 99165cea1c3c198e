//! Directories with more entries than memory should hold.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::cgroup::Cgroup;
use crate::scan::{Ended, excerpt, limited, stream};
use e2e::mounts::{in_private_mounts, mount_tmpfs};

const SUBDIRECTORIES: usize = 1_000_000;
const FILES: usize = 300_000;
/// The highest peak of resident memory, in KiB as counted by getrusage.
const MAX_PEAK: u64 = 16 * 1024;
/// The same where all threads are busy.
const MAX_BUSY_PEAK: u64 = 24 * 1024;
const CGROUP: u64 = 64 * 1024 * 1024;

/// Python code that writes the peak memory of a command to a file, in KiB. The peak is never less
/// than Python's own: the memory of a process before `exec` counts as well.
const MEASURE: &str = r#"
import os, sys
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    report.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"#;

/// The numbers that have been listed, and whether the lines were sorted.
struct Tally {
    is_listed: Vec<bool>,
    lines: usize,
    listed: usize,
    last: Vec<u8>,
    is_sorted: bool,
}

impl Tally {
    fn of(count: usize, scan: &mut Command) -> (Self, Ended) {
        let (is_listed, last) = (vec![false; count], Vec::new());
        let mut tally = Self { is_listed, lines: 0, listed: 0, last, is_sorted: true };
        let ended = stream(scan, |line| tally.add(line));
        (tally, ended)
    }

    fn add(&mut self, line: &[u8]) {
        self.lines += 1;
        self.is_sorted &= self.last.as_slice() < line;
        line.clone_into(&mut self.last);
        let line = String::from_utf8_lossy(line);
        let Some((_, number)) = line.split_once("wide/n") else { return };
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let number: usize = number[..digits].parse().expect("a number");
        self.listed += usize::from(!std::mem::replace(&mut self.is_listed[number], true));
    }
}

/// Asserts that `wide` is listed completely within the limits that `setup` sets.
fn assert_complete(place: &Path, count: usize, setup: &str, args: &[&str]) -> Tally {
    let args = [args, &["wide"]].concat();
    let mut scan = limited(setup);
    scan.current_dir(place).env("TMPDIR", place).args(&args);
    let (tally, ended) = Tally::of(count, &mut scan);
    assert_eq!((ended.code, excerpt(&ended.stderr)), (Some(0), ""), "{args:?}");
    let around = if args.contains(&"tsv") { 0 } else { 2 };
    assert_eq!((tally.listed, tally.lines), (count, count + 1 + around), "{args:?}");
    tally
}

fn assert_peak_below(limit: u64, place: &Path, count: usize, args: &[&str]) {
    let report = place.join("peak");
    let measure = format!("exec python3 -I -S -c '{MEASURE}' '{}'", report.display());
    assert_complete(place, count, &measure, args);
    let peak = fs::read_to_string(report).expect("written").parse().expect("a number");
    println!("peak of {args:?} on {count} entries: {peak} KiB");
    assert!((1..limit).contains(&peak), "{args:?}: {peak} KiB");
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_million_subdirectories_take_little_memory() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "wide");
        for number in 0..SUBDIRECTORIES {
            // These names together are more than the group's memory.
            fs::create_dir(place.join(format!("wide/n{number:080}"))).unwrap();
        }
        assert_peak_below(MAX_PEAK, place, SUBDIRECTORIES, &["--recursive"]);
        // Without link counts, every directory is entered.
        let enter_all = ["--recursive", "--trust-nlink=never"];
        assert_peak_below(MAX_BUSY_PEAK, place, SUBDIRECTORIES, &enter_all);
        let group = Cgroup::of_memory(CGROUP);
        let enter = format!("{} exec", group.enter());
        assert_complete(place, SUBDIRECTORIES, &enter, &["--recursive"]);
        let sort = ["--recursive", "--sort", "--format", "tsv"];
        let tally = assert_complete(place, SUBDIRECTORIES, &enter, &sort);
        assert!(tally.is_sorted);
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn three_hundred_thousand_files_take_little_memory() {
    in_private_mounts(|place| {
        mount_tmpfs(place, "wide");
        for number in 0..FILES {
            File::create(place.join(format!("wide/n{number}"))).unwrap();
        }
        assert_peak_below(MAX_BUSY_PEAK, place, FILES, &["--entries"]);
    });
}
