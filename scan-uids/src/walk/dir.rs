//! Directories of the walk, and the descriptors they are read through.
//!
//! Everything is opened relative to its parent's descriptor, since full paths cost more the
//! deeper they are and cannot be longer than `PATH_MAX`. A directory whose descriptor was given
//! up meanwhile is found again through its ancestors, and must then still be the same.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, Statx, StatxFlags, openat, seek, statx, tell};
use rustix::io::Errno;

use super::volume::Volume;

/// Which file it is: device (major, minor) and inode number.
pub type FileId = (u32, u32, u64);

/// A descriptor, and the directories that were opened again for it.
pub type Reopened = (Arc<OwnedFd>, Vec<Arc<Dir>>);

/// The link count of a directory, and the time of its last change when it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Two more than there are subdirectories.
    pub links: u32,
    changed: (i64, u32),
}

impl Counted {
    /// What was looked at, with its link count and time of change.
    pub fn of(status: &Statx) -> Self {
        let time = &status.stx_mtime;
        Self { links: status.stx_nlink, changed: (time.tv_sec, time.tv_nsec) }
    }
}

/// The device and inode number of what is open.
fn identify(fd: BorrowedFd<'_>) -> Result<FileId, Errno> {
    let status = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok((status.stx_dev_major, status.stx_dev_minor, status.stx_ino))
}

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
    /// All of its subdirectories have been found: it need not be read any further.
    pub is_complete: AtomicBool,
    /// A failure to go on in it was told.
    pub is_lost: AtomicBool,
    counted: Option<Counted>,
    parent: Option<Arc<Dir>>,
    state: Mutex<State>,
}

/// The descriptor of a directory, and where reading it goes on after it was given up.
struct State {
    fd: Option<Arc<OwnedFd>>,
    /// Which directory it was when it was given up.
    id: Option<FileId>,
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
        counted: Option<Counted>,
        fd: OwnedFd,
    ) -> Self {
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        let left = counted.map_or(i64::MAX, |counted| i64::from(counted.links) - 2);
        let state = State { fd: Some(Arc::new(fd)), id: None, position: 0, readers: 0 };
        Self {
            name,
            depth,
            id,
            volume,
            serial,
            left: AtomicI64::new(left),
            is_complete: AtomicBool::new(left == 0),
            is_lost: AtomicBool::new(false),
            counted,
            parent,
            state: Mutex::new(state),
        }
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

    /// Its descriptor, opened again and moved to where reading goes on if it was given up; and
    /// the directories that were opened again for it: this one and the nearest `keep` above, since
    /// the walk will come back to them next.
    ///
    /// # Errors
    /// It cannot be opened; `ESTALE` when another directory has taken its place.
    pub fn fd(self: &Arc<Self>, opener: &Opener, keep: usize) -> Result<Reopened, Errno> {
        if let Some(fd) = &self.lock().fd {
            return Ok((fd.clone(), Vec::new()));
        }
        let mut missing = vec![self];
        let mut base = None;
        while let Some(parent) = missing.last().and_then(|dir| dir.parent.as_ref()) {
            base = parent.lock().fd.clone();
            if base.is_some() {
                break;
            }
            missing.push(parent);
        }
        let mut fd = base.ok_or(Errno::STALE)?;
        let mut reopened = Vec::new();
        for (above, dir) in missing.into_iter().enumerate().rev() {
            fd = Arc::new(opener.open(fd.as_fd(), &dir.name)?);
            let mut state = dir.lock();
            if let Some(open) = &state.fd {
                fd = open.clone(); // Another thread was faster.
                continue;
            }
            if state.id != Some(identify(fd.as_fd())?) {
                return Err(Errno::STALE);
            }
            if above <= keep {
                seek(&*fd, SeekFrom::Start(state.position))?;
                state.fd = Some(fd.clone());
                reopened.push(dir.clone());
            }
        }
        Ok((fd, reopened))
    }

    /// Reads through its descriptor, which is not given up meanwhile. With what was read come the
    /// directories that were [opened again](Self::fd).
    ///
    /// # Errors
    /// As [`fd`](Self::fd).
    pub fn reading<T>(
        self: &Arc<Self>,
        opener: &Opener,
        keep: usize,
        read: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<(T, Vec<Arc<Dir>>), Errno> {
        self.lock().readers += 1;
        let outcome = self.fd(opener, keep).map(|(fd, reopened)| (read(fd.as_fd()), reopened));
        self.lock().readers -= 1;
        outcome
    }

    /// Gives the descriptor up, to be closed when nobody uses it any more; false if it is being
    /// read or cannot be found again. Roots keep theirs.
    pub fn give_up_fd(&self) -> bool {
        let mut state = self.lock();
        let Some(fd) = state.fd.as_ref().filter(|_| self.parent.is_some() && state.readers == 0)
        else {
            return false;
        };
        // The number is taken from what is open: what it was called before may have changed.
        let (Ok(position), Ok(id)) = (tell(&**fd), identify(fd.as_fd())) else { return false };
        state.position = position;
        state.id = Some(id);
        state.fd = None;
        true
    }

    /// Whether its descriptor is open.
    pub fn is_open(&self) -> bool {
        self.lock().fd.is_some()
    }

    /// Whether no further subdirectory can follow, since nothing has changed in the directory
    /// since its links were counted.
    pub fn is_unchanged(&self, fd: BorrowedFd<'_>) -> bool {
        let fields = StatxFlags::NLINK | StatxFlags::MTIME;
        statx(fd, c"", AtFlags::EMPTY_PATH, fields)
            .is_ok_and(|status| Some(Counted::of(&status)) == self.counted)
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
