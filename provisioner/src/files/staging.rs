//! Where new files wait until all of them are complete: beside what is remembered, where nobody
//! else looks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use rustix::fs::{Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::claims::{self, FILES, FixedModes};
use crate::lock::Lock;
use crate::place::Place;
use crate::records::{self, entries};
use crate::state::State;
use crate::superseded::is_left;
use crate::tree::scan::mode_of;
use crate::volume::{Volume, remove};

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
    pub claims: Place,
    /// The new files.
    pub tree: Place,
    place: Place,
    name: String,
}

impl Staging {
    /// Makes one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(volume: &Volume, tag: &str) -> Result<Self> {
        let claims = records::make(State::make(volume)?.place(), FILES)?;
        let name = format!("{NEXT}{tag}");
        let place = make_directory(&claims, &name)?;
        let tree = make_directory(&place, TREE)?;
        Ok(Self { claims, tree, place, name })
    }

    /// The modes that the volume gives, if it keeps none that are asked for.
    ///
    /// # Errors
    /// That cannot be tried.
    pub fn fixed_modes(&self) -> Result<Option<FixedModes>> {
        let failure =
            |operation: &str, errno| self.place.failure(operation, TRIED.as_bytes(), errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.place, TRIED, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failure("create", errno))?;
        let mut found = 0;
        let mut are_kept = true;
        for mode in [0o640, 0o604] {
            match fchmod(&file, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {}
                Err(errno) => return Err(failure("set the mode of", errno)),
            }
            found = mode_of(&file, c"").map_err(|errno| failure("stat", errno))?.1;
            are_kept &= u32::from(found) == mode;
        }
        let (_, directory, _) =
            mode_of(&self.tree, c"").map_err(|errno| self.tree.failure("stat", b"", errno))?;
        Ok((!are_kept).then_some(FixedModes { file: found, directory }))
    }

    /// Puts what waits at `name` in an open directory of the tree in its place, which is empty or
    /// a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn put(&self, name: &[u8], from: &Place, to: &Place) -> Result<()> {
        let name = OsStr::from_bytes(name);
        renameat(from, name, to, name)
            .map_err(|errno| to.failure("replace", name.as_bytes(), errno))
    }

    /// [`put`](Self::put) where something stands of another kind, which waits to be removed then.
    /// Where names cannot be exchanged, there is nothing for a moment.
    ///
    /// # Errors
    /// It is not there.
    pub fn put_instead(&self, name: &[u8], from: &Place, to: &Place) -> Result<()> {
        let at = OsStr::from_bytes(name);
        let failure = |errno| to.failure("replace", name, errno);
        match renameat_with(from, at, to, at, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            // It is gone meanwhile.
            Err(Errno::NOENT) => return self.put(name, from, to),
            exchanged => return exchanged.map_err(failure),
        }
        remove(&self.place, OLD.as_bytes())?;
        renameat(to, at, &self.place, OLD).map_err(failure)?;
        renameat(from, at, to, at).map_err(|errno| {
            // What was there is better than nothing.
            let _ = renameat(&self.place, OLD, to, at);
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
        if is_left(&claims, &name, lock) {
            remove(&claims, name.as_bytes())?;
        }
    }
    Ok(())
}

/// The names of all places for new files.
///
/// # Errors
/// They cannot be looked for.
pub fn all(claims: &Place) -> Result<Vec<String>> {
    let listed = entries(claims)?;
    let names = listed.iter().filter_map(|name| name.to_str().ok());
    Ok(names.filter(|name| name.starts_with(NEXT)).map(str::to_owned).collect())
}

/// Gives up what remembers a volume of plain files.
///
/// # Errors
/// It cannot be removed.
pub fn forget(volume: &Volume) -> Result<()> {
    let Some(state) = State::find(volume)? else { return Ok(()) };
    remove(state.place(), FILES.as_bytes())?;
    claims::sync(state.place())
}

fn make_directory(place: &Place, name: &str) -> Result<Place> {
    let made = mkdirat(place, name, Mode::RWXU);
    made.map_err(|errno| place.failure("create", name.as_bytes(), errno))?;
    place.below(name.as_bytes())
}
