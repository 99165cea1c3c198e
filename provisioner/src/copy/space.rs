//! Checks before the first write that a volume has space for a tree, and adds the missing bytes or inodes
//! to the error of a write that failed on a full disk.

use std::ops::AddAssign;

use anyhow::{Error, Result, anyhow};
use published_tree::dir::Dir;
use published_tree::disk_full::DiskFull;
use published_tree::tree::{Node, Tree};
use rustix::fs::fstatvfs;

/// What an entry needs in its directory and in the manifest, in bytes, rounded up.
const ENTRY_SIZE: u64 = 512;
/// With fewer free blocks than this, a write failed for lack of blocks.
const FEW_BLOCKS: u64 = 256;

/// An amount of disk space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl AddAssign for Space {
    fn add_assign(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.inodes = self.inodes.saturating_add(more.inodes);
    }
}

/// Checks that the volume has space for all of `trees`, and for `links` at its top, beside the
/// live version.
///
/// # Errors
/// Says how much space is missing.
pub fn check(volume: &Dir, trees: &[&Tree], links: usize) -> Result<()> {
    check_with(volume, trees, links, Space::default())
}

/// Checks as [`check`] does, as if `more` space were free.
///
/// # Errors
/// Says how much space is missing.
pub fn check_with(volume: &Dir, trees: &[&Tree], links: usize, more: Space) -> Result<()> {
    let mut free = FreeSpace::of(volume)?;
    free.bytes = free.bytes.saturating_add(more.bytes);
    free.inodes = free.inodes.map(|inodes| inodes.saturating_add(more.inodes));
    free.shortage(volume, space_for(trees, links, free.block_size)).map_or(Ok(()), Err)
}

/// The space that was left when a write failed.
pub struct Shortage {
    left: FreeSpace,
    is_quota: bool,
}

impl Shortage {
    /// The space that is left now, if `error` means "disk full".
    pub fn of(volume: &Dir, error: &Error) -> Option<Self> {
        let full = error.chain().find_map(|cause| cause.downcast_ref::<DiskFull>())?;
        Some(Self { left: FreeSpace::of(volume).ok()?, is_quota: full.is_quota })
    }

    /// Adds to `error` how much space is missing for `trees`. Call it when the incomplete files are
    /// removed again.
    pub fn explain(&self, volume: &Dir, trees: &[&Tree], links: usize, error: Error) -> Error {
        let Ok(free) = FreeSpace::of(volume) else { return error };
        let needed = space_for(trees, links, free.block_size);
        if let Some(shortage) = free.shortage(volume, needed) {
            return error.context(shortage);
        }
        // fstatvfs shows neither quotas nor the blocks that a file system reserves for itself.
        if self.is_quota || self.left.bytes < FEW_BLOCKS * free.block_size {
            let written = free.bytes.saturating_sub(self.left.bytes);
            let missing = needed.bytes.saturating_sub(written).max(free.block_size);
            return error.context(format!(
                "about {missing} bytes are missing on `{}` for a new version",
                volume.display_path(b"").display()
            ));
        }
        error
    }
}

/// The free space of a file system.
struct FreeSpace {
    bytes: u64,
    block_size: u64,
    /// `None` on file systems without a fixed number of inodes.
    inodes: Option<u64>,
}

impl FreeSpace {
    fn of(volume: &Dir) -> Result<Self> {
        let found = fstatvfs(volume).map_err(|errno| volume.error("stat", b"", errno))?;
        let block_size = found.f_frsize.max(512);
        Ok(Self {
            bytes: found.f_bavail.saturating_mul(block_size),
            block_size,
            inodes: (found.f_files > 0).then_some(found.f_favail),
        })
    }

    /// The error that says how much is missing for `needed`; `None` if there is enough.
    fn shortage(&self, volume: &Dir, needed: Space) -> Option<Error> {
        let path = volume.display_path(b"");
        let error = |free: u64, unit: &str, needed: u64| {
            anyhow!(
                "`{}` has {free} {unit} free, {} less than a new version takes",
                path.display(),
                needed - free
            )
        };
        if needed.bytes > self.bytes {
            return Some(error(self.bytes, "bytes", needed.bytes));
        }
        let inodes = self.inodes.filter(|inodes| needed.inodes > *inodes)?;
        Some(error(inodes, "inodes", needed.inodes))
    }
}

/// The space that versions with these trees take.
fn space_for(trees: &[&Tree], links: usize, block_size: u64) -> Space {
    let nodes = trees.iter().flat_map(|tree| (0..tree.len()).map(|index| tree.entry(index).1));
    let bytes = nodes.map(|node| match node {
        Node::File { size, .. } => size.next_multiple_of(block_size) + ENTRY_SIZE,
        Node::Directory { .. } => block_size + ENTRY_SIZE,
        Node::Link { .. } => ENTRY_SIZE,
    });
    // Each version adds its directory and three entries in it.
    let inodes: usize = links + trees.iter().map(|tree| tree.len() + 5).sum::<usize>();
    Space {
        bytes: bytes.fold(4 * block_size * trees.len() as u64, u64::saturating_add),
        inodes: inodes as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with a directory, a link, and files of these sizes.
    fn tree(sizes: &[u64]) -> Tree {
        let mut tree = Tree::default();
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(b"dir", Node::Directory { mode: 0o755 }).unwrap();
        tree.push_entry(b"link", Node::Link { target: b"dir" }).unwrap();
        for (number, &size) in sizes.iter().enumerate() {
            let node = Node::File { mode: 0o644, size, hash: &[0; 32] };
            tree.push_entry(format!("n{number}").as_bytes(), node).unwrap();
        }
        tree
    }

    #[test]
    fn files_take_whole_blocks() {
        let bytes = |sizes: &[u64]| space_for(&[&tree(sizes)], 0, 4096).bytes;
        let none = bytes(&[]);
        assert_eq!(bytes(&[0]) - none, ENTRY_SIZE);
        assert_eq!(bytes(&[1]) - none, 4096 + ENTRY_SIZE);
        assert_eq!(bytes(&[4096]) - none, 4096 + ENTRY_SIZE);
        assert_eq!(bytes(&[4097, 1]) - none, 3 * 4096 + 2 * ENTRY_SIZE);
    }

    #[test]
    fn each_entry_and_each_link_takes_an_inode() {
        let (one, two) = (tree(&[1]), tree(&[1, 1]));
        let inodes = |trees: &[&Tree], links| space_for(trees, links, 4096).inodes;
        assert_eq!(inodes(&[&two], 0) - inodes(&[&one], 0), 1);
        assert_eq!(inodes(&[&one], 7) - inodes(&[&one], 0), 7);
        assert_eq!(inodes(&[&one, &two], 0), inodes(&[&one], 0) + inodes(&[&two], 0));
    }

    #[test]
    fn a_huge_file_does_not_overflow() {
        let huge = tree(&[1 << 62, 1 << 62, 1 << 62, 1 << 62]);
        assert_eq!(space_for(&[&huge], 0, 4096).bytes, u64::MAX);
    }

    #[test]
    fn a_shortage_says_how_much_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Dir::open(dir.path()).unwrap();
        let free = FreeSpace { bytes: 1000, block_size: 512, inodes: Some(10) };
        let shortage = |bytes, inodes| {
            let error = free.shortage(&volume, Space { bytes, inodes });
            error.map(|error| error.to_string().replace(dir.path().to_str().unwrap(), "volume"))
        };
        assert_eq!(shortage(1000, 10), None);
        let bytes = "`volume` has 1000 bytes free, 24 less than a new version takes";
        assert_eq!(shortage(1024, 11), Some(bytes.to_owned()));
        let inodes = "`volume` has 10 inodes free, 1 less than a new version takes";
        assert_eq!(shortage(1000, 11), Some(inodes.to_owned()));
        let unlimited = FreeSpace { inodes: None, ..free };
        assert!(unlimited.shortage(&volume, Space { bytes: 0, inodes: u64::MAX }).is_none());
    }
}
