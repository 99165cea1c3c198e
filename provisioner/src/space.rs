//! Whether a volume has room for a tree, before anything is written to it.

use anyhow::{Result, bail};
use rustix::fs::fstatvfs;

use crate::place::Place;
use crate::tree::{Node, Tree};

/// What an entry takes in its directory and in the manifest, in bytes, or a little more.
const ENTRY: u64 = 512;

/// Makes sure that the volume has room for all of the tree: what is live stays beside it.
///
/// # Errors
/// It has not; how much is missing.
pub fn check(volume: &Place, tree: &Tree) -> Result<()> {
    let found = fstatvfs(volume).map_err(|errno| volume.failure("stat", b"", errno))?;
    let block = found.f_frsize.max(512);
    let needed: u64 = (0..tree.len())
        .map(|index| match tree.entry(index).1 {
            Node::File { size, .. } => size.next_multiple_of(block) + ENTRY,
            Node::Directory { .. } => block + ENTRY,
            Node::Link { .. } => ENTRY,
        })
        .fold(4 * block, u64::saturating_add);
    let free = found.f_bavail.saturating_mul(block);
    let shown = volume.shown(b"");
    if needed > free {
        bail!(
            "`{}` has {free} bytes free, {} less than a new version takes",
            shown.display(),
            needed - free
        );
    }
    // The version and its three entries. Some file systems do not count: they have none at all.
    let inodes = tree.len() as u64 + 5;
    if found.f_files > 0 && inodes > found.f_favail {
        bail!(
            "`{}` has {} inodes free, {} less than a new version takes",
            shown.display(),
            found.f_favail,
            inodes - found.f_favail
        );
    }
    Ok(())
}
