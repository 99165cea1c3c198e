//! Damage to the live tree is found and repaired.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::run::{Place, assert_publishes, assert_settled, provisioner, publish, strace};
use crate::support::tree::{directory, file, make_old, seen_by_name};

/// Damages a live tree by `harm`. Asserts that the next run repairs it and prints `says`.
fn assert_repaired(harm: impl Fn(&Path), says: &str) {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    assert_publishes(&tree, &volume);
    harm(&volume);
    let outcome = publish(&tree, &volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout.starts_with("published: "), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(says), "{}", outcome.stdout);
    assert_settled(&tree, &volume);
}

#[test]
fn a_stray_write_into_the_live_tree_is_repaired() {
    // As an old `cp -r` does, through the links.
    let harm = |volume: &Path| {
        let source = volume.with_file_name("other");
        directory(&source, 0o755);
        file(source.join("same"), "something else", 0o644);
        let status = Command::new("cp").arg("-r").arg(source.join("same")).arg(volume).status();
        assert!(status.expect("cp").success());
        assert_eq!(fs::read(volume.join("same")).unwrap(), b"something else");
    };
    assert_repaired(harm, "1 repaired");
    let same_size = |volume: &Path| file(volume.join("mode"), "MODE", 0o644);
    assert_repaired(same_size, "1 repaired");
    let mode = |volume: &Path| {
        fs::set_permissions(volume.join("a/n2"), Permissions::from_mode(0o666)).unwrap();
    };
    assert_repaired(mode, "1 repaired");
    assert_repaired(|volume| fs::remove_file(volume.join("..data/same")).unwrap(), "1 repaired");
}

#[test]
fn a_stray_write_is_repaired_even_if_the_source_has_it_too() {
    let both = |volume: &Path| {
        let times = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).unwrap();
        for path in [volume.join("mode"), volume.with_file_name("tree").join("mode")] {
            let before = times(&path);
            file(&path, "MODE", 0o644);
            let written = fs::File::options().write(true).open(&path).unwrap();
            written.set_modified(before).unwrap();
        }
    };
    assert_repaired(both, "1 repaired");
}

#[test]
fn a_stray_entry_in_the_live_tree_is_not_in_the_next() {
    let none = "0 added, 0 changed, 0 removed";
    assert_repaired(|volume| file(volume.join("a/stray"), "stray", 0o644), none);
    assert_repaired(|volume| directory(volume.join("..data/stray"), 0o755), none);
    assert_repaired(|volume| fs::remove_dir(volume.join("..data/empty")).unwrap(), none);
    assert_repaired(
        |volume| fs::set_permissions(volume.join("a/deep"), Permissions::from_mode(0o700)).unwrap(),
        none,
    );
    assert_repaired(
        |volume| {
            fs::remove_file(volume.join("..data/link")).unwrap();
            symlink("/etc/passwd", volume.join("..data/link")).unwrap();
        },
        none,
    );
    assert_repaired(|volume| fs::remove_file(volume.join("same")).unwrap(), none);
}

#[test]
fn a_tree_without_its_manifest_is_published_again() {
    let lost = |volume: &Path| fs::remove_file(volume.join("..data/../manifest")).unwrap();
    assert_repaired(lost, "published");
    let torn = |volume: &Path| fs::write(volume.join("..data/../manifest"), "{").unwrap();
    assert_repaired(torn, "published");
    // It says of a file what is not so, though every line of it can be read.
    let wrong = |volume: &Path| {
        let path = volume.join("..data/../manifest");
        let mut manifest = fs::read(&path).unwrap();
        let at =
            manifest.windows(10).position(|text| text == b"\"sha256\":\"").expect("a hash") + 10;
        manifest[at] = if manifest[at] == b'0' { b'1' } else { b'0' };
        fs::write(path, manifest).unwrap();
    };
    assert_repaired(wrong, "1 repaired");
}

#[test]
fn a_failed_repair_leaves_the_live_tree_unchanged() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    assert_publishes(&tree, &volume);
    fs::remove_file(volume.join("..data/../manifest")).unwrap();
    let before = seen_by_name(&volume);
    let run = provisioner(&tree, &volume, &["--grace", "0"]);
    let outcome = strace(&["-e", "inject=syncfs,renameat:error=EIO"], &place.at("log"), &run);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!(seen_by_name(&volume), before);
    assert_publishes(&tree, &volume);
}
