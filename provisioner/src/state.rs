//! What is remembered on a volume, in a directory that nobody else may look into:
//!
//! ```text
//! ..provisioner/pinned               the version that is to stay (see `pin`)
//! ..provisioner/history              what was published when (see `history`)
//! ..provisioner/untold-...           what is still to be told (see `then`)
//! ..provisioner/versions/5f0c...     earlier versions, packed (see `archive`)
//! ..provisioner/files/               what is ours among plain files (see `files`)
//! ```
//!
//! No name here ends with what directory walkers look for. A file is replaced as a whole, and
//! durably. None of them decides whether a tree can go live.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use anyhow::{Result, bail};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::place::{Place, open_unseen};
use crate::publish::tag;
use crate::tree::scan::names;
use crate::volume::Volume;

/// The directory on the volume.
pub const STATE: &str = "..provisioner";
/// What the names of files begin with that are not complete.
const NEXT: &str = "next-";
/// Longest file that is read at once, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The directory of what is remembered.
pub struct State(Place);

impl State {
    /// What is remembered on a volume; `None` as long as that is nothing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn find(volume: &Volume) -> Result<Option<Self>> {
        Ok(find(volume.place(), STATE)?.map(Self))
    }

    /// [`find`](Self::find), or the beginning of it.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn make(volume: &Volume) -> Result<Self> {
        Ok(Self(make(volume.place(), STATE)?))
    }

    /// Its directory.
    pub fn place(&self) -> &Place {
        &self.0
    }

    /// What a file holds; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is too large to be ours.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = open(&self.0, name)? else { return Ok(None) };
        let mut content = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut content);
        read.map_err(|error| {
            self.0.failure(
                "read",
                name.as_bytes(),
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )
        })?;
        if content.len() as u64 > MAX_FILE {
            bail!("`{}` is too large", self.0.shown(name.as_bytes()).display());
        }
        Ok(Some(content))
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// It is as it was, or not on the disk.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        replace(&self.0, name, |file| {
            let written = file.write_all(content);
            written.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.0.failure("write", name.as_bytes(), errno)
            })
        })
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove(&self.0, name)
    }
}

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
