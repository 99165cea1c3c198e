//! Publications that change, repair or leave the files of a volume.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use e2e::programs::{command, run};
use e2e::strace::Call;

use super::volume::{assert_published, assert_publishes, provisioner, publish};
use crate::support::run::{Place, may_change, strace};
use crate::support::tree::{directory, file, make_new, make_old};

#[test]
fn each_kind_of_change_is_published_and_reverted() {
    let place = Place::new();
    let (old, new, volume) = (place.at("old"), place.at("new"), place.volume());
    make_old(&old);
    make_new(&new);
    let line = assert_publishes(&old, &volume);
    assert!(line.starts_with("published: 22 added, 0 changed, 0 removed, 0 unchanged"), "{line}");
    let inode = || fs::metadata(volume.join("same")).unwrap().ino();
    let (same, volume_mode) = (inode(), fs::metadata(&volume).unwrap().mode());
    let line = assert_publishes(&new, &volume);
    // The directory `turns` becomes a file, the file `kind` a directory.
    assert!(
        line.starts_with("published: 2 added, 6 changed, 3 removed, 13 unchanged, 0"),
        "{line}"
    );
    let line = assert_publishes(&old, &volume);
    assert!(
        line.starts_with("published: 3 added, 6 changed, 2 removed, 13 unchanged, 0"),
        "{line}"
    );
    assert_eq!(inode(), same, "an unchanged file is not replaced");
    assert_eq!(fs::metadata(&volume).unwrap().mode(), volume_mode, "the root keeps its mode");
}

#[test]
fn a_run_without_changes_writes_nothing() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    assert_publishes(&tree, &volume);
    let traces = || {
        let mut find = std::process::Command::new("find");
        // Reading a symbolic link sets its access time.
        let atime = ["(", "-type", "l", "-o", "-printf", "%A@", ")"];
        find.arg(&volume).args(["-printf", "%p|%i|%n|%s|%m|%T@|%C@|"]).args(atime);
        let outcome = run(&mut find, b"");
        assert_eq!(outcome.code, Some(0));
        outcome.stdout
    };
    let before = traces();
    // Times in file systems may be as coarse as 4 ms.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let outcome = strace(&[], &place.at("log"), &provisioner(&tree, &volume, &[]));
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout.starts_with("unchanged: 0 added, 0 changed, 0 removed, 22 unchanged"));
    assert_eq!(traces(), before);
    let mut changes = e2e::strace::read(&place.at("log"));
    // `fsync` changes no file.
    changes.retain(|call| may_change(call) && call.name != "fsync");
    let is_output = |call: &Call| call.text.starts_with("write(1, \"unchanged: ");
    assert!(matches!(&changes[..], [call] if is_output(call)), "{changes:?}");
}

#[test]
fn damaged_files_and_directories_are_repaired() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    assert_publishes(&tree, &volume);
    type Damage = fn(&std::path::Path);
    let damages: [(Damage, u32); 8] = [
        (|v| fs::write(v.join("a/n1"), "9").unwrap(), 1),
        (|v| fs::remove_file(v.join("a/deep/two")).unwrap(), 1),
        (|v| fs::set_permissions(v.join("same"), fs::Permissions::from_mode(0o600)).unwrap(), 1),
        (|v| fs::remove_file(v.join("link")).unwrap(), 1),
        (
            |v| {
                fs::remove_file(v.join("link")).unwrap();
                symlink("/etc/passwd", v.join("link")).unwrap();
            },
            1,
        ),
        (|v| fs::set_permissions(v.join("a"), fs::Permissions::from_mode(0o777)).unwrap(), 0),
        (|v| fs::remove_dir(v.join("empty")).unwrap(), 0),
        (
            |v| {
                fs::remove_file(v.join("gone")).unwrap();
                fs::create_dir(v.join("gone")).unwrap();
            },
            1,
        ),
    ];
    for (number, (damage, repaired)) in damages.into_iter().enumerate() {
        damage(&volume);
        let line = assert_publishes(&tree, &volume);
        let expected = format!(
            "published: 0 added, 0 changed, 0 removed, {} unchanged, {repaired} repaired",
            22 - repaired
        );
        assert!(line.starts_with(&expected), "{number}: {line}");
    }
}

#[test]
fn a_directory_without_write_permission_is_changed() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    directory(&tree, 0o755);
    directory(tree.join("fixed"), 0o755);
    directory(tree.join("fixed/deep"), 0o755);
    for content in ["one", "other"] {
        file(tree.join("fixed/deep/file"), content, 0o444);
        file(tree.join("fixed/deep").join(content), content, 0o444);
    }
    let modes = |mode| {
        for name in ["fixed/deep", "fixed"] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    modes(0o555);
    // Root may write everywhere.
    let program = e2e::programs::copy_program("provisioner", place.volume().parent().unwrap());
    let publish = || {
        if !e2e::is_root() {
            return publish(&tree, &volume);
        }
        let mut user = std::process::Command::new("setpriv");
        user.args(["--reuid=4321", "--regid=4321", "--clear-groups"]).arg(&program);
        user.args(provisioner(&tree, &volume, &["--termination-log", "none"]).get_args());
        run(&mut user, b"")
    };
    if e2e::is_root() {
        for place in [place.volume().parent().unwrap(), &volume] {
            std::os::unix::fs::chown(place, Some(4321), None).unwrap();
        }
    }
    for change in 0..3 {
        modes(0o755);
        match change {
            0 => {}
            1 => fs::remove_file(tree.join("fixed/deep/one")).unwrap(),
            _ => fs::remove_dir_all(tree.join("fixed/deep")).unwrap(),
        }
        if change < 2 {
            modes(0o555);
        }
        let outcome = publish();
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{change}");
        assert_published(&tree, &volume);
    }
}

#[test]
fn status_and_history_show_plain_files_and_rollback_is_refused() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    let provisioner =
        |args: &[&str]| run(command("provisioner").args(args).arg("--target").arg(&volume), b"");
    assert_eq!(provisioner(&["status"]).code, Some(1));
    let line = assert_publishes(&tree, &volume);
    let digest = line.split("sha256:").nth(1).unwrap().get(..64).unwrap();
    let status = provisioner(&["status"]);
    assert_eq!((status.code, &status.stderr[..]), (Some(0), ""));
    let first = status.stdout.lines().next().unwrap();
    assert!(first.starts_with(&format!("live: sha256:{digest}, since 20")), "{first}");
    assert!(first.contains(", as plain files, 22 files, "), "{first}");
    let json = provisioner(&["status", "--json"]).stdout;
    assert!(json.contains(&format!("\"digest\":\"{digest}\"")), "{json}");
    assert!(json.contains("\"layout\":\"files\""), "{json}");
    assert!(provisioner(&["history"]).stdout.contains(digest));
    let refused = provisioner(&["rollback"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(2), 1), "{refused:?}");
    assert!(refused.stderr.contains("no earlier versions are kept"), "{}", refused.stderr);
    assert_published(&tree, &volume);
    // The digest is the same in the atomic layout.
    let atomic = Place::new();
    let outcome = run(&mut crate::support::run::provisioner(&tree, &atomic.volume(), &[]), b"");
    assert!(outcome.stdout.contains(digest), "{}", outcome.stdout);
}

#[test]
fn a_source_with_wrong_checksums_or_without_files_is_refused() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    assert_publishes(&tree, &volume);
    fs::write(tree.join("SHA256SUMS"), format!("{}  gone\n", "0".repeat(64))).unwrap();
    let outcome = publish(&tree, &volume);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    fs::remove_file(tree.join("SHA256SUMS")).unwrap();
    assert_published(&tree, &volume);
    fs::remove_dir_all(&tree).unwrap();
    directory(&tree, 0o755);
    assert_eq!(publish(&tree, &volume).code, Some(2));
    let outcome = run(&mut provisioner(&tree, &volume, &["--allow-empty"]), b"");
    assert!(outcome.stdout.starts_with("published: 0 added, 0 changed, 22 removed"), "{outcome:?}");
    assert_published(&tree, &volume);
}
