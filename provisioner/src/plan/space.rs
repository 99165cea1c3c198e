//! Checks whether the volume has space for a run, counting the space that the run can free.

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
use crate::archive::retire::{Retention, is_grace_over, previous_versions};
use crate::copy::space::{Space, check_with};
use crate::files::{claims, staging};

/// The unit of `stx_blocks` (`statx(2)`), in bytes.
const BLOCK: u64 = 512;

/// Checks the space for versions with `trees`, and for `links`. The archive of version `needed` is not
/// freed. Blocks that files share count as if they were freed with each of them.
///
/// # Errors
/// Says how much space is missing.
pub fn check<'t>(
    volume: &Volume,
    trees: impl Iterator<Item = &'t Tree>,
    links: usize,
    retention: Retention,
    needed: Option<Hash>,
) -> Result<()> {
    let reclaimable = reclaimable(volume, retention, needed)?;
    let trees: Vec<&Tree> = trees.collect();
    check_with(volume.dir(), &trees, links, reclaimable)
}

/// Checks the space for what is staged of a tree of plain files.
///
/// # Errors
/// Says how much space is missing.
pub fn check_staged(volume: &Volume, staged: &Tree, retention: Retention) -> Result<()> {
    let mut free = reclaimable(volume, retention, None)?;
    if let Some(dir) = claims::find_dir(volume)? {
        // A run removes what killed runs have staged.
        for name in staging::names(&dir)? {
            free += usage(&dir, name.as_bytes()).unwrap_or_default();
        }
    }
    check_with(volume.dir(), &[staged], 0, free)
}

/// The space that a run can free: incomplete versions, versions whose readers have had the grace
/// period, and archives except that of `needed`.
fn reclaimable(volume: &Volume, retention: Retention, needed: Option<Hash>) -> Result<Space> {
    let live = volume.live_name()?;
    let in_use = if is_grace_over(volume, retention.grace) {
        Vec::new()
    } else {
        previous_versions(volume)?
    };
    let mut free = Space::default();
    for OldVersion { name, .. } in volume.old_versions(live.as_deref())? {
        if !in_use.contains(&name) {
            // A version that cannot be read counts as empty.
            free += usage(volume.dir(), name.as_bytes()).unwrap_or_default();
        }
    }
    let archives = Archives::find(volume)?.map(|archives| archives.list()).transpose()?;
    for archive in archives.unwrap_or_default() {
        if Some(archive.digest) != needed {
            free += Space { bytes: archive.size, inodes: 1 };
        }
    }
    Ok(free)
}

/// The space of an entry and everything below it.
fn usage(dir: &Dir, name: &[u8]) -> Result<Space, Errno> {
    let fd = match dir.open_fd(name) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Space { bytes: 0, inodes: 1 }),
        opened => opened?,
    };
    let mut space = Space { bytes: 0, inodes: 1 };
    for entry in names(fd.as_fd())? {
        let (bytes, is_directory) = size(&fd, &entry)?;
        space.bytes += bytes;
        if is_directory {
            space += usage(dir, &[name, b"/", entry.to_bytes()].concat())?;
        } else {
            space.inodes += 1;
        }
    }
    Ok(space)
}

/// The size of an entry without its content if it is a directory, in bytes, and whether it is one.
fn size(fd: impl AsFd, name: &CStr) -> Result<(u64, bool), Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::BLOCKS;
    let stat = statx(fd, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Ok((stat.stx_blocks.saturating_mul(BLOCK), kind == FileType::Directory))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn usage_counts_every_inode_below_an_entry() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        fs::write(root.path().join("a/file"), vec![1; 10_000]).unwrap();
        fs::write(root.path().join("a/b/file"), "").unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let space = usage(&dir, b"a").unwrap();
        assert_eq!(space.inodes, 5);
        assert!(space.bytes >= 10_000, "{}", space.bytes);
        assert_eq!(usage(&dir, b"a/file"), Ok(Space { bytes: 0, inodes: 1 }));
    }
}
