//! `--owner`: published entries get the owner, and those with another owner are repaired.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::{Outcome, command, copy_program, run};

const LAYOUTS: [&str; 2] = ["atomic", "files"];

fn places() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("source/certs/deep")).expect("made");
    fs::create_dir(dir.path().join("volume")).expect("made");
    for name in ["top", "certs/a.pem", "certs/deep/b.pem"] {
        fs::write(dir.path().join("source").join(name), name).expect("written");
    }
    symlink("certs/a.pem", dir.path().join("source/link")).expect("linked");
    dir
}

fn provisioner(dir: &Path, layout: &str, args: &[&str]) -> Command {
    let mut provisioner = command("provisioner");
    // Flags stand after a subcommand; the environment holds for all of them.
    provisioner.env("PROVISIONER_SOURCE", "source").env("PROVISIONER_TARGET", "volume");
    provisioner.env("PROVISIONER_GRACE", "0").env("PROVISIONER_TERMINATION_LOG", "none");
    provisioner.env("PROVISIONER_LAYOUT", layout).args(args).current_dir(dir);
    provisioner
}

fn done(dir: &Path, layout: &str, args: &[&str]) -> String {
    let outcome = run(&mut provisioner(dir, layout, args), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{layout} {args:?}");
    outcome.stdout
}

/// Paths below the published tree, and their owners, as find sees them.
fn owners(dir: &Path, layout: &str) -> String {
    let root = if layout == "atomic" { "volume/..data/" } else { "volume" };
    let mut find = Command::new("find");
    find.arg(root).args(["-name", "..provisioner", "-prune", "-o", "-mindepth", "1"]);
    let outcome = run(find.args(["-printf", "%U:%G\\n"]).current_dir(dir), b"");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let mut owners: Vec<&str> = outcome.stdout.lines().collect();
    owners.sort_unstable();
    owners.dedup();
    owners.join(" ")
}

#[test]
fn published_entries_belong_to_the_owner() {
    if e2e::skip_unless_root("gives files to another user") {
        return;
    }
    for layout in LAYOUTS {
        let dir = places();
        let path = dir.path();
        done(path, layout, &["--owner", "1234:2345"]);
        assert_eq!(owners(path, layout), "1234:2345", "{layout}");
        let again = done(path, layout, &["--owner", "1234:2345"]);
        assert!(again.starts_with("unchanged: "), "{again}");
        // A group that is not named, or an owner, does not matter.
        for other in [&["--owner", "1234"][..], &[]] {
            let again = done(path, layout, other);
            assert!(again.starts_with("unchanged: "), "{layout}: {again}");
        }
        assert_eq!(owners(path, layout), "1234:2345", "{layout}");
        fs::write(path.join("source/top"), "changed").expect("written");
        let mut by_environment = provisioner(path, layout, &[]);
        let outcome = run(by_environment.env("PROVISIONER_OWNER", "1234:2345"), b"");
        assert!(outcome.stdout.starts_with("published: 0 added, 1 changed"), "{outcome:?}");
        assert_eq!(owners(path, layout), "1234:2345", "{layout}");
    }
}

#[test]
fn an_entry_with_another_owner_is_repaired() {
    if e2e::skip_unless_root("gives files to another user") {
        return;
    }
    for layout in LAYOUTS {
        let dir = places();
        let path = dir.path();
        let root = path.join(if layout == "atomic" { "volume/..data" } else { "volume" });
        done(path, layout, &["--owner", "1234:2345"]);
        for (name, repaired) in
            [("certs/deep/b.pem", 1), ("certs/a.pem", 1), ("link", 1), ("certs/deep", 0)]
        {
            for (uid, gid) in [(0, 2345), (1234, 0)] {
                lchown(root.join(name), Some(uid), Some(gid)).expect("given");
                let line = done(path, layout, &["--owner", "1234:2345"]);
                let expected = format!(
                    "published: 0 added, 0 changed, 0 removed, {} unchanged, {repaired} repaired,",
                    4 - repaired
                );
                assert!(line.starts_with(&expected), "{layout} {name}: {line}");
                assert_eq!(owners(path, layout), "1234:2345", "{layout} {name}");
            }
        }
        let line = done(path, layout, &["--owner", "1234:2345"]);
        assert!(line.starts_with("unchanged: "), "{line}");
    }
}

#[test]
fn an_unchanged_file_is_copied_before_its_owner_changes() {
    if e2e::skip_unless_root("gives files to another user") {
        return;
    }
    for layout in LAYOUTS {
        let dir = places();
        let path = dir.path();
        done(path, layout, &[]);
        let live = path.join(if layout == "atomic" { "volume/..data" } else { "volume" });
        // Another user with write permission replaces the file by a hard link to a foreign one.
        fs::write(path.join("foreign"), "top").expect("written");
        fs::remove_file(live.join("top")).expect("removed");
        fs::hard_link(path.join("foreign"), live.join("top")).expect("linked");
        done(path, layout, &["--owner", "1234"]);
        assert_eq!(fs::metadata(path.join("foreign")).expect("there").uid(), 0, "{layout}");
        assert_eq!(owners(path, layout), "1234:0", "{layout}");
    }
}

#[test]
fn a_rollback_and_a_pin_set_the_owner_too() {
    if e2e::skip_unless_root("gives files to another user") {
        return;
    }
    let dir = places();
    let path = dir.path();
    done(path, "atomic", &["--owner", "1234"]);
    fs::write(path.join("source/top"), "new").expect("written");
    done(path, "atomic", &["--owner", "1234"]);
    let line = done(path, "atomic", &["rollback", "--owner", "77:88"]);
    assert!(line.starts_with("rolled back: "), "{line}");
    assert_eq!(owners(path, "atomic"), "77:88");
    let held = "not published\n";
    assert!(done(path, "atomic", &["--owner", "77:88"]).ends_with(held));
    chown(path.join("volume/..data/certs"), Some(0), None).expect("given");
    assert!(done(path, "atomic", &[]).ends_with(held));
    assert!(done(path, "atomic", &["--owner", "77:88"]).ends_with(", but restored\n"));
    assert_eq!(owners(path, "atomic"), "77:88");
}

#[test]
fn without_the_right_to_change_owners_a_run_fails_and_changes_nothing() {
    if e2e::skip_unless_root("becomes another user") {
        return;
    }
    for layout in LAYOUTS {
        let dir = places();
        let path = dir.path();
        for name in ["", "source", "volume"] {
            chown(path.join(name), Some(4321), Some(4321)).expect("given");
        }
        let program = copy_program("provisioner", path);
        let as_user = |args: &[&str]| -> Outcome {
            let mut user = Command::new("setpriv");
            user.args(["--reuid=4321", "--regid=4321", "--clear-groups"]).arg(&program).args(args);
            let as_root = provisioner(path, layout, &[]);
            user.envs(as_root.get_envs().filter_map(|(name, value)| Some((name, value?))));
            run(user.current_dir(path), b"")
        };
        let refused = |args: &[&str]| {
            let outcome = as_user(args);
            let stderr = &outcome.stderr;
            assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{layout}: {stderr}");
            assert!(stderr.contains("--owner takes the right to give files away"), "{stderr}");
            assert!(stderr.ends_with("operation not permitted\n"), "{stderr}");
        };
        refused(&["--owner", "1234"]);
        assert_eq!(fs::read_dir(path.join("volume")).expect("read").count(), 0, "{layout}");
        // To itself it may give.
        assert_eq!(as_user(&["--owner", "4321:4321"]).code, Some(0), "{layout}");
        refused(&["--owner", "1234"]);
        refused(&["--owner", "4321:1"]);
        assert_eq!(owners(path, layout), "4321:4321", "{layout}");
        let again = as_user(&["--owner", "4321"]);
        assert!(again.stdout.starts_with("unchanged: "), "{layout}: {again:?}");
    }
}

#[test]
fn a_file_system_that_ignores_owners_is_an_error() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    for layout in LAYOUTS {
        in_private_mounts(|place| {
            sh(place, "mkdir source below volume; echo x >source/x");
            sh(place, "bindfs --chown-ignore below volume");
            let outcome = run(&mut provisioner(place, layout, &["--owner", "1234"]), b"");
            assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{layout}");
            assert!(outcome.stderr.contains("failed to change the owner of"), "{outcome:?}");
            assert!(outcome.stderr.ends_with("operation not supported\n"), "{outcome:?}");
            assert_eq!(fs::read_dir(place.join("below")).expect("read").count(), 0, "{layout}");
            // The one that all files have is as good as any.
            done(place, layout, &["--owner", "0"]);
            sh(place, "umount volume");
        });
    }
}

#[test]
fn an_owner_is_a_number() {
    let dir = places();
    for owner in ["root", "-1", "4294967295", "1:", ""] {
        let outcome =
            run(&mut provisioner(dir.path(), "atomic", &[&format!("--owner={owner}")]), b"");
        assert_eq!(outcome.code, Some(2), "{owner}");
        assert!(outcome.stderr.contains("UID:GID"), "{}", outcome.stderr);
    }
}
