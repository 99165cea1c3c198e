//! Undoes a failed publication, so that the version before it is live.
//!
//! If the new version is not live yet, it is removed with the links that were added for it. If it is:
//!
//! 1. Add the links of the old version's names.
//! 2. Move plain files back to their names.
//! 3. Make the old version live, and sync.
//! 4. Remove the links of names that only the new version has.
//! 5. Remove the manifest of the new version, so that no rollback returns to it. The next run removes
//!    the rest, after its readers have had the grace period.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Error, Result, bail};
use published_tree::dir::names;
use published_tree::tree::Tree;
use published_tree::volume::{LinkState, TREE, Volume};
use rustix::fs::{AtFlags, StatxFlags, renameat, statx, unlinkat};
use rustix::io::Errno;

use crate::atomic::links;
use crate::atomic::version::VersionName;
use crate::copy::space::Shortage;

/// What a publication has changed on the volume, or was about to.
pub struct Attempt<'a> {
    /// The new version.
    pub version: &'a VersionName,
    /// The trees that it was to hold; the error of a full disk says how much space they need.
    pub trees: &'a [&'a Tree],
    /// The version that was live before; `None` before the first publication.
    pub before: Option<&'a str>,
    /// Names for which links were added.
    pub added: &'a [Vec<u8>],
    /// Names of plain files that may have been moved away for links.
    pub replaced: &'a [Vec<u8>],
}

/// Undoes a publication that failed with `error`. Returns that error, with the missing space if the
/// disk is full, and with the live version if that is not the one before.
pub fn undo(volume: &Volume, attempt: &Attempt<'_>, error: Error) -> Error {
    let is_live =
        || volume.live_name().is_ok_and(|live| live.as_deref() == Some(&attempt.version.name[..]));
    if !is_live() {
        let shortage = Shortage::of(volume.dir(), &error);
        // The next run removes what remains.
        let _ = volume.remove(&attempt.version.name);
        let _ = remove_links(volume, attempt);
        return match shortage {
            Some(shortage) => {
                shortage.explain(volume.dir(), attempt.trees, attempt.added.len(), error)
            }
            None => error,
        };
    }
    match restore(volume, attempt) {
        Ok(()) => error,
        Err(why) if is_live() => error.context(format!("the new version stays live ({why:#})")),
        Err(why) => error.context(format!(
            "the version before is live again, but perhaps not after a crash ({why:#})"
        )),
    }
}

/// Makes the version before live again (steps 1 to 5).
fn restore(volume: &Volume, attempt: &Attempt<'_>) -> Result<()> {
    for name in top(volume, attempt.before)? {
        if volume.link_state(name.to_bytes())? == LinkState::Missing {
            volume.add_link(name.to_bytes())?;
        }
    }
    put_back(volume, attempt.replaced, &attempt.version.suffix)?;
    volume.switch_back(attempt.before, &attempt.version.suffix)?;
    let synced = volume.sync();
    let live = volume.live_name()?;
    if live.as_deref() != attempt.before {
        bail!("`{}` is live", live.as_deref().unwrap_or("nothing"));
    }
    remove_links(volume, attempt)?;
    // If this fails, a rollback may return to the version, which is complete.
    let _ = volume.remove_manifest(&attempt.version.name);
    synced
}

/// Moves plain files back to their names, where links may have taken their places.
///
/// # Errors
/// Fails if a file cannot be moved.
pub fn put_back(volume: &Volume, names: &[Vec<u8>], suffix: &str) -> Result<()> {
    for (number, name) in names.iter().enumerate() {
        let (old, at) = (Volume::old_name(suffix, number), OsStr::from_bytes(name));
        if let Err(Errno::NOENT) = statx(volume, &old, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        {
            continue;
        }
        match volume.link_state(name)? {
            // rename(2) does not replace a link by a directory.
            LinkState::Ours => unlinkat(volume, at, AtFlags::empty())
                .map_err(|errno| volume.dir().error("remove", name, errno))?,
            LinkState::Missing => {}
            // Another writer has put an entry there.
            LinkState::Foreign => continue,
        }
        renameat(volume, &old, volume, at)
            .map_err(|errno| volume.dir().error("put back", name, errno))?;
    }
    Ok(())
}

/// Removes the added links that lead to no entry of the live tree.
fn remove_links(volume: &Volume, attempt: &Attempt<'_>) -> Result<()> {
    let live = volume.live_name()?;
    let names = top(volume, live.as_deref())?;
    let names: HashSet<&[u8]> = names.iter().map(|name| name.to_bytes()).collect();
    let is_added = |name: &[u8]| attempt.added.iter().any(|added| added == name);
    volume.remove_stale_links(|name| !is_added(name) || names.contains(name))?;
    links::repair_after_race(volume, live.as_deref().unwrap_or_default())?;
    Ok(())
}

/// The names at the top of a version's tree.
fn top(volume: &Volume, version: Option<&str>) -> Result<Vec<Box<CStr>>> {
    let Some(version) = version else { return Ok(Vec::new()) };
    let tree = volume.dir().open_dir(format!("{version}/{TREE}").as_bytes())?;
    names(tree.as_fd()).map_err(|errno| tree.error("read", b"", errno))
}
