//! Obstacles: reasons on the volume why a tree of plain files cannot be published.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use published_tree::dir::names;
use published_tree::tree::join;
use published_tree::volume::Volume;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::claims::Claims;
use super::entry;

/// All obstacles of a publication, each with its path.
#[derive(Default)]
pub struct Obstacles(Vec<String>);

impl Obstacles {
    /// Adds the `reason` that `path` cannot be published to.
    pub fn add(&mut self, path: &[u8], reason: &str) {
        self.0.push(format!("`{}` {reason}", one_line(path)));
    }

    /// Checks that there is no obstacle.
    ///
    /// # Errors
    /// Names all obstacles.
    pub fn check(&self, volume: &Volume) -> Result<()> {
        if !self.0.is_empty() {
            let (shown, obstacles) = (volume.dir().display_path(b""), self.0.join(", "));
            bail!("`{}` cannot be published to: {obstacles}", shown.display());
        }
        Ok(())
    }
}

/// The path of an entry below a directory that is not claimed; `None` if all are.
///
/// # Errors
/// Returns the system's error.
pub fn find_unclaimed(
    directory: &OwnedFd,
    path: &[u8],
    claims: &Claims,
) -> Result<Option<Vec<u8>>, Errno> {
    for name in names(directory.as_fd())? {
        let name = name.to_bytes();
        let path = join(path, name);
        if !claims.covers(directory, name, &path)? {
            return Ok(Some(path));
        }
        let found = entry::metadata(directory, name)?;
        if found.is_some_and(|found| found.kind == FileType::Directory) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(directory, OsStr::from_bytes(name), flags, Mode::empty())?;
            if let Some(path) = find_unclaimed(&below, &path, claims)? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Whether an existing entry has another name than `name`, because the file system ignores case or
/// Unicode forms.
///
/// # Errors
/// Returns the system's error.
pub fn has_other_spelling(directory: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    Ok(!names(directory.as_fd())?.iter().any(|listed| listed.to_bytes() == name))
}

/// Whether a directory is on another mount than the root of the volume: rename(2) cannot move entries
/// there.
pub fn is_on_other_mount(volume: impl AsFd, path: &[u8]) -> bool {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat2(volume, OsStr::from_bytes(path), flags, Mode::empty(), resolve);
    opened.is_err_and(|errno| errno == Errno::XDEV)
}
