//! Plain files and directories, as `cp -r` leaves them, become links through `..data`.
//!
//! What they hold is copied to a version of its own first, and that is made live. So each name can
//! be exchanged for its link without a difference to readers, and only then does the new tree
//! take the place of all at once.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, symlinkat, unlinkat};

use crate::durable::Durability;
use crate::place::Place;
use crate::stage::{Origin, stage};
use crate::tree::Tree;
use crate::tree::scan::scan_names;
use crate::volume::{Live, TREE, Volume};
use crate::withdraw::{Attempt, put_back, withdraw};

/// What to do about what cannot be copied.
const CONTEXT: &str = "--allow-gap moves away instead what cannot be copied";

/// Makes sure that there is room for copies of what stands on a volume.
pub type Fits<'f> = &'f mut dyn FnMut(&[&Tree]) -> Result<()>;

/// Exchanges plain names at the top of a volume for links, while readers see what they saw.
///
/// # Errors
/// They cannot be copied or exchanged; they are plain then, or links to a copy.
pub fn without_gap(
    volume: &Volume,
    names: &[Vec<u8>],
    live: Option<&Live>,
    fits: Fits<'_>,
    tag: &str,
) -> Result<()> {
    can_exchange(volume, tag)?;
    let name = Volume::version_name(tag);
    let mut parts = read(volume, names, live).context(CONTEXT)?;
    let trees: Vec<&Tree> = parts.iter().map(|(tree, _)| tree).collect();
    fits(&trees).context(CONTEXT)?;
    let switched = copy_all(volume, &mut parts, &name)
        .context(CONTEXT)
        .and_then(|()| volume.switch(&name, tag));
    switched.map_err(|error| {
        let trees: Vec<&Tree> = parts.iter().map(|(tree, _)| tree).collect();
        let before = live.map(|live| &live.name[..]);
        let attempt =
            Attempt { name: &name, tag, trees: &trees, before, added: &[], replaced: &[] };
        withdraw(volume, &attempt, error)
    })?;
    for (number, name) in names.iter().enumerate() {
        let link = Volume::old_name(tag, number);
        volume.add_link_as(name, &link)?;
        let exchanged =
            renameat_with(volume, &link, volume, OsStr::from_bytes(name), RenameFlags::EXCHANGE);
        exchanged.map_err(|errno| volume.place().failure("exchange", name, errno))?;
    }
    volume.sync()
}

/// Moves plain names out of the way of their links, which are missing for a moment.
///
/// # Errors
/// One cannot be moved, or replaced; all are where they were, if that can be done.
pub fn with_gap(volume: &Volume, names: &[Vec<u8>], tag: &str) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let replace = |(number, name): (usize, &Vec<u8>)| {
        let old = Volume::old_name(tag, number);
        renameat(volume, OsStr::from_bytes(name), volume, &old)
            .map_err(|errno| volume.place().failure("move away", name, errno))?;
        volume.add_link(name)
    };
    let replaced = names.iter().enumerate().try_for_each(replace).and_then(|()| volume.sync());
    replaced.map_err(|error| match put_back(volume, names, tag) {
        Ok(()) => error,
        Err(why) => error.context(format!("plain files are not where they were ({why:#})")),
    })
}

/// Tries on two links whether names can be exchanged.
fn can_exchange(volume: &Volume, tag: &str) -> Result<()> {
    let links = [0, 1].map(|number| format!("{}-try", Volume::old_name(tag, number)));
    let made = links.iter().try_for_each(|link| symlinkat(".", volume, link));
    let tried = made
        .and_then(|()| renameat_with(volume, &links[0], volume, &links[1], RenameFlags::EXCHANGE));
    for link in &links {
        // One that was not made is not there.
        let _ = unlinkat(volume, link, AtFlags::empty());
    }
    if let Err(errno) = tried {
        let error = volume.place().failure("exchange names on", b"", errno);
        bail!("{error:#}: --allow-gap replaces them one after the other");
    }
    Ok(())
}

/// What stands on a volume, and where if that is not its top.
type Part = (Tree, Option<Place>);

/// What is to be copied: the plain names, and what is live beside them.
fn read(volume: &Volume, names: &[Vec<u8>], live: Option<&Live>) -> Result<Vec<Part>> {
    let plain: HashSet<&[u8]> = names.iter().map(|name| &name[..]).collect();
    let mut parts = vec![(scan_names(volume.place(), |name| plain.contains(name))?, None)];
    if let Some(live) = live {
        let place = volume.place().below(live.name.as_bytes())?.below(TREE.as_bytes())?;
        parts.push((scan_names(&place, |name| !plain.contains(name))?, Some(place)));
    }
    Ok(parts)
}

fn copy_all(volume: &Volume, parts: &mut [Part], name: &str) -> Result<()> {
    let disk = Durability::watch(volume.place())?;
    let to = volume.create(name)?.below(TREE.as_bytes())?;
    for (tree, place) in parts {
        let source = place.as_ref().unwrap_or(volume.place());
        stage(tree, &Origin { source, live: None }, &to, &disk)?;
    }
    disk.sync().map_err(|errno| to.failure("sync", b"", errno))?;
    volume.uncover(name)
}
