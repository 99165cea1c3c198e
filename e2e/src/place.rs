//! A place of a test's own: a directory on disk, and mounts that nobody else sees.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A directory that is removed at the end, however deep it has become.
pub struct Place(TempDir);

impl Place {
    /// A new one below `/var/tmp`, which lies on disk where `/tmp` may not.
    pub fn on_disk() -> Self {
        require_root();
        Self(TempDir::new_in("/var/tmp").expect("a directory"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    /// The standard library's removal runs out of descriptors on very deep trees.
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

/// Runs a test in a mount namespace of its own, where everything that it mounts vanishes with it.
///
/// The namespace is that of a thread. The processes and threads that it starts share it.
pub fn in_private_mounts(test: impl FnOnce(&Path) + Send) {
    let place = Place::on_disk();
    let outcome = std::thread::scope(|scope| {
        let private = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            sh(place.path(), "mount --make-rprivate /");
            test(place.path());
        };
        scope.spawn(private).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    crate::wait_for("loop devices to be released", || !holds_a_loop_device(place.path()));
}

fn holds_a_loop_device(place: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").expect("/sys/block").flatten();
    let files = devices.filter_map(|device| {
        fs::read_to_string(device.path().join("loop/backing_file")).ok() // Not a loop device, or idle.
    });
    files.into_iter().any(|file| Path::new(&file).starts_with(place))
}

/// Runs a shell script in `dir`.
pub fn sh(dir: &Path, script: &str) {
    let script = format!("set -e; PATH=$PATH:/usr/sbin:/sbin; {script}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().expect("sh");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr:.1000}");
}

/// Mounts a new file system, made by `mkfs` in a sparse file of `size`, on the new directory
/// `name`. The loop device is released when it is unmounted.
pub fn mount_image(place: &Path, name: &str, size: &str, mkfs: &str) {
    let image = format!("truncate -s {size} {name}.img; {mkfs} {name}.img >{name}.log 2>&1");
    let image = format!("{image} || {{ cat {name}.log >&2; exit 1; }}");
    sh(place, &format!("{image}; mkdir {name}; mount -o loop {name}.img {name}"));
}

/// Mounts a new file system in memory on the new directory `name`.
pub fn mount_tmpfs(place: &Path, name: &str) {
    sh(place, &format!("mkdir {name}; mount -t tmpfs -o size=90%,nr_inodes=0 tmpfs {name}"));
}
