//! Stats and opens the root of a walk: a path that the user named. It may be longer than `PATH_MAX`, and
//! its symbolic links are followed.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, openat};
use rustix::io::Errno;

use super::syscalls::Syscalls;
use super::worker::DIRECTORY_FIELDS;

/// The longest path to pass to one system call, in bytes.
const MAX_LOOKUP: usize = 2048;

/// What a path that the user named refers to.
pub enum Root {
    /// A directory.
    Directory {
        /// Its owner.
        uid: u32,
        /// Where to start walking.
        dir: Box<RootDir>,
    },
    /// Something else, or nothing.
    NotADirectory,
}

/// A directory that a walk can start from.
pub struct RootDir {
    /// The directory that `name` is relative to; `None` for the working directory.
    parent: Option<OwnedFd>,
    name: CString,
    /// The path as given.
    pub path: CString,
}

impl Root {
    /// Stats a path; follows symbolic links.
    ///
    /// # Errors
    /// Fails if the path exists but its attributes cannot be read: ``failed to stat `PATH`: ...``.
    pub fn stat(syscalls: &Syscalls, path: &Path) -> Result<Self> {
        match RootDir::stat(syscalls, path) {
            Ok((dir, status)) if is_directory(&status) => {
                Ok(Self::Directory { uid: status.stx_uid, dir: Box::new(dir) })
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Self::NotADirectory),
            Err(error) => Err(io_failure("stat", path, &io::Error::from(error))),
        }
    }
}

impl RootDir {
    fn stat(syscalls: &Syscalls, path: &Path) -> Result<(Self, Statx), Errno> {
        let whole = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let (parent, name) = open_long_parent(path)?;
        let root = Self { parent, name, path: whole };
        // A path that was named is mounted first if it is an automount.
        let status = syscalls.stat(root.base(), &root.name, AtFlags::empty(), DIRECTORY_FIELDS)?;
        Ok((root, status))
    }

    fn base(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(CWD, AsFd::as_fd)
    }

    /// Opens the directory, and stats the open descriptor.
    ///
    /// # Errors
    /// As openat(2) and statx(2).
    pub fn open(&self, syscalls: &Syscalls) -> Result<(OwnedFd, Statx), Errno> {
        let fd = syscalls.open_root(self.base(), &self.name)?;
        let status = syscalls.stat(fd.as_fd(), c"", AtFlags::EMPTY_PATH, DIRECTORY_FIELDS)?;
        Ok((fd, status))
    }
}

/// Opens the first part of a path that is too long for one system call; returns the rest of it.
fn open_long_parent(path: &Path) -> Result<(Option<OwnedFd>, CString), Errno> {
    let mut rest = path.as_os_str().as_bytes();
    let mut parent: Option<OwnedFd> = None;
    while rest.len() > MAX_LOOKUP {
        let cut = rest[..MAX_LOOKUP].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let part = OsStr::from_bytes(&rest[..=cut]);
        let base = parent.as_ref().map_or(CWD, AsFd::as_fd);
        let next = openat(base, part, flags, Mode::empty())?;
        parent = Some(next);
        let after = &rest[cut + 1..];
        let slashes = after.iter().position(|&b| b != b'/').unwrap_or(after.len());
        rest = &after[slashes..];
    }
    // Only slashes follow the cut: the directory itself is meant.
    let name = if rest.is_empty() && parent.is_some() { b"." } else { rest };
    Ok((parent, CString::new(name).map_err(|_| Errno::INVAL)?))
}

/// Whether the attributes are those of a directory.
pub fn is_directory(status: &Statx) -> bool {
    FileType::from_raw_mode(status.stx_mode.into()).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_a_path_that_is_too_long_is_opened_in_parts() {
        let place = tempfile::tempdir().unwrap();
        let (parent, name) = open_long_parent(Path::new("a/b")).unwrap();
        assert!(parent.is_none() && name.as_bytes() == b"a/b");

        let long =
            [place.path().as_os_str().as_bytes(), &b"/.".repeat(MAX_LOOKUP), b"//x"].concat();
        let (parent, name) = open_long_parent(Path::new(OsStr::from_bytes(&long))).unwrap();
        let opened = File::from(parent.unwrap()).metadata().unwrap();
        assert_eq!(opened.ino(), place.path().metadata().unwrap().ino());
        assert!(name.as_bytes().ends_with(b"x") && name.as_bytes().len() <= MAX_LOOKUP);
    }

    #[test]
    fn a_long_path_that_ends_in_slashes_means_the_directory_before_them() {
        let long = [b"/tmp".to_vec(), b"/".repeat(2 * MAX_LOOKUP)].concat();
        let (parent, name) = open_long_parent(Path::new(OsStr::from_bytes(&long))).unwrap();
        assert!(parent.is_some() && name.as_bytes() == b".");
    }

    #[test]
    fn a_name_that_is_longer_than_one_lookup_is_refused() {
        let long = vec![b'x'; MAX_LOOKUP + 1];
        let outcome = open_long_parent(Path::new(OsStr::from_bytes(&long)));
        assert_eq!(outcome.unwrap_err(), Errno::NAMETOOLONG);
    }
}
