//! One writer at a time. The lock is on the volume's directory itself, so that taking it leaves no
//! trace; it ends with the process. It may not reach other nodes: nothing relies on it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use published_tree::dir::Dir;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

/// How often it is tried.
const EVERY: Duration = Duration::from_millis(50);

/// Held as long as it lives; `None` inside where a volume knows no locks.
pub struct Lock(Option<OwnedFd>);

impl Lock {
    /// Whether nobody else writes, as far as this node knows.
    pub fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// Takes the lock of a volume, for which it waits up to `timeout`.
///
/// # Errors
/// Somebody else has it, who is named if that is to be seen from here.
pub fn lock(dir: &Dir, timeout: Duration) -> Result<Lock> {
    let failure = |errno| dir.error("lock", b"", errno);
    let fd = dir.open_fd(b"").map_err(failure)?;
    let start = Instant::now();
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(Some(fd))),
            // NFS wants a descriptor for writing, which directories do not have.
            Err(Errno::BADF | Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => {
                return Ok(Lock(None));
            }
            Err(Errno::WOULDBLOCK) if start.elapsed() < timeout => sleep(EVERY),
            Err(Errno::WOULDBLOCK) => {
                let (shown, holder) = (dir.display_path(b""), holder(&fd).unwrap_or_default());
                bail!(
                    "`{}` is locked by another writer{holder}, after {timeout:?} still",
                    shown.display()
                );
            }
            Err(errno) => return Err(failure(errno)),
        }
    }
}

/// Who holds the lock, by `/proc/locks` (`proc_locks(5)`): unknown in another PID namespace or on
/// another node.
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
