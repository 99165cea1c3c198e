//! The system calls that the walk makes for each entry: opens directories without changing their
//! access times, and reads attributes, from a network file system's cache if asked to.
//!
//! Both need a flag that the kernel may refuse. After the first refusal it is left out for good.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// Opens directories and stats entries.
#[derive(Debug)]
pub struct Syscalls {
    /// Open with `O_NOATIME`, which only a file's owner and privileged users may use.
    noatime: AtomicBool,
    /// Stat with `AT_STATX_DONT_SYNC`, which not every kernel knows.
    dont_sync: AtomicBool,
}

impl Syscalls {
    /// `dont_sync`: accept attributes that the client of a network file system has cached.
    pub fn new(dont_sync: bool) -> Self {
        Self { noatime: AtomicBool::new(true), dont_sync: AtomicBool::new(dont_sync) }
    }

    /// Opens directory `name` in `parent`, never through a symbolic link.
    ///
    /// # Errors
    /// As openat(2); `ENOTDIR` for anything but a directory.
    pub fn open(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        self.open_with(parent, name, OFlags::NOFOLLOW)
    }

    /// Opens a root, through symbolic links.
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
        extra: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC | extra;
        if self.noatime.load(Ordering::Relaxed) {
            match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
                Err(Errno::PERM) => self.noatime.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        openat(parent, name, flags, Mode::empty())
    }

    /// Stats `name` in `parent`. With `AtFlags::empty()` this follows symbolic links and triggers
    /// automounts.
    ///
    /// # Errors
    /// As statx(2).
    pub fn stat(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        flags: AtFlags,
        fields: StatxFlags,
    ) -> Result<Statx, Errno> {
        if self.dont_sync.load(Ordering::Relaxed) {
            match statx(parent, name, flags | AtFlags::STATX_DONT_SYNC, fields) {
                Err(Errno::INVAL) => self.dont_sync.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        statx(parent, name, flags, fields)
    }
}
