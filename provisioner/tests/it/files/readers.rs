//! Readers, while two trees are published in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::volume::assert_publishes;
use crate::support::run::Place;
use crate::support::tree::{directory, file};

/// Files that are in both trees.
const FILES: usize = 12;

/// Makes a tree whose files hold `size` times `letter`, with a directory that the other tree lacks.
fn make(root: &Path, letter: u8, size: usize) {
    directory(root, 0o755);
    directory(root.join("in"), 0o755);
    for number in 0..FILES {
        file(root.join(format!("in/{number}")), vec![letter; size], 0o644);
    }
    let own = root.join(format!("own-{}", char::from(letter)));
    directory(&own, 0o755);
    for number in 0..FILES {
        file(own.join(format!("{number}")), [letter], 0o644);
    }
}

/// Reads the files of both trees, and asserts that none is ever missing, short or mixed. Returns how
/// often a file of each tree was read.
fn read(files: &[PathBuf], sizes: [usize; 2], is_over: &AtomicBool) -> [u32; 2] {
    let mut reads = [0, 0];
    while !is_over.load(Ordering::Relaxed) {
        for path in files {
            let content = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let which = usize::from(content.first() == Some(&b'y'));
            assert_eq!(content.len(), sizes[which], "{path:?}");
            assert!(content.iter().all(|byte| *byte == content[0]), "{path:?} is a mix");
            reads[which] += 1;
        }
    }
    reads
}

/// Lists a directory of one tree, and asserts that it appears with all its files (they are removed one
/// by one). Returns how often it appeared.
fn list(own: &Path, is_over: &AtomicBool) -> u32 {
    let (mut appeared, mut was_there) = (0, false);
    while !is_over.load(Ordering::Relaxed) {
        let count = fs::read_dir(own).map(Iterator::count);
        if let (Ok(count), false) = (&count, was_there) {
            appeared += 1;
            // Or it is being removed.
            let is_removed =
                *count < FILES && fs::read_dir(own).map_or(0, Iterator::count) <= *count;
            assert!(*count == FILES || is_removed, "{count} files");
        }
        was_there = count.is_ok();
    }
    appeared
}

#[test]
fn readers_see_whole_files_and_miss_none_while_trees_alternate() {
    let place = Place::new();
    let (sources, volume) = (["x", "y"].map(|name| place.at(name)), place.volume());
    make(&sources[0], b'x', 50_000);
    make(&sources[1], b'y', 70_000);
    assert_publishes(&sources[0], &volume);
    let files: Vec<_> = (0..FILES).map(|number| volume.join(format!("in/{number}"))).collect();
    let is_over = AtomicBool::new(false);
    let (reads, appeared) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&files, [50_000, 70_000], &is_over));
        let lister = scope.spawn(|| list(&volume.join("own-y"), &is_over));
        let _stop = StopOnDrop(&is_over);
        for number in 1..=60 {
            if reader.is_finished() || lister.is_finished() {
                break; // It has panicked.
            }
            assert_publishes(&sources[number % 2], &volume);
        }
        is_over.store(true, Ordering::Relaxed);
        (reader.join().expect("whole files"), lister.join().expect("whole directories"))
    });
    println!("{reads:?} reads, the directory appeared {appeared} times");
    assert!(reads.iter().all(|&count| count > 10) && appeared > 1, "{reads:?}, {appeared}");
}

/// Stops the readers when the test ends, also by a panic.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
