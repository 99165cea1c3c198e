//! Whether there would be room for a tree, with what a run can give up for it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use rustix::io::Errno;

use crate::archive::Archives;
use crate::files::{claims, staging};
use crate::place::Place;
use crate::space::check_with;
use crate::superseded::{Terms, all, is_grace_over};
use crate::tree::scan::names;
use crate::tree::{Hash, Tree};
use crate::volume::Volume;

/// The unit of `stx_blocks` (`statx(2)`), in bytes.
const BLOCK: u64 = 512;

/// Makes sure that there would be room for all of the trees, and links. What shares its blocks with something
/// else counts as if it gave them up.
///
/// # Errors
/// There would not; how much is missing.
pub fn check<'t>(
    volume: &Volume,
    trees: impl Iterator<Item = &'t Tree>,
    links: usize,
    terms: Terms,
    spared: Option<Hash>,
) -> Result<()> {
    let spare = spare(volume, terms, spared)?;
    let trees: Vec<&Tree> = trees.collect();
    check_with(volume.place(), &trees, links, spare)
}

/// [`check`] for what is to be made of plain files.
///
/// # Errors
/// As there.
pub fn check_plain(volume: &Volume, part: &Tree, terms: Terms) -> Result<()> {
    let (mut bytes, mut inodes) = spare(volume, terms, None)?;
    if let Some(place) = claims::find(volume)? {
        // It would be removed first.
        for name in staging::all(&place)? {
            let more = taken(&place, name.as_bytes()).unwrap_or((0, 0));
            (bytes, inodes) = (bytes + more.0, inodes + more.1);
        }
    }
    check_with(volume.place(), &[part], 0, (bytes, inodes))
}

/// What a run may give up, in bytes and inodes: what others have left, versions whose readers had
/// their time, and archives but that of `spared`.
fn spare(volume: &Volume, terms: Terms, spared: Option<Hash>) -> Result<(u64, u64)> {
    let live = volume.live_name()?;
    let needed = if is_grace_over(volume, terms.grace) { Vec::new() } else { all(volume)? };
    let (mut bytes, mut inodes) = (0, 0);
    for (name, _) in volume.others(live.as_deref())? {
        if !needed.contains(&name) {
            // What is gone meanwhile, or cannot be looked at, is not counted.
            let (more_bytes, more_inodes) =
                taken(volume.place(), name.as_bytes()).unwrap_or((0, 0));
            (bytes, inodes) = (bytes + more_bytes, inodes + more_inodes);
        }
    }
    let archives = Archives::find(volume)?.map(|archives| archives.list()).transpose()?;
    for archive in archives.unwrap_or_default() {
        if Some(archive.digest) != spared {
            (bytes, inodes) = (bytes + archive.size, inodes + 1);
        }
    }
    Ok((bytes, inodes))
}

/// What is taken by an entry and all that is below it, in bytes and inodes.
fn taken(place: &Place, name: &[u8]) -> Result<(u64, u64), Errno> {
    let (mut bytes, mut inodes) = (0, 1);
    let fd = match place.directory(name) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok((0, 1)),
        opened => opened?,
    };
    for entry in names(fd.as_fd())? {
        let (more, is_directory) = size(&fd, &entry)?;
        bytes += more;
        inodes += 1;
        if is_directory {
            let path = [name, b"/", entry.to_bytes()].concat();
            let below = taken(place, &path)?;
            (bytes, inodes) = (bytes + below.0, inodes + below.1 - 1);
        }
    }
    Ok((bytes, inodes))
}

/// What an entry itself takes, in bytes, and whether it is a directory.
fn size(fd: impl AsFd, name: &CStr) -> Result<(u64, bool), Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::BLOCKS;
    let stat = statx(fd, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Ok((stat.stx_blocks.saturating_mul(BLOCK), kind == FileType::Directory))
}
