//! Where new files wait until all of them are complete: beside what is remembered, where nobody
//! else looks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use published_tree::dir::Dir;
use published_tree::dir::Metadata;
use published_tree::records;
use published_tree::volume::{Volume, remove};
use rustix::fs::{Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::claims::{self, FILES, FixedModes};
use crate::archive::retire::is_leftover;
use crate::state::State;
use crate::state::lock::Lock;

/// What the names of directories begin with that files wait in.
const NEXT: &str = "next-";
/// The tree of new files.
const TREE: &str = "tree";
/// What stood where they go, where they cannot be exchanged.
const OLD: &str = "old";
/// A file that is made to see what becomes of its mode.
const TRIED: &str = "tried";

/// A place for new files.
pub struct Staging {
    /// The directory of claims.
    pub claims: Dir,
    /// The new files.
    pub tree: Dir,
    dir: Dir,
    name: String,
}

impl Staging {
    /// Makes one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(volume: &Volume, tag: &str) -> Result<Self> {
        let claims = records::create_dir(State::make(volume)?.dir(), FILES)?;
        let name = format!("{NEXT}{tag}");
        let dir = make_directory(&claims, &name)?;
        let tree = make_directory(&dir, TREE)?;
        Ok(Self { claims, tree, dir, name })
    }

    /// The modes that the volume gives, if it keeps none that are asked for.
    ///
    /// # Errors
    /// That cannot be tried.
    pub fn fixed_modes(&self) -> Result<Option<FixedModes>> {
        let failure = |operation: &str, errno| self.dir.error(operation, TRIED.as_bytes(), errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.dir, TRIED, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failure("create", errno))?;
        let mut found = 0;
        let mut are_kept = true;
        for mode in [0o640, 0o604] {
            match fchmod(&file, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {}
                Err(errno) => return Err(failure("set the mode of", errno)),
            }
            found = Metadata::at(&file, c"").map_err(|errno| failure("stat", errno))?.mode;
            are_kept &= u32::from(found) == mode;
        }
        let directory = Metadata::at(&self.tree, c"")
            .map_err(|errno| self.tree.error("stat", b"", errno))?
            .mode;
        Ok((!are_kept).then_some(FixedModes { file: found, directory }))
    }

    /// Puts what waits at `name` in an open directory of the tree in its place, which is empty or
    /// a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn put(&self, name: &[u8], from: &Dir, to: &Dir) -> Result<()> {
        let name = OsStr::from_bytes(name);
        renameat(from, name, to, name).map_err(|errno| to.error("replace", name.as_bytes(), errno))
    }

    /// [`put`](Self::put) where something stands of another kind, which waits to be removed then.
    /// Where names cannot be exchanged, there is nothing for a moment.
    ///
    /// # Errors
    /// It is not there.
    pub fn put_instead(&self, name: &[u8], from: &Dir, to: &Dir) -> Result<()> {
        let at = OsStr::from_bytes(name);
        let failure = |errno| to.error("replace", name, errno);
        match renameat_with(from, at, to, at, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            // It is gone meanwhile.
            Err(Errno::NOENT) => return self.put(name, from, to),
            exchanged => return exchanged.map_err(failure),
        }
        remove(&self.dir, OLD.as_bytes())?;
        renameat(to, at, &self.dir, OLD).map_err(failure)?;
        renameat(from, at, to, at).map_err(|errno| {
            // What was there is better than nothing.
            let _ = renameat(&self.dir, OLD, to, at);
            failure(errno)
        })
    }

    /// Removes what is not needed any more.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> Result<()> {
        remove(&self.claims, self.name.as_bytes())
    }
}

/// Removes what runs that were killed have left.
///
/// # Errors
/// It cannot be looked for, or removed.
pub fn clean(volume: &Volume, lock: &Lock) -> Result<()> {
    let Some(claims) = claims::find(volume)? else { return Ok(()) };
    for name in all(&claims)? {
        if is_leftover(&claims, &name, lock) {
            remove(&claims, name.as_bytes())?;
        }
    }
    Ok(())
}

/// The names of all places for new files.
///
/// # Errors
/// They cannot be looked for.
pub fn all(claims: &Dir) -> Result<Vec<String>> {
    let listed = claims.names()?;
    let names = listed.iter().filter_map(|name| name.to_str().ok());
    Ok(names.filter(|name| name.starts_with(NEXT)).map(str::to_owned).collect())
}

/// Gives up what remembers a volume of plain files.
///
/// # Errors
/// It cannot be removed.
pub fn forget(volume: &Volume) -> Result<()> {
    let Some(state) = State::find(volume)? else { return Ok(()) };
    remove(state.dir(), FILES.as_bytes())?;
    claims::sync(state.dir())
}

fn make_directory(dir: &Dir, name: &str) -> Result<Dir> {
    let made = mkdirat(dir, name, Mode::RWXU);
    made.map_err(|errno| dir.error("create", name.as_bytes(), errno))?;
    dir.open_dir(name.as_bytes())
}
