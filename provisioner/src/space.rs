//! Whether a volume has room for a tree: before anything is written to it, and after there was
//! none all the same.

use anyhow::{Error, Result, anyhow};
use rustix::fs::fstatvfs;

use crate::full::Full;
use crate::place::Place;
use crate::tree::{Node, Tree};

/// What an entry takes in its directory and in the manifest, in bytes, or a little more.
const ENTRY: u64 = 512;
/// With so many blocks left, a lack of room is not one of blocks.
const SCARCE: u64 = 256;

/// Makes sure that the volume has room for all of some trees and for links of names at their top:
/// what is live stays beside them.
///
/// # Errors
/// It has not; how much is missing.
pub fn check(volume: &Place, trees: &[&Tree], links: usize) -> Result<()> {
    check_with(volume, trees, links, (0, 0))
}

/// [`check`] as if there were more room, by so many bytes and inodes.
///
/// # Errors
/// As [`check`].
pub fn check_with(
    volume: &Place,
    trees: &[&Tree],
    links: usize,
    (bytes, inodes): (u64, u64),
) -> Result<()> {
    let mut room = Room::of(volume)?;
    room.bytes = room.bytes.saturating_add(bytes);
    room.inodes = room.inodes.map(|free| free.saturating_add(inodes));
    room.lacks(volume, &Need::of(trees, links, room.block)).map_or(Ok(()), Err)
}

/// What was left of a volume when it turned out to be full.
pub struct Lack {
    left: Room,
    is_quota: bool,
}

impl Lack {
    /// Looks at what is left, if that is why there is an error.
    pub fn of(volume: &Place, error: &Error) -> Option<Self> {
        let full = error.chain().find_map(|cause| cause.downcast_ref::<Full>())?;
        Some(Self { left: Room::of(volume).ok()?, is_quota: full.is_quota })
    }

    /// Says how much is missing for what [`check`] takes, now that what was written is removed again.
    pub fn explain(&self, volume: &Place, trees: &[&Tree], links: usize, error: Error) -> Error {
        let Ok(room) = Room::of(volume) else { return error };
        let need = Need::of(trees, links, room.block);
        if let Some(lack) = room.lacks(volume, &need) {
            return error.context(lack);
        }
        // A quota is not to be seen; nor is what a file system needs for itself.
        if self.is_quota || self.left.bytes < SCARCE * room.block {
            let written = room.bytes.saturating_sub(self.left.bytes);
            let missing = need.bytes.saturating_sub(written).max(room.block);
            return error.context(format!(
                "about {missing} bytes are missing on `{}` for a new version",
                volume.shown(b"").display()
            ));
        }
        error
    }
}

/// What is free on a volume.
struct Room {
    bytes: u64,
    /// Bytes of a block.
    block: u64,
    /// Some file systems do not count: they have none at all.
    inodes: Option<u64>,
}

impl Room {
    fn of(volume: &Place) -> Result<Self> {
        let found = fstatvfs(volume).map_err(|errno| volume.failure("stat", b"", errno))?;
        let block = found.f_frsize.max(512);
        Ok(Self {
            bytes: found.f_bavail.saturating_mul(block),
            block,
            inodes: (found.f_files > 0).then_some(found.f_favail),
        })
    }

    /// What is missing for `need`, as an error.
    fn lacks(&self, volume: &Place, need: &Need) -> Option<Error> {
        let shown = volume.shown(b"");
        let lack = |free: u64, what: &str, needed: u64| {
            anyhow!(
                "`{}` has {free} {what} free, {} less than a new version takes",
                shown.display(),
                needed - free
            )
        };
        if need.bytes > self.bytes {
            return Some(lack(self.bytes, "bytes", need.bytes));
        }
        let inodes = self.inodes.filter(|inodes| need.inodes > *inodes)?;
        Some(lack(inodes, "inodes", need.inodes))
    }
}

/// What trees take.
struct Need {
    bytes: u64,
    inodes: u64,
}

impl Need {
    fn of(trees: &[&Tree], links: usize, block: u64) -> Self {
        let nodes = trees.iter().flat_map(|tree| (0..tree.len()).map(|index| tree.entry(index).1));
        let bytes = nodes.map(|node| match node {
            Node::File { size, .. } => size.next_multiple_of(block) + ENTRY,
            Node::Directory { .. } => block + ENTRY,
            Node::Link { .. } => ENTRY,
        });
        // A version and its three entries.
        let inodes: usize = links + trees.iter().map(|tree| tree.len() + 5).sum::<usize>();
        Self {
            bytes: bytes.fold(4 * block * trees.len() as u64, u64::saturating_add),
            inodes: inodes as u64,
        }
    }
}
