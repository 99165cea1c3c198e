//! How the walk touches a file system: opening and looking, with as few traces and as little
//! traffic as the kernel allows.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// How directories are opened and entries are looked at.
#[derive(Debug)]
pub struct Access {
    /// Whether reading still leaves access times alone; only owners and the privileged may ask.
    noatime: AtomicBool,
    /// Whether attributes may come from a cache of a network file system.
    dont_sync: AtomicBool,
}

impl Access {
    /// Leaves access times alone as long as the kernel allows that. `dont_sync`: attributes that
    /// the client of a network file system has cached will do.
    pub fn new(dont_sync: bool) -> Self {
        Self { noatime: AtomicBool::new(true), dont_sync: AtomicBool::new(dont_sync) }
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

    /// Looks at `name` in `parent`. With `AtFlags::empty()` it follows links and mounts what is
    /// mounted on demand.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        flags: AtFlags,
        fields: StatxFlags,
    ) -> Result<Statx, Errno> {
        if self.dont_sync.load(Ordering::Relaxed) {
            match statx(parent, name, flags | AtFlags::STATX_DONT_SYNC, fields) {
                // Not every kernel, or what stands in for one, knows the flag.
                Err(Errno::INVAL) => self.dont_sync.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        statx(parent, name, flags, fields)
    }
}
