//! Small files that are replaced as a whole, and durably, and the directories of them.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::place::{Place, open_unseen, tag};
use crate::tree::scan::names;

/// What the names of files begin with that are not complete.
const NEXT: &str = "next-";

/// A directory below `place`, if it is there.
///
/// # Errors
/// It cannot be opened.
pub fn find(place: &Place, name: &str) -> Result<Option<Place>> {
    match place.directory(name.as_bytes()) {
        Ok(_) => place.below(name.as_bytes()).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(place.failure("open", name.as_bytes(), errno)),
    }
}

/// A directory below `place` that nobody else may look into, made if it is not there.
///
/// # Errors
/// It cannot be made or opened.
pub fn make(place: &Place, name: &str) -> Result<Place> {
    let failure = |operation: &str, errno| place.failure(operation, name.as_bytes(), errno);
    match mkdirat(place, name, Mode::RWXU) {
        Ok(()) => fsync(place).map_err(|errno| failure("sync", errno))?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failure("create", errno)),
    }
    place.below(name.as_bytes())
}

/// Opens a file, if it is there.
///
/// # Errors
/// It cannot be opened.
pub fn open(place: &Place, name: &str) -> Result<Option<File>> {
    // Whatever stands there: nobody is waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open_unseen(place, name, flags) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(place.failure("open", name.as_bytes(), errno)),
    }
}

/// Replaces a file by what `write` writes. It is on the disk before it gets its name.
///
/// # Errors
/// It is as it was, or its name is not on the disk.
pub fn replace<T>(
    place: &Place,
    name: &str,
    write: impl FnOnce(&mut File) -> Result<T>,
) -> Result<T> {
    let next = format!("{NEXT}{}", tag());
    let failure = |operation: &str, errno| place.failure(operation, name.as_bytes(), errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let created = openat(place, &next, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(created.map_err(|errno| failure("create", errno))?);
    let written = write(&mut file).and_then(|done| {
        fsync(&file).map_err(|errno| failure("sync", errno))?;
        renameat(place, &next, place, name).map_err(|errno| failure("replace", errno))?;
        Ok(done)
    });
    if written.is_err() {
        // It would be removed by the next run.
        let _ = unlinkat(place, &next, AtFlags::empty());
    }
    let done = written?;
    fsync(place).map_err(|errno| failure("sync", errno))?;
    Ok(done)
}

/// Removes a file, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(place: &Place, name: &str) -> Result<()> {
    let failure = |operation: &str, errno| place.failure(operation, name.as_bytes(), errno);
    match unlinkat(place, name, AtFlags::empty()) {
        Ok(()) => fsync(place).map_err(|errno| failure("sync", errno)),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failure("remove", errno)),
    }
}

/// Removes files that runs have begun which were killed.
///
/// # Errors
/// The directory cannot be read, or one cannot be removed.
pub fn remove_unfinished(place: &Place) -> Result<()> {
    for name in entries(place)?.iter().filter_map(|name| name.to_str().ok()) {
        if name.starts_with(NEXT) {
            remove(place, name)?;
        }
    }
    Ok(())
}

/// The names in a directory.
///
/// # Errors
/// It cannot be read.
pub fn entries(place: &Place) -> Result<Vec<Box<CStr>>> {
    let listed = place.directory(b"").and_then(|fd| names(fd.as_fd()));
    listed.map_err(|errno| place.failure("read", b"", errno))
}
