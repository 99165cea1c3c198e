//! Directories on disk, and mounts in a private namespace that no other process sees.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A directory on disk. It is removed when dropped, even if it has become very deep.
pub struct DiskDir(TempDir);

impl DiskDir {
    /// Creates a directory below `/var/tmp`, which is on disk. `/tmp` may be in memory.
    pub fn create() -> Self {
        require_root();
        Self(TempDir::new_in("/var/tmp").expect("a directory"))
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for DiskDir {
    /// Runs `rm`, because the standard library runs out of descriptors on very deep trees.
    fn drop(&mut self) {
        let removed = Command::new("rm").arg("-rf").arg(self.path()).status();
        let is_removed = removed.is_ok_and(|status| status.success());
        assert!(is_removed || std::thread::panicking(), "left over: {}", self.path().display());
    }
}

/// Fails the test unless root runs it.
pub fn require_root() {
    assert!(
        crate::is_root(),
        "these tests mount file systems and give files away: run them as root"
    );
}

/// Runs a test in a private mount namespace. When the test has ended, its mounts are gone.
///
/// The namespace belongs to a new thread. Processes and threads that the test starts share it.
pub fn in_private_mounts(test: impl FnOnce(&Path) + Send) {
    let dir = DiskDir::create();
    let outcome = std::thread::scope(|scope| {
        let private = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            sh(dir.path(), "mount --make-rprivate /");
            test(dir.path());
        };
        scope.spawn(private).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    crate::wait_for("loop devices to be released", || !holds_a_loop_device(dir.path()));
}

fn holds_a_loop_device(dir: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").expect("/sys/block").flatten();
    let files = devices.filter_map(|device| {
        fs::read_to_string(device.path().join("loop/backing_file")).ok() // Not a loop device, or idle.
    });
    files.into_iter().any(|file| Path::new(&file).starts_with(dir))
}

/// Runs a shell script in `dir`.
pub fn sh(dir: &Path, script: &str) {
    let script = format!("set -e; PATH=$PATH:/usr/sbin:/sbin; {script}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().expect("sh");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr:.1000}");
}

/// Creates a file system with `mkfs` in a sparse file of `size` and mounts it on the new directory
/// `name` in `dir`. The loop device is released when the file system is unmounted.
pub fn mount_image(dir: &Path, name: &str, size: &str, mkfs: &str) {
    let image = format!("truncate -s {size} {name}.img; {mkfs} {name}.img >{name}.log 2>&1");
    let image = format!("{image} || {{ cat {name}.log >&2; exit 1; }}");
    sh(dir, &format!("{image}; mkdir {name}; mount -o loop {name}.img {name}"));
}

/// Mounts a new file system in memory on the new directory `name` in `dir`.
pub fn mount_tmpfs(dir: &Path, name: &str) {
    sh(dir, &format!("mkdir {name}; mount -t tmpfs -o size=90%,nr_inodes=0 tmpfs {name}"));
}
