//! Locks a directory, so that one process at a time writes to it.
//!
//! The lock is a `flock(2)` on the directory itself: it leaves no file behind, and ends with the process.
//! On network file systems it may not reach other nodes, so nothing relies on it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use published_tree::dir::Dir;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A lock, released when it is dropped. `None` on file systems without locks.
pub struct Lock(Option<OwnedFd>);

impl Lock {
    /// Whether no other process of this node writes.
    pub fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// Locks a directory, and waits up to `timeout` for it.
///
/// # Errors
/// Fails if another process still holds the lock. The error names the process, if it can be found.
pub fn lock(dir: &Dir, timeout: Duration) -> Result<Lock> {
    let failure = |errno| dir.error("lock", b"", errno);
    let fd = dir.open_fd(b"").map_err(failure)?;
    let start = Instant::now();
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(Some(fd))),
            // NFS requires a descriptor that is open for writing, which a directory cannot have.
            Err(Errno::BADF | Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => {
                return Ok(Lock(None));
            }
            Err(Errno::WOULDBLOCK) if start.elapsed() < timeout => sleep(RETRY_INTERVAL),
            Err(Errno::WOULDBLOCK) => {
                let (shown, holder) = (dir.display_path(b""), holder(&fd).unwrap_or_default());
                bail!(
                    "`{}` is locked by another writer{holder}, also after {timeout:?}",
                    shown.display()
                );
            }
            Err(errno) => return Err(failure(errno)),
        }
    }
}

/// Finds the process that holds the lock in `/proc/locks` (`proc_locks(5)`). Processes of other PID
/// namespaces and other nodes are not found.
fn holder(fd: impl AsFd) -> Option<String> {
    let inode = fstat(fd).ok()?.st_ino;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid: u32 = locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (pid, dir) = (fields.get(4)?, fields.get(5)?);
        let is_it = fields.get(1) == Some(&"FLOCK") && dir.ends_with(&format!(":{inode}"));
        pid.parse().ok().filter(|_| is_it)
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!(" (process {pid}, `{}`)", name.trim_end()))
}
