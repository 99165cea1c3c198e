//! What is written is on the disk before anybody is told so, in the order that makes it safe.

use std::fs;
use std::path::Path;

use e2e::place::{in_private_mounts, sh};

use crate::run::{provisioner, strace};
use crate::tree::make_old;

/// Asserts that `steps` are in the log, in this order: each is what stands in one line of it.
fn assert_order(log: &str, steps: &[&[&str]]) {
    let mut lines = log.lines();
    for step in steps {
        let found = lines.any(|line| step.iter().all(|part| line.contains(part)));
        assert!(found, "{step:?} is not where it should be:\n{log}");
    }
}

/// Publishes a tree on a volume that `mount` has mounted in `mounted`; the log.
fn traced(place: &Path, mount: &str) -> String {
    sh(place, &format!("mkdir mounted; {mount}; mkdir mounted/volume"));
    make_old(&place.join("tree"));
    let run = provisioner(&place.join("tree"), &place.join("mounted/volume"), &[]);
    // With the paths of descriptors.
    let outcome = strace(&["-y"], &place.join("log"), &run);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    fs::read_to_string(place.join("log")).expect("a log")
}

/// From when all of the version is on the disk.
const SWITCH: [&[&str]; 6] = [
    &["fsync(", "/..version-", ">)"],
    &["symlinkat(", "/tree\"", "\"..next-"],
    &["fsync(", "/mounted/volume>)"],
    &["renameat(", "\"..next-", "\"..data\""],
    &["fsync(", "/mounted/volume>)"],
    &["write(1", "published: "],
];

#[test]
fn ext4_is_synced_whole_before_the_switch_and_the_root_after_it() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let mount = "truncate -s 9m disk; mkfs.ext4 -q disk; mount -o loop disk mounted";
        let log = traced(place, mount);
        let manifest: &[&str] = &["openat(", "\"manifest\"", "O_CREAT"];
        let steps: [&[&str]; 3] = [&["write(", "/tree/same>"], manifest, &["syncfs("]];
        assert_order(&log, &[&steps[..], &SWITCH].concat());
        assert_eq!(log.matches(" syncfs(").count(), 1);
        // Nothing is written afterwards but the history, and to standard output.
        let after = log.split_once(" syncfs(").unwrap().1;
        let writes = after.lines().filter(|line| line.contains(" write("));
        let is_other =
            |line: &&str| !line.contains("/..provisioner/") && !line.contains(" write(1<");
        assert_eq!(writes.filter(is_other).count(), 0, "{after}");
    });
}

#[test]
fn elsewhere_each_file_and_directory_is_synced_before_the_switch() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let mount = "mkdir below disk; mount -t tmpfs tmpfs disk; mkdir disk/upper disk/work; \
            mount -t overlay -o lowerdir=below,upperdir=disk/upper,workdir=disk/work \
            overlay mounted";
        let log = traced(place, mount);
        assert!(!log.contains(" syncfs("), "{log}");
        let (before, _) = log.split_once(" symlinkat(\"..version-").expect("the next link");
        let synced: Vec<_> = before.lines().filter(|line| line.contains(" fsync(")).collect();
        let tree = crate::tree::seen(&place.join("tree"));
        for (path, entry) in tree {
            let path = String::from_utf8(path).unwrap();
            let end = if path.is_empty() { "/tree>".to_owned() } else { format!("/tree/{path}>") };
            let is_link = matches!(entry, crate::tree::Entry::Link(_));
            assert_ne!(synced.iter().any(|line| line.contains(&end)), is_link, "{path}: {log}");
        }
        let steps: [&[&str]; 3] =
            [&["fsync(", "/tree>)"], &["fsync(", "/manifest>)"], &["fsync(", "/version>)"]];
        assert_order(&log, &[&steps[..], &SWITCH].concat());
    });
}
