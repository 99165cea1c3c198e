//! Plans of runs that would fail.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::{Outcome, command, copy_program, run};

use super::files_layout::old_source;
use super::{Places, traces};

const FILES: [&str; 2] = ["--layout", "files"];

#[test]
fn obstacles_are_reported_as_by_the_run() {
    let cases = [
        ("rm -r a; echo other > a; rm ..provisioner/files/*", "`a` is no directory"),
        ("rm gone; mkdir gone; echo > gone/mine", "`gone/mine` was not published"),
        ("rm gone; mkdir -p gone/x/y", "`gone/x` was not published"),
    ];
    for (prepare, why) in cases {
        let places = old_source();
        assert_eq!(places.run(&FILES).code, Some(0));
        fs::write(places.path("source/same"), "other").expect("written");
        sh(&places.path("volume"), prepare);
        let before = traces(&places.path("volume"));
        let planned = places.run(&["--layout", "files", "--dry-run"]);
        assert_eq!(traces(&places.path("volume")), before, "{prepare}");
        assert_eq!((planned.code, planned.stderr.lines().count()), (Some(1), 1), "{planned:?}");
        assert!(planned.stderr.contains(why), "{prepare}: {}", planned.stderr);
        assert!(planned.stdout.contains("\n~ same (content)\n"), "{}", planned.stdout);
        assert!(planned.stdout.contains("\nwould publish: "), "{}", planned.stdout);
        let outcome = places.run(&FILES);
        assert_eq!((outcome.code, outcome.stderr), (planned.code, planned.stderr), "{prepare}");
    }
}

#[test]
fn a_bad_source_is_refused_as_by_the_run() {
    let places = Places::new();
    assert_eq!(places.run(&FILES).code, Some(0));
    places.write("source/a", "new");
    places.write("source/SHA256SUMS", &format!("{}  a\n", "0".repeat(64)));
    for (prepare, code, why) in [
        ("true", 1, "not what SHA256SUMS says: `a`"),
        ("ln -s /etc source/out", 2, "`out` is a link that leads out of the tree"),
        ("rm -r source; mkdir source", 2, "`source` is empty: --allow-empty"),
    ] {
        sh(&places.path(""), prepare);
        let planned = places.run(&["--layout", "files", "--dry-run"]);
        assert_eq!((planned.code, &planned.stdout[..]), (Some(code), ""), "{prepare}");
        assert!(planned.stderr.contains(why), "{prepare}: {}", planned.stderr);
        let outcome = places.run(&FILES);
        assert_eq!((outcome.code, outcome.stderr), (planned.code, planned.stderr), "{prepare}");
    }
}

#[test]
fn a_rollback_of_plain_files_is_refused() {
    let places = Places::new();
    for content in ["one", "two"] {
        places.write("source/a", content);
        assert_eq!(places.run(&[]).code, Some(0));
    }
    let (_, last) = places.plan(&["rollback"]);
    assert!(last.starts_with("would roll back: "), "{last}");
    assert_eq!(places.run(&FILES).code, Some(0));
    let planned = places.run(&["rollback", "--dry-run"]);
    assert_eq!((planned.code, &planned.stdout[..]), (Some(2), ""));
    let outcome = places.run(&["rollback"]);
    assert_eq!((outcome.code, outcome.stderr), (planned.code, planned.stderr));
}

#[test]
fn only_new_files_need_space() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|dir| {
        sh(dir, "mkdir source volume; mount -t tmpfs -o size=1m tmpfs volume");
        sh(dir, "head -c 600000 /dev/urandom > source/large; echo 1 > source/small");
        let provisioner = |args: &[&str]| {
            let mut provisioner = command("provisioner");
            provisioner.args(["--source", "source", "--target", "volume", "--grace", "0"]);
            run(provisioner.args(FILES).args(args).current_dir(dir), b"")
        };
        assert_eq!(provisioner(&[]).code, Some(0));
        sh(dir, "echo 2 > source/small");
        let outcome = provisioner(&["--dry-run"]);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        // Files that a killed run has staged would be removed.
        let staged = "volume/..provisioner/files/next-0123456789abcdef/tree";
        sh(dir, &format!("mkdir -p {staged}; head -c 350000 /dev/urandom > {staged}/large"));
        sh(dir, "head -c 200000 /dev/urandom > source/small; mount -o remount,ro volume");
        let outcome = provisioner(&["--dry-run"]);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert!(outcome.stdout.starts_with("~ small (content)\nwould publish: "), "{outcome:?}");
        sh(dir, "mount -o remount,rw volume; head -c 500000 /dev/urandom > source/small");
        let planned = provisioner(&["--dry-run"]);
        assert_eq!(planned.code, Some(1), "{planned:?}");
        assert!(planned.stdout.starts_with("~ small (content)\nwould publish: "), "{planned:?}");
        assert!(planned.stderr.contains("less than a new version takes"), "{planned:?}");
        let outcome = provisioner(&[]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("less than a new version takes"), "{outcome:?}");
    });
}

#[test]
fn missing_permissions_to_write_or_change_owners_are_errors() {
    if e2e::skip_unless_root("becomes another user") {
        return;
    }
    let places = Places::new();
    let program = copy_program("provisioner", &places.path(""));
    for name in ["", "source", "volume"] {
        chown(places.path(name), Some(4321), Some(4321)).expect("given");
        fs::set_permissions(places.path(name), Permissions::from_mode(0o755)).expect("a mode");
    }
    let as_user = |args: &[&str]| -> Outcome {
        let mut user = Command::new("setpriv");
        user.args(["--reuid=4321", "--regid=4321", "--clear-groups"]).arg(&program).args(args);
        user.args(["--source=source", "--target=volume", "--grace=0"]);
        run(user.current_dir(places.path("")), b"")
    };
    for layout in ["atomic", "files"] {
        let with = ["--layout", layout, "--owner"];
        for (owner, code) in [("4321:4321", 0), ("4321", 0), ("4321:1", 1), ("1", 1)] {
            let outcome = as_user(&[&with[..], &[owner, "--dry-run"]].concat());
            assert_eq!(outcome.code, Some(code), "{layout} {owner}: {outcome:?}");
            assert!(outcome.stdout.starts_with("+ a\n"), "{layout} {owner}: {outcome:?}");
            let why = "--owner takes the right to give files away";
            assert_eq!(outcome.stderr.contains(why), code == 1, "{layout} {owner}: {outcome:?}");
        }
    }
    assert_eq!(as_user(&FILES).code, Some(0));
    chown(places.path("volume/d"), Some(0), Some(0)).expect("given");
    places.write("source/a", "new");
    assert_eq!(as_user(&["--layout", "files", "--dry-run"]).code, Some(0));
    places.write("source/d/b", "new");
    let outcome = as_user(&["--layout", "files", "--dry-run"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let message = "provisioner: failed to write to `volume/d`: permission denied\n";
    assert_eq!(outcome.stderr, message);
    // To change the mode of a directory, its parent need not be writable.
    chown(places.path("volume/d"), Some(4321), None).expect("given");
    places.write("source/d/b", "two");
    sh(&places.path(""), "mkdir source/d/x volume/d/x; chmod 755 volume/d/x; chmod 700 source/d/x");
    sh(
        &places.path(""),
        "chown 4321 source/d/x volume/d/x; chown 0 volume/d; chown 4321 source/d/b",
    );
    let outcome = as_user(&["--layout", "files", "--dry-run"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("~ d/x/ (mode 0755 -> 0700)\n"), "{outcome:?}");
    places.write("source/d/b", "new");
    // The owner of a directory can make it writable.
    chown(places.path("volume/d"), Some(4321), None).expect("given");
    fs::set_permissions(places.path("volume/d"), Permissions::from_mode(0o555)).expect("a mode");
    assert_eq!(as_user(&["--layout", "files", "--dry-run"]).code, Some(0));
    assert_eq!(as_user(&FILES).code, Some(0));
}
