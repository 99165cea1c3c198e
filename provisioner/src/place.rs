//! A directory that is open, and everything below it reached through its descriptor: no name is
//! looked up twice, and no symbolic link is followed.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::yield_now;

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::full;

/// How often a path is followed while others rename.
const TRIES: usize = 10_000;

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
        full::mark(io_failure(operation, self.shown(path), &errno.into()), errno)
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

/// Opens what a path leads to that does not leave the directory, whatever links it goes through.
///
/// # Errors
/// Those of the system; it leaves the directory (`EXDEV`).
pub fn open_beneath(fd: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        let path = OsStr::from_bytes(path);
        match openat2(&fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // openat2(2): a rename or mount anywhere came between, so that nobody knows where a
            // `..` has led.
            Err(Errno::AGAIN) => yield_now(),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// A part of names that nobody else has.
pub fn tag() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::scope;

    use super::*;

    #[test]
    fn others_that_rename_do_not_keep_a_path_from_being_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree/a")).unwrap();
        fs::create_dir(dir.path().join("one")).unwrap();
        let place = Place::open(&dir.path().join("tree")).unwrap();
        let is_over = AtomicBool::new(false);
        scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(dir.path().join("one"), dir.path().join("two")).unwrap();
                    fs::rename(dir.path().join("two"), dir.path().join("one")).unwrap();
                }
            });
            let opened: Vec<_> = (0..20_000)
                .map(|_| open_beneath(&place, b"a/../a/../a", OFlags::PATH).map(drop))
                .collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(opened.iter().all(Result::is_ok));
        });
        let outside = open_beneath(&place, b"../one", OFlags::PATH);
        assert_eq!(outside.err(), Some(Errno::XDEV));
    }
}
