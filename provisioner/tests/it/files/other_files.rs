//! Files of other programs on the same volume: they stay after any publication and any killed run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::volume::{assert_no_leftovers, assert_publishes, provisioner, publish, visible};
use crate::support::run::{Place, strace};
use crate::support::tree::{Entry, directory, file, make_new, make_old, seen, without_root};

/// Files of other programs, in other directories and in published ones.
const OTHER_FILES: [&str; 4] = ["lost+found/#1", "mine", "a/mine", "turns/deep/mine"];

fn write_other_files(volume: &Path) {
    for name in OTHER_FILES {
        fs::create_dir_all(volume.join(name).parent().expect("below")).expect("made");
        file(volume.join(name), "of another program", 0o600);
    }
}

fn assert_other_files(volume: &Path) {
    for name in OTHER_FILES {
        assert_eq!(fs::read(volume.join(name)).expect("read"), b"of another program", "{name}");
    }
}

#[test]
fn other_files_stay_when_the_directories_around_them_are_removed() {
    let place = Place::new();
    let (old, other, volume) = (place.at("old"), place.at("other"), place.volume());
    make_old(&old);
    directory(&other, 0o755);
    file(other.join("only"), "this", 0o644);
    write_other_files(&volume);
    for (source, paths) in [(&old, 31 - 1), (&other, 1)] {
        let outcome = publish(source, &volume);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert_other_files(&volume);
        let mut found = visible(&volume);
        // Directories stay as long as other files are in them.
        let is_other = |path: &[u8]| {
            let path = std::str::from_utf8(path).unwrap();
            OTHER_FILES.iter().any(|name| Path::new(name).starts_with(path))
        };
        found.retain(|path, _| !is_other(path));
        let mut expected = without_root(seen(source));
        expected.retain(|path, _| !is_other(path));
        assert_eq!(found, expected);
        assert!(expected.len() + 2 >= paths.min(3), "{}", expected.len());
    }
    assert_no_leftovers(&volume);
}

#[test]
fn a_directory_with_other_files_is_not_replaced_by_a_file() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    file(volume.join("turns/mine"), "of another program", 0o600);
    let before = visible(&volume);
    let outcome = publish(&new, &volume);
    let reason =
        "cannot be published to: `turns` is a directory, and `turns/mine` was not published\n";
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1));
    assert!(outcome.stderr.ends_with(reason), "{}", outcome.stderr);
    assert_eq!(visible(&volume), before);
    fs::remove_file(volume.join("turns/mine")).unwrap();
    assert_publishes(&new, &volume);
}

#[test]
fn an_unclaimed_entry_is_not_replaced_by_a_directory() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    directory(place.at("outside"), 0o755);
    let obstacles: [fn(&Path, &Path); 2] =
        [|at, _| fs::write(at, "mine").unwrap(), |at, outside| symlink(outside, at).unwrap()];
    for put in obstacles {
        put(&volume.join("a"), &place.at("outside"));
        let outcome = publish(&tree, &volume);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1));
        let reason = "`a` is no directory, and was not published\n";
        assert!(outcome.stderr.ends_with(reason), "{}", outcome.stderr);
        assert_eq!(crate::support::run::names(&volume).len(), 1, "only the obstacle");
        fs::remove_file(volume.join("a")).unwrap();
    }
    assert_eq!(crate::support::run::names(&place.at("outside")).len(), 0);
}

#[test]
fn files_that_cp_has_copied_are_taken_over() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_new(&new);
    directory(&old, 0o755);
    for name in ["a", "kind"] {
        directory(old.join(name), 0o700);
    }
    for name in ["a/n1", "a/stray", "same", "fresh"] {
        file(old.join(name), "of cp", 0o600);
    }
    let copied =
        std::process::Command::new("cp").arg("-r").arg(old.join(".")).arg(&volume).status();
    assert!(copied.unwrap().success());
    let outcome = publish(&new, &volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    // A file that is not in the tree is not claimed.
    assert_eq!(fs::read(volume.join("a/stray")).unwrap(), b"of cp");
    fs::remove_file(volume.join("a/stray")).unwrap();
    super::volume::assert_published(&new, &volume);
}

/// Publishes `new` over `old`, and kills the run after its claim, before the first file is in place.
fn kill_after_the_claim(place: &Place) {
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    let run = provisioner(&new, &volume, &[]);
    // The first rename is that of the claim.
    let kill = ["-e", "inject=renameat:signal=KILL:when=2"];
    assert_eq!(strace(&kill, &place.at("log"), &run).code, None);
    let claims = crate::support::run::names(&volume.join("..provisioner/files"));
    assert!(claims.iter().any(|name| name.to_string_lossy().starts_with("pending-")), "{claims:?}");
}

#[test]
fn a_file_written_at_a_name_that_a_killed_run_claimed_stays() {
    let place = Place::new();
    kill_after_the_claim(&place);
    let (old, volume) = (place.at("old"), place.volume());
    // Only the new tree has `fresh`. The killed run must not have put it in place.
    let was_there = volume.join("fresh").exists();
    file(volume.join("fresh"), "mine", 0o644);
    let outcome = publish(&old, &volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(fs::read(volume.join("fresh")).unwrap(), b"mine");
    assert!(!was_there);
    assert_no_leftovers(&volume);
    fs::remove_file(volume.join("fresh")).unwrap();
    super::volume::assert_published(&old, &volume);
}

#[test]
fn files_of_a_broken_claim_stay_with_a_warning() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_old(&new);
    file(new.join("same"), "another", 0o644);
    for stale in ["gone", "a/n4"] {
        fs::remove_file(new.join(stale)).unwrap();
    }
    assert_publishes(&old, &volume);
    let record = volume.join("..provisioner/files/published");
    let whole = fs::read_to_string(&record).unwrap();
    let hidden = whole.replacen("\"path\":\"gone\"", "\"path\":\"..x\"", 1);
    for broken in
        [&whole[..whole.len() / 2], "", "{}\n", &whole.replacen("0644", "0600", 1), &hidden]
    {
        fs::write(&record, broken).unwrap();
        let outcome = publish(&new, &volume);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let warning = "Warning: published files that are not in the tree stay on the volume: ";
        assert!(outcome.stderr.starts_with(warning), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
        let mut found = visible(&volume);
        for stale in [&b"gone"[..], b"a/n4"] {
            found.remove(stale);
        }
        assert_eq!(found, without_root(seen(&new)));
        assert_no_leftovers(&volume);
        // A later tree with these files takes them over again.
        let outcome = publish(&old, &volume);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert!(matches!(visible(&volume)[&b"gone"[..]], Entry::File(0o644, _)));
    }
}
