//! Mount points, and access times: the program in a mount namespace where a test can mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::is_root;
use e2e::programs::{Outcome, program, python_pairs, run};
use tempfile::TempDir;

fn tree() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for path in ["a/b/c/d", "a/other"] {
        fs::create_dir_all(dir.path().join(path)).expect("create a directory");
    }
    dir
}

/// A command that runs a shell script with the path of scan-uids as `$0`, in a mount namespace.
fn with_mounts(dir: &Path, script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { &["-m"][..] } else { &["-rm"] });
    unshare.args(["sh", "-c", script]).arg(program("scan-uids")).current_dir(dir);
    unshare
}

/// Scans after a shell script that mounts.
fn scan_after_mounting(dir: &Path, mounts: &str, args: &[&str]) -> Outcome {
    run(with_mounts(dir, &format!("{mounts} && exec \"$0\" \"$@\"")).args(args), b"")
}

fn keys(outcome: &Outcome) -> Vec<Vec<u8>> {
    python_pairs(&outcome.stdout).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn with_one_file_system_mount_points_are_listed_and_not_entered() {
    let dir = tree();
    let listed = |args: &[&str]| {
        let mounts = "mount -t tmpfs none a/b && mkdir -p a/b/on/tmpfs";
        let outcome = scan_after_mounting(dir.path(), mounts, args);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        keys(&outcome)
    };
    let everything = listed(&["-r", "a"]);
    assert!(everything.contains(&b"a/b/on/tmpfs".to_vec()));
    let here = listed(&["-r", "--one-file-system", "a"]);
    assert!(here.contains(&b"a/b".to_vec()) && here.contains(&b"a/other".to_vec()));
    assert!(!here.iter().any(|key| key.starts_with(b"a/b/")), "{here:?}");
}

#[test]
fn file_systems_of_the_kernel_are_entered_only_if_they_are_arguments() {
    let dir = tree();
    let listed = |args: &[&str]| {
        let outcome = scan_after_mounting(dir.path(), "mount --rbind /proc a/b", args);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        keys(&outcome)
    };
    let below = listed(&["-r", "a"]);
    assert!(below.contains(&b"a/b".to_vec()) && below.contains(&b"a/other".to_vec()));
    assert!(!below.iter().any(|key| key.starts_with(b"a/b/")), "{} paths", below.len());
    let as_argument = listed(&["-r", "--max-depth=1", "--exclude=[0-9]*", "a/b"]);
    assert!(as_argument.contains(&b"a/b/sys".to_vec()), "{as_argument:?}");
}

#[test]
fn a_directory_that_is_mounted_below_itself_is_not_entered_again() {
    let dir = tree();
    let outcome = scan_after_mounting(dir.path(), "mount --bind a a/b/c", &["-r", "a"]);
    let expected = "scan-uids: failed to enter `a/b/c`: a directory above it is mounted there\n";
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(1), expected));
    let keys = keys(&outcome);
    assert!(keys.contains(&b"a/b/c".to_vec()) && !keys.contains(&b"a/b/c/b".to_vec()));
}

#[test]
fn access_times_of_directories_stay_as_they_are() {
    let dir = tree();
    let mounts = "mount -t tmpfs -o strictatime none a && mkdir -p a/x/y && touch -a -d @1 a a/x";
    let times = |read: &str| {
        let script = format!("{mounts} && {read} >/dev/null && stat -c %X a a/x");
        let outcome = run(&mut with_mounts(dir.path(), &script), b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        outcome.stdout
    };
    assert_ne!(times("ls -R a"), "1\n1\n", "reading changes access times here");
    assert_eq!(times("\"$0\" -r --trust-nlink=never a"), "1\n1\n");
}
