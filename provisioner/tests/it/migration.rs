//! Migrations of volumes that `cp -r` has filled, while readers read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::programs::{Outcome, command, run};

/// Names at the top, with a file of the same content each.
const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn fill(dir: &Path, content: &str) {
    for name in NAMES {
        fs::create_dir_all(dir.join(name)).expect("made");
        fs::write(dir.join(name).join("x"), content).expect("written");
    }
}

fn publish(dir: &Path, options: &[&str]) -> Outcome {
    let mut provisioner = command("provisioner");
    provisioner.args(["--source", "source", "--target", "volume", "--grace", "1"]);
    run(provisioner.args(options).current_dir(dir), b"")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("read");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Reads all files in turn until `stop`. No file may be missing, and a file that is new must not
/// become old again.
fn watch(volume: &Path, stop: &AtomicBool) -> usize {
    let (mut has_new, mut reads) = (false, 0);
    while !stop.load(Ordering::Relaxed) {
        for name in NAMES {
            let content = fs::read_to_string(volume.join(name).join("x")).expect("never missing");
            match &content[..] {
                "new" => has_new = true,
                "old" => assert!(!has_new, "a mix"),
                other => panic!("half written: {other:?}"),
            }
            reads += 1;
        }
    }
    reads
}

#[test]
fn plain_files_become_links_without_a_gap_for_readers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, volume) = (dir.path().join("source"), dir.path().join("volume"));
    for round in [0, 1, 5] {
        let _ = fs::remove_dir_all(&volume);
        fill(&source, "new");
        fill(&volume, "old");
        fs::create_dir(volume.join("lost+found")).expect("made");
        fs::write(volume.join("of another program"), "mine").expect("written");
        if round > 0 {
            // A run that was killed in the middle, or an old job that went on.
            fill(&source, "old");
            assert_eq!(publish(dir.path(), &[]).code, Some(0));
            fill(&source, "new");
            for name in &NAMES[..round] {
                fs::remove_file(volume.join(name)).expect("a link");
                fs::create_dir(volume.join(name)).expect("made");
                fs::write(volume.join(name).join("x"), "old").expect("written");
            }
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| watch(&volume, &stop))).collect();
            let outcome = publish(dir.path(), &[]);
            stop.store(true, Ordering::Relaxed);
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
            readers
                .into_iter()
                .for_each(|reader| assert!(reader.join().expect("no complaint") > 0));
        });
        for name in NAMES {
            let target = fs::read_link(volume.join(name)).expect("a link");
            assert_eq!(target, Path::new("..data").join(name));
        }
        assert_eq!(fs::read(volume.join("of another program")).expect("read"), b"mine");
        let hidden: Vec<_> = names(&volume).into_iter().filter(|n| n.starts_with("..")).collect();
        assert_eq!(hidden.len(), 3, "{hidden:?}");
        assert_eq!(names(&volume).len(), NAMES.len() + 5);
    }
}

#[test]
fn files_that_cannot_be_copied_are_moved_only_with_allow_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, volume) = (dir.path().join("source"), dir.path().join("volume"));
    fill(&source, "new");
    fill(&volume, "old");
    fs::write(volume.join("a/..hidden"), "").expect("written");
    let before = names(&volume);
    let outcome = publish(dir.path(), &[]);
    let message = "provisioner: --allow-gap moves away instead what cannot be copied: `volume` \
                   cannot be published: `a/..hidden` begins with `..`, which is kept for links and \
                   versions\n";
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(2), message));
    assert_eq!(names(&volume), before);
    assert_eq!(publish(dir.path(), &["--allow-gap"]).code, Some(0));
    assert_eq!(fs::read(volume.join("a/x")).expect("read"), b"new");
    assert_eq!(names(&volume).len(), NAMES.len() + 3);
}

#[test]
fn a_volume_of_another_program_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, volume) = (dir.path().join("source"), dir.path().join("volume"));
    fill(&source, "new");
    fs::create_dir_all(volume.join("..2026_11_22")).expect("made");
    symlink("..2026_11_22", volume.join("..data")).expect("a link");
    let outcome = publish(dir.path(), &[]);
    assert_eq!(outcome.code, Some(1));
    let message = "provisioner: `volume` is in use by another program: its `..data` leads to \
                   `..2026_11_22`\n";
    assert_eq!(outcome.stderr, message);
    assert_eq!(names(&volume), ["..2026_11_22", "..data"]);
}
