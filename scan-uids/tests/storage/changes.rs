//! Trees that change during the scan: directories are renamed, removed, and replaced by links to the
//! outside.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::compare::{MODES, THREADS};
use crate::scan::{excerpt, interrupted, limited, output, pairs};
use crate::trees::{Random, add_chain, grow};
use e2e::mounts::DiskDir;

const ROUNDS: usize = 200;
const DISTURBERS: u64 = 3;
/// All names outside the tree start with this, and no name in the tree.
const SECRET: &str = "secret";

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_scan_of_a_tree_torn_apart_stays_inside_and_prints_valid_json() {
    let place = DiskDir::create();
    let (tree, outside) = (place.path().join("tree"), place.path().join(SECRET));
    grow(&tree, 400, 1);
    add_chain(&tree, 60, "ac", "012");
    for number in 0..50 {
        fs::create_dir_all(outside.join(format!("{SECRET}{number}/{SECRET}"))).unwrap();
        File::create(outside.join(format!("{SECRET}-file{number}"))).unwrap();
    }
    let done = AtomicBool::new(false);
    let (mut listed, mut partial) = (0, 0);
    std::thread::scope(|scope| {
        for seed in 0..DISTURBERS {
            let mut disturber = Disturber::new(&tree, &outside, seed);
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    disturber.disturb();
                }
            });
        }
        let _stop = StopAtTheEnd(&done);
        for round in 0..ROUNDS {
            let (count, is_partial) = assert_sane_scan(place.path(), round);
            listed += count;
            partial += usize::from(is_partial);
        }
    });
    println!("{listed} entries in {ROUNDS} scans, {partial} of them partial");
    assert!(listed > 50 * ROUNDS, "too little was left to scan: {listed}");
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_directory_that_was_moved_out_of_the_tree_does_not_lead_the_scan_outside() {
    // Both halves can be found again.
    assert_eq!(scan_while_moved_out(&["lower"]), (Some(0), 2 + 2 + 30 * 6 + 2000 * 2));
    // The upper one cannot.
    assert_eq!(scan_while_moved_out(&["lower", "upper"]).0, Some(1));
}

/// Scans a chain of directories with few descriptors. When the scan is at the end of the chain,
/// moves halves of the chain outside, next to directories with the same names as before. Returns
/// the exit code and the number of lines.
fn scan_while_moved_out(halves: &[&str]) -> (Option<i32>, usize) {
    let place = DiskDir::create();
    let outside = place.path().join(SECRET);
    for name in ["a", "c", "0", "2"] {
        fs::create_dir_all(outside.join(name).join(SECRET)).expect("made");
    }
    let top = place.path().join("tree");
    fs::create_dir(&top).expect("made");
    let chain = add_chain(&top, 30, "ac", "012");
    let end = chain.join(["b"; 30].join("/"));
    for number in 0..2000 {
        // These names fill pipes and buffers.
        fs::create_dir_all(end.join(format!("{number:0200}/x"))).expect("made");
    }
    let mut scan = limited("ulimit -n 16; exec");
    // Without link counts, tasks are left for the way back.
    scan.current_dir(place.path()).args(["--recursive", "--trust-nlink=never", "--threads", "1"]);
    let outcome = interrupted(scan.arg("tree"), "b/000", || {
        for half in halves {
            let (from, to) = match *half {
                "lower" => (chain.join(["b"; 15].join("/")), "b"),
                _ => (chain.clone(), "1"),
            };
            fs::rename(from, outside.join(to)).expect("moved");
        }
    });
    assert!(!outcome.stdout.contains(SECRET), "left the tree");
    (outcome.code, outcome.stdout.lines().count())
}

/// Stops the disturbers. Without it, a failed assertion would leave the test hanging.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Scans once and checks the result. Returns how many paths were listed, and whether the scan was
/// partial.
fn assert_sane_scan(place: &Path, round: usize) -> (usize, bool) {
    let (mode, _) = MODES[round % MODES.len()];
    let threads = THREADS[round / 2 % THREADS.len()];
    // With few descriptors, directories must be reopened; the rate limit gives time to move them.
    let (setup, rate) = [("exec", "1000000"), ("ulimit -n 16; exec", "4000")][round / 8 % 2];
    let mut scan = limited(setup);
    scan.current_dir(place).args([mode, "--threads", threads, "--max-rate", rate, "tree"]);
    let outcome = output(&mut scan);
    let what = format!("{setup} {mode} {threads}: {}", excerpt(&outcome.stderr));
    let is_partial = match outcome.code {
        Some(0) => false,
        Some(1) => true,
        code => panic!("{code:?}: {what}"),
    };
    assert_eq!(is_partial, !outcome.stderr.is_empty(), "{what}");
    assert!(outcome.stderr.lines().all(|line| line.starts_with("scan-uids: failed to ")), "{what}");
    let pairs = pairs(&outcome.stdout);
    for (key, _) in &pairs {
        let key = String::from_utf8_lossy(key);
        assert!(key == "tree" || key.starts_with("tree/"), "{what}: {}", excerpt(&key));
        let is_outside = key.contains(SECRET) || key.contains("/tree");
        assert!(!is_outside, "{what}: left the tree: {}", excerpt(&key));
    }
    (pairs.len(), is_partial)
}

/// Changes the tree at random places, at any depth.
struct Disturber {
    tree: PathBuf,
    outside: PathBuf,
    /// A path next to the tree that no other disturber uses.
    aside: PathBuf,
    random: Random,
    made: usize,
}

impl Disturber {
    fn new(tree: &Path, outside: &Path, seed: u64) -> Self {
        let aside = tree.with_file_name(format!("{SECRET}-aside{seed}"));
        let (tree, outside) = (tree.to_owned(), outside.to_owned());
        Self { tree, outside, aside, random: Random::new(seed), made: 0 }
    }

    /// Makes one change. Failures are ignored (other disturbers cause them, too): a scan must cope
    /// with any state.
    fn disturb(&mut self) {
        let path = self.somewhere();
        let _ = match self.random.below(6) {
            0 => fs::rename(&path, self.somewhere().join(self.name())),
            1 => self.replace_by_link(&path),
            2 => self.exchange_with_link(&path),
            3 => fs::remove_dir_all(&path),
            4 => self.remake(&path),
            _ => self.add_to(&path),
        };
    }

    /// Picks a directory of the tree; the tree itself only if it has none.
    fn somewhere(&mut self) -> PathBuf {
        let mut at = self.tree.clone();
        loop {
            let entries = fs::read_dir(&at).into_iter().flatten().flatten();
            let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let mut names: Vec<_> = dirs.map(|entry| entry.file_name()).collect();
            // The directory may have become a link to the outside, which must not be changed.
            names.retain(|name| !name.to_string_lossy().starts_with(SECRET));
            if names.is_empty() {
                return if at == self.tree { at.join(self.name()) } else { at };
            }
            at.push(&names[self.random.below(names.len())]);
            if self.random.below(4) == 0 {
                return at;
            }
        }
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("n{}-{}", self.made, self.random.below(1000))
    }

    /// Keeps a state for as long as a scan takes to stat some entries, or hardly at all.
    fn hold(&mut self) {
        if self.random.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn replace_by_link(&mut self, path: &Path) -> std::io::Result<()> {
        fs::rename(path, &self.aside)?;
        let _ = symlink(&self.outside, path);
        self.hold();
        let _ = fs::remove_file(path);
        // If the way back is gone by now, add it at the top.
        fs::rename(&self.aside, path)
            .or_else(|_| fs::rename(&self.aside, self.tree.join("back")))
            .or_else(|_| fs::remove_dir_all(&self.aside))
    }

    fn exchange_with_link(&mut self, path: &Path) -> std::io::Result<()> {
        symlink(&self.outside, &self.aside)?;
        let aside = self.aside.clone();
        let exchange = || renameat_with(CWD, &aside, CWD, path, RenameFlags::EXCHANGE);
        if exchange().is_ok() {
            self.hold();
            let _ = exchange();
        }
        fs::remove_file(&self.aside).or_else(|_| fs::remove_dir_all(&self.aside))
    }

    fn remake(&self, path: &Path) -> std::io::Result<()> {
        fs::remove_dir_all(path)?;
        File::create(path)?;
        fs::remove_file(path)?;
        fs::create_dir_all(path.join("fresh/x/y"))
    }

    fn add_to(&mut self, path: &Path) -> std::io::Result<()> {
        for _ in 0..10 {
            let at = path.join(self.name());
            fs::create_dir_all(at.join("x/y/z"))?;
            File::create(at.join("file"))?;
        }
        Ok(())
    }
}
