//! A directory that is open, and everything below it reached through its descriptor: no name is
//! looked up twice, and no symbolic link is followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::space;

/// A directory, and what messages call it.
pub struct Place {
    fd: OwnedFd,
    shown: PathBuf,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Place {
    /// Opens the directory that a person named, through links if there are any.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        match open_unseen(CWD, path, flags) {
            Ok(fd) => Ok(Self { fd, shown: path.to_owned() }),
            Err(errno) => Err(io_failure("open", path, &errno.into())),
        }
    }

    /// The directory `path` below this one.
    ///
    /// # Errors
    /// As [`open`](Self::open), or it is reached through a link.
    pub fn below(&self, path: &[u8]) -> Result<Self> {
        let fd = self.directory(path).map_err(|errno| self.failure("open", path, errno))?;
        Ok(self.at(fd, path))
    }

    /// The directory `path` below this one, which is open already.
    pub fn at(&self, fd: OwnedFd, path: &[u8]) -> Self {
        Self { fd, shown: self.shown(path) }
    }

    /// Opens the directory `path` below this one, which itself has an empty path.
    ///
    /// # Errors
    /// Those of the system.
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let first = names.next().map_or(OsStr::new("."), OsStr::from_bytes);
        let mut fd = open_unseen(&self.fd, first, DIRECTORY)?;
        for name in names {
            fd = open_unseen(&fd, OsStr::from_bytes(name), DIRECTORY)?;
        }
        Ok(fd)
    }

    /// What messages call `path` below it.
    pub fn shown(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.shown.clone();
        }
        self.shown.join(OsStr::from_bytes(path))
    }

    /// The error for an operation on `path` below it.
    pub fn failure(&self, operation: &str, path: &[u8], errno: Errno) -> anyhow::Error {
        space::mark(io_failure(operation, self.shown(path), &errno.into()), errno)
    }

    /// The error if the link `path` below it cannot be made.
    pub fn link_failure(&self, path: &[u8], errno: Errno) -> anyhow::Error {
        let failure = self.failure("create the link", path, errno);
        match errno {
            // symlink(2): so do file systems without them answer.
            Errno::PERM | Errno::NOTSUP | Errno::NOSYS => {
                failure.context("the volume takes no symbolic links")
            }
            _ => failure,
        }
    }
}

/// Opens for reading, without a trace in its time of access if that is allowed.
///
/// # Errors
/// Those of the system.
pub fn open_unseen(fd: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(&fd, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only for the owner of the file.
        Err(Errno::PERM) => openat(&fd, path, flags, Mode::empty()),
        opened => opened,
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
