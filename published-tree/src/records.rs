//! Replaces small state files atomically and durably: a crash leaves the old or the new content.
//!
//! 1. Write the content to a new file `next-...`, and sync it.
//! 2. Rename it to the name of the state file, and sync the directory.
//!
//! State directories are closed to other users. Nothing here follows a link or blocks on a FIFO.

use std::fs::File;

use anyhow::Result;
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::dir::{Dir, open_noatime, unique_suffix};

/// Prefix of files that are not complete yet.
const NEXT: &str = "next-";

/// Opens the directory `name` below `dir`; `None` if it does not exist.
///
/// # Errors
/// Fails if it exists and cannot be opened.
pub fn find_dir(dir: &Dir, name: &str) -> Result<Option<Dir>> {
    match dir.open_fd(name.as_bytes()) {
        Ok(fd) => Ok(Some(dir.with_fd(fd, name.as_bytes()))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(dir.error("open", name.as_bytes(), errno)),
    }
}

/// Opens the directory `name` below `dir`. Creates it, closed to other users, if it does not exist.
///
/// # Errors
/// Fails if it cannot be created or opened.
pub fn create_dir(dir: &Dir, name: &str) -> Result<Dir> {
    let error = |operation: &str, errno| dir.error(operation, name.as_bytes(), errno);
    match mkdirat(dir, name, Mode::RWXU) {
        Ok(()) => fsync(dir).map_err(|errno| error("sync", errno))?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(error("create", errno)),
    }
    dir.open_dir(name.as_bytes())
}

/// Opens a file; `None` if it does not exist. Never blocks, not even on a FIFO.
///
/// # Errors
/// Fails if it exists and cannot be opened.
pub fn open(dir: &Dir, name: &str) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open_noatime(dir, name, flags) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(dir.error("open", name.as_bytes(), errno)),
    }
}

/// Replaces a file by the content that `write` writes. The content is on the disk before the file
/// gets its name.
///
/// # Errors
/// The old file is unchanged, except when the last sync fails: then the new file may not survive a
/// crash.
pub fn replace<T>(dir: &Dir, name: &str, write: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let next = format!("{NEXT}{}", unique_suffix());
    let error = |operation: &str, errno| dir.error(operation, name.as_bytes(), errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let created = openat(dir, &next, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(created.map_err(|errno| error("create", errno))?);
    let written = write(&mut file).and_then(|done| {
        fsync(&file).map_err(|errno| error("sync", errno))?;
        renameat(dir, &next, dir, name).map_err(|errno| error("replace", errno))?;
        Ok(done)
    });
    if written.is_err() {
        // If this fails too, a later run removes the file.
        let _ = unlinkat(dir, &next, AtFlags::empty());
    }
    let done = written?;
    fsync(dir).map_err(|errno| error("sync", errno))?;
    Ok(done)
}

/// Removes a file, if it exists.
///
/// # Errors
/// Fails if it cannot be removed, or the removal not synced.
pub fn remove(dir: &Dir, name: &str) -> Result<()> {
    let error = |operation: &str, errno| dir.error(operation, name.as_bytes(), errno);
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => fsync(dir).map_err(|errno| error("sync", errno)),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(error("remove", errno)),
    }
}

/// Removes the incomplete files that killed runs left behind.
///
/// # Errors
/// Fails if the directory cannot be read or a file not removed.
pub fn remove_incomplete(dir: &Dir) -> Result<()> {
    for name in dir.names()?.iter().filter_map(|name| name.to_str().ok()) {
        if name.starts_with(NEXT) {
            remove(dir, name)?;
        }
    }
    Ok(())
}
