//! The file descriptor of a directory. The directory's tasks share it, and the last of them closes it.
//! When descriptors run out, it is evicted (closed early) and reopened later.
//!
//! Everything is opened relative to its parent's descriptor: full paths cost more the deeper they
//! are, and cannot be longer than `PATH_MAX`. To reopen an evicted directory:
//! 1. Go up from it to its nearest ancestor that is open, or that is above `nearby`, the directory
//!    that the worker has read last.
//! 2. In the second case, climb to that ancestor from `nearby` by `..`.
//! 3. Open the directories below it by name, down to the evicted one.
//! 4. Check that the directory reached by `..`, and each that is to stay open, has the device and
//!    inode number it had before: another directory fails with `ESTALE`.
//! 5. Seek to where reading has stopped, and keep the directory and its nearest ancestors open.
//!
//! If that fails with `nearby`, it is tried again without: directories may have been moved.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, SeekFrom, StatxFlags, seek, statx, tell};
use rustix::io::Errno;

use super::{Dir, FileId};
use crate::walk::syscalls::Syscalls;

/// A directory with an open descriptor, whether or not it has tasks left.
#[derive(Clone)]
pub struct OpenDir {
    /// The directory.
    pub dir: Arc<Dir>,
    /// Its descriptor.
    pub fd: Arc<OwnedFd>,
}

/// The descriptor of a directory, and what had to be reopened for it.
pub struct Found {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    /// The directories that were reopened and stay open.
    pub reopened: Vec<Arc<Dir>>,
}

/// The state of a directory's descriptor.
pub(super) struct Descriptor {
    fd: Option<Arc<OwnedFd>>,
    evicted: Option<Evicted>,
    /// How many threads read through the descriptor, and so move its position.
    readers: usize,
}

impl Descriptor {
    pub(super) fn open(fd: OwnedFd) -> Self {
        Self { fd: Some(Arc::new(fd)), evicted: None, readers: 0 }
    }
}

/// What is needed to reopen an evicted directory.
#[derive(Clone, Copy)]
struct Evicted {
    id: FileId,
    /// Where reading goes on.
    position: u64,
}

/// A counted use of a directory by a task. The last one that is dropped closes the descriptor.
pub struct DirInUse(Arc<Dir>);

impl DirInUse {
    /// The first use of a directory that was just opened.
    pub fn new(dir: Dir) -> Self {
        Self(Arc::new(dir))
    }
}

impl Clone for DirInUse {
    fn clone(&self) -> Self {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Deref for DirInUse {
    type Target = Arc<Dir>;

    fn deref(&self) -> &Arc<Dir> {
        &self.0
    }
}

impl Drop for DirInUse {
    fn drop(&mut self) {
        // Roots stay open: every search ends at one.
        if self.0.uses.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.parent.is_some() {
            let mut descriptor = self.0.lock();
            (descriptor.fd, descriptor.evicted) = (None, None);
        }
    }
}

/// How to get to a directory.
struct Route<'d> {
    /// The descriptor to start from.
    start: Arc<OwnedFd>,
    /// Whether `start` is the last directory of `down` itself, reached by `..`, or its parent.
    has_climbed: bool,
    /// The directories to go through, from the target upwards.
    down: Vec<&'d Arc<Dir>>,
}

impl Dir {
    /// Returns the descriptor, after reopening the directory if it was evicted. Its `keep`
    /// nearest ancestors stay open as well, since the walk will come back to them next. `nearby`
    /// is where the search may start.
    ///
    /// # Errors
    /// Fails if the directory cannot be opened; `ESTALE` if another one has taken its place.
    pub fn fd(
        self: &Arc<Self>,
        syscalls: &Syscalls,
        keep: usize,
        nearby: Option<&OpenDir>,
    ) -> Result<Found, Errno> {
        if let Some(fd) = &self.lock().fd {
            return Ok(Found { fd: fd.clone(), reopened: Vec::new() });
        }
        let from_nearby = nearby.and_then(|dir| self.reopen(syscalls, keep, Some(dir)).ok());
        from_nearby.map_or_else(|| self.reopen(syscalls, keep, None), Ok)
    }

    fn reopen(
        self: &Arc<Self>,
        syscalls: &Syscalls,
        keep: usize,
        nearby: Option<&OpenDir>,
    ) -> Result<Found, Errno> {
        // Steps 1 and 2.
        let Route { start: mut fd, mut has_climbed, down } = self.route(syscalls, nearby)?;
        let mut reopened = Vec::new();
        for (levels_above, dir) in down.into_iter().enumerate().rev() {
            // Step 3.
            let is_climbed = std::mem::take(&mut has_climbed);
            if !is_climbed {
                fd = Arc::new(syscalls.open(fd.as_fd(), &dir.name)?);
            }
            let mut descriptor = dir.lock();
            if let Some(open) = &descriptor.fd {
                fd = open.clone(); // Another thread was faster.
                continue;
            }
            // Step 4.
            let id = descriptor.evicted.map(|evicted| evicted.id);
            let must_match = is_climbed || levels_above <= keep && id.is_some();
            if must_match && id.unwrap_or(dir.id) != identify(fd.as_fd())? {
                return Err(Errno::STALE);
            }
            // Step 5.
            if let Some(evicted) = descriptor.evicted.filter(|_| levels_above <= keep) {
                seek(&*fd, SeekFrom::Start(evicted.position))?;
                descriptor.fd = Some(fd.clone());
                reopened.push(dir.clone());
            }
        }
        Ok(Found { fd, reopened })
    }

    fn route(
        self: &Arc<Self>,
        syscalls: &Syscalls,
        nearby: Option<&OpenDir>,
    ) -> Result<Route<'_>, Errno> {
        let mut down = vec![self];
        let mut above_nearby = nearby.map(|nearby| &nearby.dir);
        loop {
            let at = down[down.len() - 1];
            while let Some(dir) = above_nearby.filter(|dir| dir.depth > at.depth) {
                above_nearby = dir.parent.as_ref();
            }
            if let (Some(dir), Some(nearby)) = (above_nearby, nearby)
                && Arc::ptr_eq(dir, at)
            {
                let start = climb(syscalls, &nearby.fd, nearby.dir.depth - at.depth)?;
                return Ok(Route { start, has_climbed: true, down });
            }
            let parent = at.parent.as_ref().ok_or(Errno::STALE)?;
            if let Some(fd) = &parent.lock().fd {
                return Ok(Route { start: fd.clone(), has_climbed: false, down });
            }
            down.push(parent);
        }
    }

    /// Calls `read` with the descriptor, which is not evicted meanwhile.
    ///
    /// # Errors
    /// As [`fd`](Self::fd).
    pub fn with_fd<T>(
        self: &Arc<Self>,
        syscalls: &Syscalls,
        keep: usize,
        nearby: Option<&OpenDir>,
        read: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<(T, Found), Errno> {
        self.lock().readers += 1;
        let found = self.fd(syscalls, keep, nearby);
        let outcome = found.map(|found| (read(found.fd.as_fd()), found));
        self.lock().readers -= 1;
        outcome
    }

    /// Evicts the descriptor: it is closed once no thread uses it. Returns false if the directory
    /// is a root, is being read, or could not be found again.
    pub fn evict(&self) -> bool {
        let mut descriptor = self.lock();
        let may_close = self.parent.is_some() && descriptor.readers == 0;
        let Some(fd) = descriptor.fd.as_ref().filter(|_| may_close) else { return false };
        // Identify what is open: before it was opened, another directory may have had its name.
        let (Ok(position), Ok(id)) = (tell(&**fd), identify(fd.as_fd())) else { return false };
        descriptor.evicted = Some(Evicted { id, position });
        descriptor.fd = None;
        true
    }

    /// Whether the descriptor is open.
    pub fn is_open(&self) -> bool {
        self.lock().fd.is_some()
    }
}

/// Reads the identity of an open file.
fn identify(fd: BorrowedFd<'_>) -> Result<FileId, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO).map(|status| FileId::of(&status))
}

/// Opens the directory that is `levels` above `from`.
fn climb(syscalls: &Syscalls, from: &Arc<OwnedFd>, levels: usize) -> Result<Arc<OwnedFd>, Errno> {
    let mut fd = from.clone();
    for _ in 0..levels {
        fd = Arc::new(syscalls.open(fd.as_fd(), c"..")?);
    }
    Ok(fd)
}
