//! Directories that are asked for, by paths of any length and through symbolic links.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, openat};
use rustix::io::Errno;

use super::access::Access;
use super::hand::DIRECTORY_FIELDS;

/// Longest part of a path that is looked up in one system call, in bytes.
const MAX_LOOKUP: usize = 2048;

/// What a path that is asked for turned out to be.
pub enum Root {
    /// A directory, its owner, and where to start walking.
    Directory(u32, Box<Start>),
    /// No directory, or not there.
    NotADirectory,
}

/// A directory that a walk can start from.
pub struct Start {
    parent: Option<OwnedFd>,
    /// What it is called in its parent.
    name: CString,
    /// The path as given.
    pub path: CString,
}

impl Root {
    /// Looks at a path, following symbolic links.
    ///
    /// # Errors
    /// It exists but cannot be looked at: ``failed to stat `PATH`: ...``.
    pub fn look(access: &Access, path: &Path) -> Result<Self> {
        match Start::find(access, path) {
            Ok((start, status)) if is_directory(&status) => {
                Ok(Self::Directory(status.stx_uid, Box::new(start)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Self::NotADirectory),
            Err(error) => Err(io_failure("stat", path, &io::Error::from(error))),
        }
    }
}

impl Start {
    fn find(access: &Access, path: &Path) -> Result<(Self, Statx), Errno> {
        let whole = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let (parent, name) = approach(path)?;
        let start = Self { parent, name, path: whole };
        // What is asked for by name is meant, even if it must be mounted first.
        let status = access.look(start.base(), &start.name, AtFlags::empty(), DIRECTORY_FIELDS)?;
        Ok((start, status))
    }

    fn base(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(CWD, AsFd::as_fd)
    }

    /// Opens it and looks at what was opened.
    ///
    /// # Errors
    /// As openat(2) and statx(2).
    pub fn open(&self, access: &Access) -> Result<(OwnedFd, Statx), Errno> {
        let fd = access.open_root(self.base(), &self.name)?;
        let status = access.look(fd.as_fd(), c"", AtFlags::EMPTY_PATH, DIRECTORY_FIELDS)?;
        Ok((fd, status))
    }
}

/// Opens what is above the last part of a path that is too long for one system call.
fn approach(path: &Path) -> Result<(Option<OwnedFd>, CString), Errno> {
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
    // Nothing but slashes after the cut: the directory itself.
    let name = if rest.is_empty() && parent.is_some() { b"." } else { rest };
    Ok((parent, CString::new(name).map_err(|_| Errno::INVAL)?))
}

/// Whether what was looked at is a directory.
pub fn is_directory(status: &Statx) -> bool {
    FileType::from_raw_mode(status.stx_mode.into()).is_dir()
}
