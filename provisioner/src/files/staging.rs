//! The directory where new files wait until all of them are complete. It is beside the claims, where
//! readers do not look.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use published_tree::dir::{Dir, Metadata};
use published_tree::records;
use published_tree::volume::{Volume, remove};
use rustix::fs::{Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::claims::{self, FILES, FixedModes};
use crate::archive::leftovers::is_leftover;
use crate::state::State;
use crate::state::lock::Lock;

/// Prefix of staging directories.
const NEXT: &str = "next-";
/// The tree of new files within a staging directory.
const TREE: &str = "tree";
/// An entry that a new one replaces, where the file system cannot exchange them.
const OLD: &str = "old";
/// A file whose mode is set to see whether the volume keeps it.
const MODE_TEST: &str = "tried";

/// A staging directory.
pub struct Staging {
    /// The directory of claims, which holds it.
    pub claims: Dir,
    /// The tree of new files.
    pub tree: Dir,
    dir: Dir,
    name: String,
}

impl Staging {
    /// Creates the staging directory of one publication.
    ///
    /// # Errors
    /// Fails if it exists or cannot be created.
    pub fn create(volume: &Volume, suffix: &str) -> Result<Self> {
        let claims = records::create_dir(State::find_or_create(volume)?.dir(), FILES)?;
        let name = format!("{NEXT}{suffix}");
        let dir = create_dir(&claims, &name)?;
        let tree = create_dir(&dir, TREE)?;
        Ok(Self { claims, tree, dir, name })
    }

    /// The modes that the volume gives to every entry; `None` if it keeps the modes that are set.
    ///
    /// # Errors
    /// Fails if the test file cannot be created, changed or read.
    pub fn fixed_modes(&self) -> Result<Option<FixedModes>> {
        let error = |operation: &str, errno| self.dir.error(operation, MODE_TEST.as_bytes(), errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.dir, MODE_TEST, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| error("create", errno))?;
        let mut found = 0;
        let mut are_kept = true;
        for mode in [0o640, 0o604] {
            match fchmod(&file, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {}
                Err(errno) => return Err(error("set the mode of", errno)),
            }
            found = Metadata::at(&file, c"").map_err(|errno| error("stat", errno))?.mode;
            are_kept &= u32::from(found) == mode;
        }
        let directory = Metadata::at(&self.tree, c"")
            .map_err(|errno| self.tree.error("stat", b"", errno))?
            .mode;
        Ok((!are_kept).then_some(FixedModes { file: found, directory }))
    }

    /// Moves the staged entry `name` from a directory of the staged tree to the same directory of the
    /// volume. It replaces a file or a link there.
    ///
    /// # Errors
    /// Fails if the entry cannot be renamed.
    pub fn put(&self, name: &[u8], from: &Dir, to: &Dir) -> Result<()> {
        let name = OsStr::from_bytes(name);
        renameat(from, name, to, name).map_err(|errno| to.error("replace", name.as_bytes(), errno))
    }

    /// Moves as [`put`](Self::put) does, where a directory replaces another type of entry, or the
    /// reverse. The old entry stays in the staging directory. Where the file system cannot exchange
    /// names, the name is missing for a moment.
    ///
    /// # Errors
    /// Fails if an entry cannot be renamed. The old one is put back, if possible.
    pub fn exchange(&self, name: &[u8], from: &Dir, to: &Dir) -> Result<()> {
        let at = OsStr::from_bytes(name);
        let error = |errno| to.error("replace", name, errno);
        match renameat_with(from, at, to, at, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            // Another program has removed the old entry.
            Err(Errno::NOENT) => return self.put(name, from, to),
            exchanged => return exchanged.map_err(error),
        }
        remove(&self.dir, OLD.as_bytes())?;
        renameat(to, at, &self.dir, OLD).map_err(error)?;
        renameat(from, at, to, at).map_err(|errno| {
            let _ = renameat(&self.dir, OLD, to, at);
            error(errno)
        })
    }

    /// Removes the staging directory.
    ///
    /// # Errors
    /// Fails if something in it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        remove(&self.claims, self.name.as_bytes())
    }
}

/// Removes the staging directories of runs that were killed.
///
/// # Errors
/// Fails if the directory of claims cannot be read, or a staging directory not removed.
pub fn remove_leftovers(volume: &Volume, lock: &Lock) -> Result<()> {
    let Some(claims) = claims::find_dir(volume)? else { return Ok(()) };
    for name in names(&claims)? {
        if is_leftover(&claims, &name, lock) {
            remove(&claims, name.as_bytes())?;
        }
    }
    Ok(())
}

/// The names of all staging directories in the directory of claims.
///
/// # Errors
/// Fails if the directory cannot be read.
pub fn names(claims: &Dir) -> Result<Vec<String>> {
    let listed = claims.names()?;
    let names = listed.iter().filter_map(|name| name.to_str().ok());
    Ok(names.filter(|name| name.starts_with(NEXT)).map(str::to_owned).collect())
}

fn create_dir(dir: &Dir, name: &str) -> Result<Dir> {
    let created = mkdirat(dir, name, Mode::RWXU);
    created.map_err(|errno| dir.error("create", name.as_bytes(), errno))?;
    dir.open_dir(name.as_bytes())
}
