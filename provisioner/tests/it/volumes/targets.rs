//! Volumes that cannot be published to, or only as plain files.

use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::run;

use crate::support::run::{Place, assert_publishes, names, provisioner, publish, strace};
use crate::support::tree::{directory, file, make_new, make_old, seen, seen_by_name, without_root};

/// Asserts that the tree is refused, in one line that says why.
fn assert_refused(source: &Path, volume: &Path, reason: &str) {
    let outcome = publish(source, volume);
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
}

#[test]
fn a_read_only_volume_is_unchanged() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m tmpfs volume");
        make_old(&old);
        make_new(&new);
        assert_publishes(&old, &volume);
        sh(place, "mount -o remount,ro volume");
        assert_refused(&new, &volume, "read-only file system");
        assert_eq!(seen_by_name(&volume), without_root(seen(&old)));
        // There is nothing to write for what is live already.
        assert_publishes(&old, &volume);
    });
}

#[test]
fn a_file_system_without_links_is_refused_and_stays_empty() {
    let place = Place::new();
    make_old(&place.at("tree"));
    // As vfat answers, symlink(2).
    let run = provisioner(&place.at("tree"), &place.volume(), &[]);
    let outcome = strace(&["-e", "inject=symlinkat:error=EPERM"], &place.at("log"), &run);
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("takes no symbolic links"), "{stderr}");
    assert_eq!(names(&place.volume()).len(), 0);
}

#[test]
fn a_file_system_without_links_or_modes_takes_plain_files() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        // exFAT knows neither symbolic links nor permission bits.
        let mount = "truncate -s 64m card; mkfs.exfat card >log; mkdir volume; \
            disk=$(losetup -f --show card); mount.exfat-fuse \"$disk\" volume >log; losetup -d \"$disk\"";
        sh(place, mount);
        let (tree, volume) = (place.join("tree"), place.join("volume"));
        make_plain(&tree);
        assert_refused(&tree, &volume, "takes no symbolic links");
        assert_eq!(names(&volume).len(), 0);

        let published = run(&mut provisioner(&tree, &volume, &["--layout", "files"]), b"");
        assert_eq!(published.code, Some(0), "{}", published.stderr);
        assert!(published.stderr.contains("keeps no permission bits"), "{}", published.stderr);
        sh(place, "diff -r --exclude=..provisioner tree volume; umount volume");
    });
}

/// Makes files and directories, and no links.
fn make_plain(tree: &Path) {
    directory(tree, 0o755);
    directory(tree.join("certs"), 0o755);
    file(tree.join("certs/ca.pem"), b"a certificate\n", 0o644);
    file(tree.join("policy.rego"), b"package policy\n", 0o644);
}

#[test]
fn entries_of_other_programs_are_left_alone() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    symlink("2026_11_22/data", volume.join("..data")).unwrap();
    assert_refused(&tree, &volume, "in use by another program");
    std::fs::remove_file(volume.join("..data")).unwrap();
    std::fs::write(volume.join("other"), "of another program").unwrap();
    assert_eq!(publish(&tree, &volume).code, Some(0));
    assert_eq!(std::fs::read(volume.join("other")).unwrap(), b"of another program");
}
