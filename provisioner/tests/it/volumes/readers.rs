//! Readers while versions alternate.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::run::{Place, assert_publishes, names, provisioner};
use crate::support::tree::{Seen, directory, file, seen};

/// Enough for a reader on a machine that does much else, in seconds.
const GRACE: &str = "3";

/// Makes a tree whose files all hold `letter`, as many as `size` says.
fn make(root: &Path, letter: u8, size: usize) {
    directory(root, 0o755);
    for name in ["a", "b"] {
        directory(root.join(name), 0o755);
        for number in 0..8 {
            file(root.join(name).join(format!("{number}")), vec![letter; size * number], 0o644);
        }
    }
    file(root.join("top"), vec![letter; size], 0o644);
    file(root.join(format!("only-{}", char::from(letter))), [letter], 0o644);
}

/// Reads all of the tree that `..data` leads to at the moment, until `is_over`; how often.
fn read_whole(volume: &Path, trees: &[Seen; 2], is_over: &AtomicBool) -> [u32; 2] {
    let mut passes = [0, 0];
    while !is_over.load(Ordering::Relaxed) {
        let live = volume.join(fs::read_link(volume.join("..data")).expect("the link"));
        let found = seen(&live);
        let which = trees.iter().position(|tree| *tree == found);
        passes[which.unwrap_or_else(|| panic!("a mix: {found:?}"))] += 1;
    }
    passes
}

/// Reads files by their plain paths: each is whole.
fn read_by_name(volume: &Path, trees: &[Seen; 2], is_over: &AtomicBool) {
    let [paths, others] = trees.each_ref().map(|tree| tree.keys().collect::<Vec<_>>());
    let plain = |path: &&Vec<u8>| volume.join(std::ffi::OsStr::from_bytes(path));
    let both = paths.into_iter().filter(|path| others.contains(path));
    let both: Vec<PathBuf> = both.map(|path| plain(&path)).filter(|path| path.is_file()).collect();
    assert_eq!(both.len(), 17);
    let sizes = |path: &PathBuf| {
        let name = path.strip_prefix(volume).expect("below it").as_os_str().as_bytes();
        let content = |tree: &Seen| match &tree[name] {
            crate::support::tree::Entry::File(_, content) => content.clone(),
            entry => panic!("{entry:?}"),
        };
        trees.each_ref().map(content)
    };
    let contents: Vec<_> = both.iter().map(sizes).collect();
    while !is_over.load(Ordering::Relaxed) {
        for (path, contents) in both.iter().zip(&contents) {
            let found = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(contents.contains(&found), "{path:?}: {} bytes", found.len());
        }
    }
}

/// Publishes two trees in turn, each when the one before is live, while both kinds of readers read.
fn alternate(count: usize) {
    let place = Place::new();
    let (sources, volume) = (["x", "y"].map(|name| place.at(name)), place.volume());
    make(&sources[0], b'x', 1000);
    make(&sources[1], b'y', 1500);
    let trees = sources.each_ref().map(|source| seen(source));
    assert_publishes(&sources[0], &volume);
    let is_over = AtomicBool::new(false);
    let passes = std::thread::scope(|scope| {
        let whole = scope.spawn(|| read_whole(&volume, &trees, &is_over));
        let by_name = scope.spawn(|| read_by_name(&volume, &trees, &is_over));
        let _over = AtTheEnd(&is_over);
        let mut waiting = VecDeque::new();
        for number in 1..=count {
            if whole.is_finished() || by_name.is_finished() {
                break; // With a failure.
            }
            waiting.push_back(start(&sources[number % 2], &volume));
            while waiting.len() > 300 {
                assert_ends(waiting.pop_front().expect("a run"));
            }
        }
        waiting.into_iter().for_each(assert_ends);
        is_over.store(true, Ordering::Relaxed);
        by_name.join().expect("whole files");
        whole.join().expect("whole trees")
    });
    println!("passes over each tree: {passes:?}");
    assert!(passes.iter().all(|&count| count > 10), "{passes:?}");
    // The link, the version and the history.
    assert_eq!(names(&volume).iter().filter(|name| name.as_bytes().starts_with(b"..")).count(), 3);
    assert_publishes(&sources[count % 2], &volume);
}

/// Stops the readers, also if the test fails.
pub struct AtTheEnd<'e>(pub &'e AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts a run and returns when its tree is live; it waits for readers then.
fn start(source: &Path, volume: &Path) -> Child {
    let mut run = provisioner(source, volume, &["--grace", GRACE]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    let stdout = run.stdout.as_mut().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    if !line.starts_with("published: ") {
        panic!("{line}{:?}", run.wait_with_output());
    }
    run
}

fn assert_ends(run: Child) {
    let output = run.wait_with_output().expect("its end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn readers_see_whole_trees_and_whole_files_while_versions_alternate() {
    alternate(150);
}

#[test]
#[ignore = "heavy: run by make test-volumes"]
fn readers_see_whole_trees_and_whole_files_during_1000_publications() {
    alternate(1000);
}
