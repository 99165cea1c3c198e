//! An open directory. Everything below it is reached through its file descriptor, one name at a
//! time, so that no symbolic link is followed and no path is resolved twice.

use std::ffi::{CStr, OsStr};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::yield_now;

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::disk_full;

/// How often a path is resolved again when renames elsewhere interrupt it.
const MAX_ATTEMPTS: usize = 10_000;

/// An open directory, with the path that messages show for it.
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory that the user named. Symbolic links in `path` are followed.
    ///
    /// # Errors
    /// Fails if it does not exist or is not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        match open_noatime(CWD, path, flags) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(errno) => Err(io_failure("open", path, &errno.into())),
        }
    }

    /// Opens the directory `path` below this one.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does, and if a component of `path` is a symbolic link.
    pub fn open_dir(&self, path: &[u8]) -> Result<Self> {
        let fd = self.open_fd(path).map_err(|errno| self.error("open", path, errno))?;
        Ok(self.with_fd(fd, path))
    }

    /// Wraps `fd`, the descriptor of the directory `path` below this one.
    pub fn with_fd(&self, fd: OwnedFd, path: &[u8]) -> Self {
        Self { fd, path: self.display_path(path) }
    }

    /// Opens the directory `path` below this one, or this one if `path` is empty.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn open_fd(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let first = names.next().map_or(OsStr::new("."), OsStr::from_bytes);
        let mut fd = open_noatime(&self.fd, first, DIRECTORY)?;
        for name in names {
            fd = open_noatime(&fd, OsStr::from_bytes(name), DIRECTORY)?;
        }
        Ok(fd)
    }

    /// The path that messages show for `path` below this directory.
    pub fn display_path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.path.clone();
        }
        self.path.join(OsStr::from_bytes(path))
    }

    /// The error for an `operation` on `path` below this directory. A full disk is marked
    /// ([`disk_full`]).
    pub fn error(&self, operation: &str, path: &[u8], errno: Errno) -> anyhow::Error {
        disk_full::mark(io_failure(operation, self.display_path(path), &errno.into()), errno)
    }

    /// The error for a symbolic link at `path` that cannot be created.
    pub fn link_error(&self, path: &[u8], errno: Errno) -> anyhow::Error {
        let error = self.error("create the link", path, errno);
        match errno {
            // symlink(2): the answers of file systems without symbolic links.
            Errno::PERM | Errno::NOTSUP | Errno::NOSYS => {
                error.context("the volume takes no symbolic links")
            }
            _ => error,
        }
    }

    /// The names in this directory, in byte order, without `.` and `..`.
    ///
    /// # Errors
    /// Fails if the directory cannot be read.
    pub fn names(&self) -> Result<Vec<Box<CStr>>> {
        let listed = self.open_fd(b"").and_then(|fd| names(fd.as_fd()));
        listed.map_err(|errno| self.error("read", b"", errno))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens for reading, and leaves the access time alone where that is permitted.
///
/// # Errors
/// Returns the system's error.
pub fn open_noatime(fd: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(&fd, path, flags | OFlags::NOATIME, Mode::empty()) {
        // open(2): O_NOATIME is for the file's owner only.
        Err(Errno::PERM) => openat(&fd, path, flags, Mode::empty()),
        opened => opened,
    }
}

/// Opens `path` below `fd`. Symbolic links are followed as long as they stay below `fd`.
///
/// # Errors
/// Returns the system's error, and `EXDEV` if `path` leads out of the directory.
pub fn open_beneath(fd: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_ATTEMPTS {
        let path = OsStr::from_bytes(path);
        match openat2(&fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // openat2(2): a rename or mount anywhere in the system raced with a `..`, so that the
            // kernel cannot tell where it led.
            Err(Errno::AGAIN) => yield_now(),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The names in a directory, in byte order, without `.` and `..`.
///
/// # Errors
/// Returns the system's error.
pub fn names(fd: BorrowedFd<'_>) -> Result<Vec<Box<CStr>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Type, permission bits and size of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File type.
    pub kind: FileType,
    /// Permission bits, with set-ID and sticky bits (`0o7777`).
    pub mode: u16,
    /// In bytes.
    pub size: u64,
}

impl Metadata {
    /// Of `name` in the directory `fd`, or of `fd` itself if the name is empty. Symbolic links are
    /// not followed, automounts not triggered.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn at(fd: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::SIZE;
        let stat = statx(fd, name, flags, wanted)?;
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        Ok(Self { kind, mode: stat.stx_mode & 0o7777, size: stat.stx_size })
    }
}

/// A random suffix for a temporary name that no other process chooses.
pub fn unique_suffix() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::scope;

    use super::*;

    #[test]
    fn renames_elsewhere_do_not_stop_path_resolution() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("tree/a")).unwrap();
        fs::create_dir(root.path().join("one")).unwrap();
        let dir = Dir::open(&root.path().join("tree")).unwrap();
        let is_over = AtomicBool::new(false);
        scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(root.path().join("one"), root.path().join("two")).unwrap();
                    fs::rename(root.path().join("two"), root.path().join("one")).unwrap();
                }
            });
            let opened: Vec<_> = (0..20_000)
                .map(|_| open_beneath(&dir, b"a/../a/../a", OFlags::PATH).map(drop))
                .collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(opened.iter().all(Result::is_ok));
        });
        let outside = open_beneath(&dir, b"../one", OFlags::PATH);
        assert_eq!(outside.err(), Some(Errno::XDEV));
    }
}
