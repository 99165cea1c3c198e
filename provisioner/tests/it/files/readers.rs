//! Readers, while trees alternate under them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::plain::assert_publishes;
use crate::support::run::Place;
use crate::support::tree::{directory, file};

/// Files that are in both trees.
const FILES: usize = 12;

/// Makes a tree whose files all hold `letter`, each `size` bytes; and a directory of its own.
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

/// Reads all files that are in both trees: none is ever missing, short or mixed. How often the whole
/// of each was read.
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

/// A directory of one tree alone comes with all that is in it. It goes file by file.
fn list(own: &Path, is_over: &AtomicBool) -> u32 {
    let (mut came, mut was_there) = (0, false);
    while !is_over.load(Ordering::Relaxed) {
        let count = fs::read_dir(own).map(Iterator::count);
        if let (Ok(count), false) = (&count, was_there) {
            came += 1;
            // Or it is about to go.
            let is_going = *count < FILES && fs::read_dir(own).map_or(0, Iterator::count) <= *count;
            assert!(*count == FILES || is_going, "{count} files");
        }
        was_there = count.is_ok();
    }
    came
}

#[test]
fn readers_see_whole_files_and_none_missing_while_trees_alternate() {
    let place = Place::new();
    let (sources, volume) = (["x", "y"].map(|name| place.at(name)), place.volume());
    make(&sources[0], b'x', 50_000);
    make(&sources[1], b'y', 70_000);
    assert_publishes(&sources[0], &volume);
    let files: Vec<_> = (0..FILES).map(|number| volume.join(format!("in/{number}"))).collect();
    let is_over = AtomicBool::new(false);
    let (reads, came) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&files, [50_000, 70_000], &is_over));
        let lister = scope.spawn(|| list(&volume.join("own-y"), &is_over));
        let _over = AtTheEnd(&is_over);
        for number in 1..=60 {
            if reader.is_finished() || lister.is_finished() {
                break; // With a failure.
            }
            assert_publishes(&sources[number % 2], &volume);
        }
        is_over.store(true, Ordering::Relaxed);
        (reader.join().expect("whole files"), lister.join().expect("whole directories"))
    });
    println!("{reads:?} reads, the directory came {came} times");
    assert!(reads.iter().all(|&count| count > 10) && came > 1, "{reads:?}, {came}");
}

/// Stops the readers, also if the test fails.
struct AtTheEnd<'e>(&'e AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
