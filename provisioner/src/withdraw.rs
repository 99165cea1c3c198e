//! Takes a publication back that has failed: what was live before it is live again.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Error, Result, bail};
use rustix::fs::{AtFlags, StatxFlags, renameat, statx, unlinkat};
use rustix::io::Errno;

use crate::names;
use crate::space::Lack;
use crate::tree::Tree;
use crate::tree::scan::names;
use crate::volume::{Link, TREE, Volume};

/// A publication, as far as it shows on the volume.
pub struct Attempt<'a> {
    /// The version that was to go live.
    pub name: &'a str,
    /// What its names have in common.
    pub tag: &'a str,
    /// What was to be in it.
    pub trees: &'a [&'a Tree],
    /// The version that was live before.
    pub before: Option<&'a str>,
    /// Names that got links for it.
    pub added: &'a [Vec<u8>],
    /// Names whose plain files may have been moved away for links.
    pub replaced: &'a [Vec<u8>],
}

/// Takes a publication back because of an error, and returns that: it says how much room was
/// missing if it was, and what is live if that is not what was.
pub fn withdraw(volume: &Volume, attempt: &Attempt<'_>, error: Error) -> Error {
    let is_live = || volume.live_name().is_ok_and(|live| live.as_deref() == Some(attempt.name));
    if !is_live() {
        // What cannot be removed is left to the next run.
        let lack = Lack::of(volume.place(), &error);
        let _ = volume.remove(attempt.name);
        let _ = remove_links(volume, attempt);
        return match lack {
            Some(lack) => lack.explain(volume.place(), attempt.trees, attempt.added.len(), error),
            None => error,
        };
    }
    match turn_back(volume, attempt) {
        Ok(()) => error,
        Err(why) if is_live() => error.context(format!("the new version stays live ({why:#})")),
        Err(why) => error.context(format!(
            "what was live before is so again, but perhaps not after a crash ({why:#})"
        )),
    }
}

/// Makes live what was, with all of its names first. Readers may be inside the new version: the
/// next run removes it when they had their time.
fn turn_back(volume: &Volume, attempt: &Attempt<'_>) -> Result<()> {
    for name in top(volume, attempt.before)? {
        if volume.link(name.to_bytes())? == Link::Missing {
            volume.add_link(name.to_bytes())?;
        }
    }
    put_back(volume, attempt.replaced, attempt.tag)?;
    volume.switch_back(attempt.before, attempt.tag)?;
    let is_durable = volume.sync();
    let live = volume.live_name()?;
    if live.as_deref() != attempt.before {
        bail!("`{}` is live", live.as_deref().unwrap_or("nothing"));
    }
    remove_links(volume, attempt)?;
    // It is none to go back to.
    let _ = volume.disown(attempt.name);
    is_durable
}

/// Puts plain names back that were moved out of the way of their links.
///
/// # Errors
/// One cannot be.
pub fn put_back(volume: &Volume, names: &[Vec<u8>], tag: &str) -> Result<()> {
    for (number, name) in names.iter().enumerate() {
        let (old, at) = (Volume::old_name(tag, number), OsStr::from_bytes(name));
        if let Err(Errno::NOENT) = statx(volume, &old, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        {
            continue;
        }
        match volume.link(name)? {
            // A directory does not take the place of a link.
            Link::Ours => unlinkat(volume, at, AtFlags::empty())
                .map_err(|errno| volume.place().failure("remove", name, errno))?,
            Link::Missing => {}
            // Somebody else was faster.
            Link::Foreign => continue,
        }
        renameat(volume, &old, volume, at)
            .map_err(|errno| volume.place().failure("put back", name, errno))?;
    }
    Ok(())
}

/// Removes the links that were added and lead nowhere now.
fn remove_links(volume: &Volume, attempt: &Attempt<'_>) -> Result<()> {
    let live = volume.live_name()?;
    let names = top(volume, live.as_deref())?;
    let names: HashSet<&[u8]> = names.iter().map(|name| name.to_bytes()).collect();
    let is_added = |name: &[u8]| attempt.added.iter().any(|added| added == name);
    volume.remove_stale_links(|name| !is_added(name) || names.contains(name))?;
    names::settle(volume, live.as_deref().unwrap_or_default())?;
    Ok(())
}

/// The names at the top of a version's tree.
fn top(volume: &Volume, version: Option<&str>) -> Result<Vec<Box<CStr>>> {
    let Some(version) = version else { return Ok(Vec::new()) };
    let tree = volume.place().below(format!("{version}/{TREE}").as_bytes())?;
    names(tree.as_fd()).map_err(|errno| tree.failure("read", b"", errno))
}
