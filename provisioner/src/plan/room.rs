//! Whether there would be room for a tree, with what a run can give up for it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use anyhow::Result;
use published_tree::dir::Dir;
use published_tree::dir::names;
use published_tree::tree::{Hash, Tree};
use published_tree::volume::{OldVersion, Volume};
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use rustix::io::Errno;

use crate::archive::Archives;
use crate::archive::retire::{Retention, is_grace_over, old_versions};
use crate::copy::space::{Space, check_with};
use crate::files::{claims, staging};

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
    retention: Retention,
    spared: Option<Hash>,
) -> Result<()> {
    let spare = spare(volume, retention, spared)?;
    let trees: Vec<&Tree> = trees.collect();
    check_with(volume.dir(), &trees, links, spare)
}

/// [`check`] for what is to be made of plain files.
///
/// # Errors
/// As there.
pub fn check_plain(volume: &Volume, part: &Tree, retention: Retention) -> Result<()> {
    let mut more = spare(volume, retention, None)?;
    if let Some(dir) = claims::find(volume)? {
        // It would be removed first.
        for name in staging::all(&dir)? {
            more += taken(&dir, name.as_bytes()).unwrap_or_default();
        }
    }
    check_with(volume.dir(), &[part], 0, more)
}

/// The space that a run can free: leftovers, versions without readers, and archives except that of
/// `spared`.
fn spare(volume: &Volume, retention: Retention, spared: Option<Hash>) -> Result<Space> {
    let live = volume.live_name()?;
    let needed =
        if is_grace_over(volume, retention.grace) { Vec::new() } else { old_versions(volume)? };
    let mut free = Space::default();
    for OldVersion { name, .. } in volume.old_versions(live.as_deref())? {
        if !needed.contains(&name) {
            // What is gone meanwhile, or cannot be looked at, is not counted.
            free += taken(volume.dir(), name.as_bytes()).unwrap_or_default();
        }
    }
    let archives = Archives::find(volume)?.map(|archives| archives.list()).transpose()?;
    for archive in archives.unwrap_or_default() {
        if Some(archive.digest) != spared {
            free += Space { bytes: archive.size, inodes: 1 };
        }
    }
    Ok(free)
}

/// The space that an entry and everything below it takes.
fn taken(dir: &Dir, name: &[u8]) -> Result<Space, Errno> {
    let fd = match dir.open_fd(name) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Space { bytes: 0, inodes: 1 }),
        opened => opened?,
    };
    let mut space = Space { bytes: 0, inodes: 1 };
    for entry in names(fd.as_fd())? {
        let (bytes, is_directory) = size(&fd, &entry)?;
        space.bytes += bytes;
        if is_directory {
            space += taken(dir, &[name, b"/", entry.to_bytes()].concat())?;
        } else {
            space.inodes += 1;
        }
    }
    Ok(space)
}

/// The size of an entry itself, in bytes, and whether it is a directory.
fn size(fd: impl AsFd, name: &CStr) -> Result<(u64, bool), Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::BLOCKS;
    let stat = statx(fd, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Ok((stat.stx_blocks.saturating_mul(BLOCK), kind == FileType::Directory))
}
