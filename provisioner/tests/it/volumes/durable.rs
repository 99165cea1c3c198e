//! The order of writes, syncs and the switch makes a publication durable.

use std::path::Path;

use e2e::mounts::{in_private_mounts, sh};
use e2e::strace::{Call, assert_order};

use crate::support::run::{provisioner, strace};
use crate::support::tree::make_old;

/// Publishes a tree on a volume that `mount` has mounted in `mounted`. Returns the system calls.
fn traced(place: &Path, mount: &str) -> Vec<Call> {
    sh(place, &format!("mkdir mounted; {mount}; mkdir mounted/volume"));
    make_old(&place.join("tree"));
    let run = provisioner(&place.join("tree"), &place.join("mounted/volume"), &[]);
    // With the paths of descriptors.
    let outcome = strace(&["-y"], &place.join("log"), &run);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    e2e::strace::read(&place.join("log"))
}

/// When the whole version is on the disk.
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
        let calls = traced(place, mount);
        let manifest: &[&str] = &["openat(", "\"manifest\"", "O_CREAT"];
        let steps: [&[&str]; 3] = [&["write(", "/tree/same>"], manifest, &["syncfs("]];
        assert_order(&calls, &[&steps[..], &SWITCH].concat());
        let syncs: Vec<_> = calls.iter().filter(|call| call.name == "syncfs").collect();
        let [sync] = syncs[..] else { panic!("not one syncfs: {syncs:?}") };
        // Nothing is written afterwards but the history, and to standard output.
        let is_other = |call: &&Call| {
            !call.text.contains("/..provisioner/") && !call.text.starts_with("write(1<")
        };
        let after = calls.iter().filter(|call| call.name == "write" && call.began > sync.began);
        let writes: Vec<_> = after.filter(is_other).collect();
        assert!(writes.is_empty(), "{writes:?}");
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
        let calls = traced(place, mount);
        assert!(calls.iter().all(|call| call.name != "syncfs"), "{calls:?}");
        let link = calls.iter().find(|call| call.text.starts_with("symlinkat(\"..version-"));
        let link = link.expect("the next link");
        let synced: Vec<_> =
            calls.iter().filter(|call| call.name == "fsync" && link.is_after(call)).collect();
        let tree = crate::support::tree::seen(&place.join("tree"));
        for (path, entry) in tree {
            let path = String::from_utf8(path).unwrap();
            let end = if path.is_empty() { "/tree>".to_owned() } else { format!("/tree/{path}>") };
            let is_link = matches!(entry, crate::support::tree::Entry::Link(_));
            let is_synced = synced.iter().any(|call| call.text.contains(&end));
            assert_ne!(is_synced, is_link, "{path}: {synced:?}");
        }
        let steps: [&[&str]; 3] =
            [&["fsync(", "/tree>)"], &["fsync(", "/manifest>)"], &["fsync(", "/version>)"]];
        assert_order(&calls, &[&steps[..], &SWITCH].concat());
    });
}
