//! Sources: checksums, modes, and the empty source.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use e2e::programs::{Outcome, command, run};

fn publish(dir: &Path, options: &[&str]) -> Outcome {
    let mut provisioner = command("provisioner");
    provisioner.args(["--source", "source", "--target", "volume", "--grace", "0"]);
    run(provisioner.args(options).current_dir(dir), b"")
}

fn places() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["source/certs", "volume"] {
        fs::create_dir_all(dir.path().join(name)).expect("made");
    }
    fs::write(dir.path().join("source/certs/a.pem"), "one\n").expect("written");
    fs::write(dir.path().join("source/list"), "two\n").expect("written");
    dir
}

/// Has sha256sum list files of the source.
fn list(dir: &Path, files: &[&str]) {
    let sums = Command::new("sha256sum").args(files).current_dir(dir.join("source")).output();
    fs::write(dir.join("source/SHA256SUMS"), sums.expect("sha256sum").stdout).expect("written");
}

fn refused(outcome: &Outcome, code: i32, message: &str) {
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(code), ""), "{outcome:?}");
    assert_eq!(outcome.stderr, format!("provisioner: {message}\n"));
}

#[test]
fn a_source_with_a_wrong_checksum_is_not_published() {
    let dir = places();
    let path = dir.path();
    list(path, &["certs/a.pem", "list"]);
    assert_eq!(publish(path, &[]).code, Some(0));

    fs::write(path.join("source/list"), "2wo\n").expect("written");
    refused(&publish(path, &[]), 1, "not what SHA256SUMS says: `list`");
    assert_eq!(fs::read_to_string(path.join("volume/list")).expect("read"), "two\n");

    // The list is wrong, not the files.
    fs::write(path.join("source/list"), "two\n").expect("written");
    let sums = fs::read_to_string(path.join("source/SHA256SUMS")).expect("read");
    let wrong = sums.replacen(&sums[..4], "0000", 1);
    fs::write(path.join("source/SHA256SUMS"), wrong).expect("written");
    refused(&publish(path, &[]), 1, "not what SHA256SUMS says: `certs/a.pem`");

    for (text, message) in [
        ("gibberish\n", "line 1 of `source/SHA256SUMS` is not `HASH  FILE`".to_owned()),
        (
            &format!("{}  gone\n", "0".repeat(64)),
            "line 1 of `source/SHA256SUMS`: there is no `gone`".to_owned(),
        ),
    ] {
        fs::write(path.join("source/SHA256SUMS"), text).expect("written");
        refused(&publish(path, &[]), 2, &message);
    }
    assert_eq!(fs::read_to_string(path.join("volume/SHA256SUMS")).expect("read"), sums);
}

#[test]
fn require_checksums_refuses_a_file_without_a_checksum() {
    let dir = places();
    let path = dir.path();
    let required = ["--require-checksums"];
    refused(&publish(path, &required), 2, "there is no `source/SHA256SUMS`");
    list(path, &["list"]);
    refused(&publish(path, &required), 2, "`certs/a.pem` is not in `source/SHA256SUMS`");
    assert!(fs::read_dir(path.join("volume")).expect("read").next().is_none());
    list(path, &["certs/a.pem", "./list"]);
    assert_eq!(publish(path, &required).code, Some(0));
}

#[test]
fn modes_are_those_of_the_source_or_of_the_options() {
    let dir = places();
    let path = dir.path();
    let of = |name: &str| {
        let metadata = fs::metadata(path.join("volume").join(name)).expect("there");
        metadata.permissions().mode() & 0o7777
    };
    let set = |name: &str, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path.join("source").join(name), permissions).expect("set");
    };
    set("list", 0o400);
    set("certs", 0o700);
    set("certs/a.pem", 0o751);
    for (options, modes) in [
        (&[][..], [0o400, 0o700, 0o751]),
        (&["--readable"], [0o444, 0o755, 0o755]),
        (&["--mode", "0440"], [0o440, 0o550, 0o440]),
        (&[], [0o400, 0o700, 0o751]),
    ] {
        let outcome = publish(path, options);
        assert!(outcome.stdout.starts_with("published"), "{options:?}: {outcome:?}");
        assert_eq!([of("list"), of("certs"), of("certs/a.pem")], modes, "{options:?}");
        assert!(publish(path, options).stdout.starts_with("unchanged"), "{options:?}");
    }
    assert_eq!(publish(path, &["--mode", "4755"]).code, Some(2));
}

#[test]
fn an_empty_source_needs_allow_empty() {
    let dir = places();
    let path = dir.path();
    assert_eq!(publish(path, &[]).code, Some(0));
    fs::remove_dir_all(path.join("source")).expect("removed");
    fs::create_dir(path.join("source")).expect("made");
    let message = "`source` is empty: --allow-empty publishes it all the same";
    refused(&publish(path, &[]), 2, message);
    assert!(path.join("volume/certs/a.pem").is_file());
    let outcome = publish(path, &["--allow-empty"]);
    assert!(outcome.stdout.starts_with("published: 0 added, 0 changed, 2 removed"), "{outcome:?}");
    let left: Vec<_> = fs::read_dir(path.join("volume"))
        .expect("read")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| !name.to_string_lossy().starts_with(".."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
