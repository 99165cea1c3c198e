//! Directories of the walk, and the descriptors they are read through.
//!
//! Everything is opened relative to its parent's descriptor, since full paths cost more the
//! deeper they are and cannot be longer than `PATH_MAX`. A directory whose descriptor was given
//! up meanwhile is found again through its ancestors, and must then still be the same.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, StatxFlags, openat, seek, statx, tell};
use rustix::io::Errno;

use super::volume::Volume;

/// Which file it is: device (major, minor) and inode number.
pub type FileId = (u32, u32, u64);

/// A directory that is read, or whose children still are.
pub struct Dir {
    /// What it is called in its parent; the path as given for a root.
    pub name: Box<CStr>,
    /// Levels below the root, which is 0.
    pub depth: usize,
    /// Which directory it is.
    pub id: FileId,
    /// The file system that it lies on.
    pub volume: Volume,
    /// Tells directories apart, for whoever must not keep them alive.
    pub serial: u64,
    /// How many subdirectories are still to be found by its link count; `i64::MAX` for unknown.
    pub left: AtomicI64,
    parent: Option<Arc<Dir>>,
    state: Mutex<State>,
}

/// The descriptor of a directory, and where reading it goes on after it was given up.
struct State {
    fd: Option<Arc<OwnedFd>>,
    position: u64,
    /// How many threads read through the descriptor, so that its position may change.
    readers: usize,
}

impl Dir {
    /// A directory that was just opened.
    pub fn new(
        parent: Option<Arc<Dir>>,
        name: Box<CStr>,
        id: FileId,
        volume: Volume,
        serial: u64,
        fd: OwnedFd,
    ) -> Self {
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        let left = AtomicI64::new(i64::MAX);
        let state = Mutex::new(State { fd: Some(Arc::new(fd)), position: 0, readers: 0 });
        Self { name, depth, id, volume, serial, left, parent, state }
    }

    /// The directory above; none for a root.
    pub fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// Whether this or a directory above is `id`: to enter it again would never end.
    pub fn is_within(&self, id: FileId) -> bool {
        let mut at = Some(self);
        while let Some(dir) = at {
            if dir.id == id {
                return true;
            }
            at = dir.parent.as_deref();
        }
        false
    }

    /// Its descriptor, opened again and moved to where reading goes on if it was given up.
    ///
    /// # Errors
    /// It cannot be opened; `ESTALE` when another directory has taken its place.
    pub fn fd(&self, opener: &Opener) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = &self.lock().fd {
            return Ok(fd.clone());
        }
        let mut missing = vec![self];
        let mut base = None;
        while let Some(parent) = missing.last().and_then(|dir| dir.parent.as_deref()) {
            base = parent.lock().fd.clone();
            if base.is_some() {
                break;
            }
            missing.push(parent);
        }
        let mut fd = base.ok_or(Errno::STALE)?;
        for dir in missing.into_iter().rev() {
            fd = Arc::new(opener.open(fd.as_fd(), &dir.name)?);
            let status = statx(&*fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
            if dir.id != (status.stx_dev_major, status.stx_dev_minor, status.stx_ino) {
                return Err(Errno::STALE);
            }
        }
        let mut state = self.lock();
        if let Some(fd) = &state.fd {
            return Ok(fd.clone()); // Another thread was faster.
        }
        seek(&*fd, SeekFrom::Start(state.position))?;
        state.fd = Some(fd.clone());
        Ok(fd)
    }

    /// Whether its descriptor is open.
    pub fn is_open(&self) -> bool {
        self.lock().fd.is_some()
    }

    /// Reads through its descriptor, which is not given up meanwhile.
    ///
    /// # Errors
    /// As [`fd`](Self::fd).
    pub fn reading<T>(
        &self,
        opener: &Opener,
        read: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<T, Errno> {
        self.lock().readers += 1;
        let outcome = self.fd(opener).map(|fd| read(fd.as_fd()));
        self.lock().readers -= 1;
        outcome
    }

    /// Gives the descriptor up, unless it is being read; it is closed when nobody uses it any
    /// more. Roots keep theirs.
    pub fn give_up_fd(&self) {
        let mut state = self.lock();
        if self.parent.is_none() || state.readers > 0 {
            return;
        }
        let position = state.fd.as_ref().map(|fd| tell(&**fd));
        if let Some(Ok(position)) = position {
            state.position = position;
            state.fd = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dir {
    /// Drops ancestors in a loop: recursion would overflow the stack on a deep tree.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut dir) = above.and_then(Arc::into_inner) {
            above = dir.parent.take();
        }
    }
}

/// How directories are opened.
#[derive(Debug)]
pub struct Opener {
    /// Whether reading still leaves access times alone; only owners and the privileged may ask.
    noatime: AtomicBool,
}

impl Opener {
    /// Opens without touching access times, as long as the kernel allows that.
    pub fn new() -> Self {
        Self { noatime: AtomicBool::new(true) }
    }

    /// Opens directory `name` in `parent`, never through a symbolic link.
    ///
    /// # Errors
    /// As openat(2): `ENOTDIR` for anything that is no directory.
    pub fn open(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        self.open_with(parent, name, OFlags::NOFOLLOW)
    }

    /// Opens a root, through links.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_root(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        self.open_with(parent, name, OFlags::empty())
    }

    fn open_with(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        more: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
        if self.noatime.load(Ordering::Relaxed) {
            match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
                Err(Errno::PERM) => self.noatime.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        openat(parent, name, flags, Mode::empty())
    }
}
