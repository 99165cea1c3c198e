//! Files of others on the same volume: they stay, whatever is published and whoever is killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::plain::{assert_publishes, assert_tidy, plainly, publish, shown};
use crate::support::run::{Place, strace};
use crate::support::tree::{Entry, Seen, directory, file, make_new, make_old, seen, without_root};

/// Files of others, in directories of their own and in published ones.
const FOREIGN: [&str; 4] = ["lost+found/#1", "mine", "a/mine", "turns/deep/mine"];

fn put_foreign(volume: &Path) {
    for name in FOREIGN {
        fs::create_dir_all(volume.join(name).parent().expect("below")).expect("made");
        file(volume.join(name), "of somebody else", 0o600);
    }
}

fn assert_foreign(volume: &Path) {
    for name in FOREIGN {
        assert_eq!(fs::read(volume.join(name)).expect("read"), b"of somebody else", "{name}");
    }
}

#[test]
fn files_of_others_stay_when_directories_around_them_go() {
    let place = Place::new();
    let (old, other, volume) = (place.at("old"), place.at("other"), place.volume());
    make_old(&old);
    directory(&other, 0o755);
    file(other.join("only"), "this", 0o644);
    put_foreign(&volume);
    for (source, paths) in [(&old, 31 - 1), (&other, 1)] {
        let outcome = publish(source, &volume);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert_foreign(&volume);
        let mut found = shown(&volume);
        // Directories that others use stay with what they have in them.
        let of_others = |path: &[u8]| {
            let path = std::str::from_utf8(path).unwrap();
            let mut foreign = FOREIGN.iter();
            foreign.any(|name| Path::new(name).starts_with(path))
        };
        found.retain(|path, _| !of_others(path));
        let mut expected = without_root(seen(source));
        expected.retain(|path, _| !of_others(path));
        assert_eq!(found, expected);
        assert!(expected.len() + 2 >= paths.min(3), "{}", expected.len());
    }
    assert_tidy(&volume);
}

#[test]
fn a_directory_with_files_of_others_does_not_become_a_file() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    file(volume.join("turns/mine"), "of somebody else", 0o600);
    let before = shown(&volume);
    let outcome = publish(&new, &volume);
    let reason =
        "cannot be published to: `turns` is a directory, and `turns/mine` was not published\n";
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1));
    assert!(outcome.stderr.ends_with(reason), "{}", outcome.stderr);
    assert_eq!(shown(&volume), before);
    fs::remove_file(volume.join("turns/mine")).unwrap();
    assert_publishes(&new, &volume);
}

#[test]
fn what_others_have_where_a_directory_goes_is_in_the_way() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    directory(place.at("outside"), 0o755);
    let in_the_way: [fn(&Path, &Path); 2] =
        [|at, _| fs::write(at, "mine").unwrap(), |at, outside| symlink(outside, at).unwrap()];
    for put in in_the_way {
        put(&volume.join("a"), &place.at("outside"));
        let outcome = publish(&tree, &volume);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1));
        let reason = "`a` is no directory, and was not published\n";
        assert!(outcome.stderr.ends_with(reason), "{}", outcome.stderr);
        assert_eq!(crate::support::run::names(&volume).len(), 1, "nothing but that");
        fs::remove_file(volume.join("a")).unwrap();
    }
    assert_eq!(crate::support::run::names(&place.at("outside")).len(), 0);
}

#[test]
fn what_cp_has_left_is_taken_over() {
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
    // What is not in the tree is not known to be ours.
    assert_eq!(fs::read(volume.join("a/stray")).unwrap(), b"of cp");
    fs::remove_file(volume.join("a/stray")).unwrap();
    super::plain::assert_settled(&new, &volume);
}

/// Publishes `new` over `old`, and is killed when the claim is made, but nothing is in place.
fn killed_after_the_claim(place: &Place) -> Seen {
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    let run = plainly(&new, &volume, &[]);
    // The first rename is the claim's.
    let kill = ["-e", "inject=renameat:signal=KILL:when=2"];
    assert_eq!(strace(&kill, &place.at("log"), &run).code, None);
    let claims = crate::support::run::names(&volume.join("..provisioner/files"));
    assert!(claims.iter().any(|name| name.to_string_lossy().starts_with("pending-")), "{claims:?}");
    shown(&volume)
}

#[test]
fn a_file_that_others_make_where_a_killed_run_wanted_to_is_theirs() {
    let place = Place::new();
    killed_after_the_claim(&place);
    let (old, volume) = (place.at("old"), place.volume());
    // `fresh` is in the new tree alone, and may have been put in place by this or not.
    let is_there = volume.join("fresh").exists();
    file(volume.join("fresh"), "mine", 0o644);
    let outcome = publish(&old, &volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(fs::read(volume.join("fresh")).unwrap(), b"mine");
    assert!(!is_there);
    assert_tidy(&volume);
    fs::remove_file(volume.join("fresh")).unwrap();
    super::plain::assert_settled(&old, &volume);
}

#[test]
fn a_claim_that_cannot_be_read_is_nobodys() {
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
        let said = "Warning: published files that are not in the tree stay on the volume: ";
        assert!(outcome.stderr.starts_with(said), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
        let mut found = shown(&volume);
        for stale in [&b"gone"[..], b"a/n4"] {
            found.remove(stale);
        }
        assert_eq!(found, without_root(seen(&new)));
        assert_tidy(&volume);
        // What stays there is nobody's, and is taken over again.
        let outcome = publish(&old, &volume);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert!(matches!(shown(&volume)[&b"gone"[..]], Entry::File(0o644, _)));
    }
}
