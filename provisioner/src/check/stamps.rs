//! Tells whether a tree has changed while a check ran, without reading its files: every write to a file
//! or a directory, and every change of its mode or owner, sets its change time, which no program can
//! set back.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use published_tree::tree::{Tree, join};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;

use super::Staged;

/// Longer than the steps in which kernels count change times: what is written after it has another
/// change time than what was written before.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// What a change of an entry would change.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    links: u32,
    mode: u16,
    owner: (u32, u32),
    size: u64,
    change_time: (i64, u32),
}

/// The stamps of a tree at one time.
pub struct Stamps {
    root: Stamp,
    /// In the order of the tree. Names that it does not list change the stamp of their directory.
    entries: Vec<Stamp>,
}

impl Stamps {
    /// Takes the stamps of a tree.
    ///
    /// # Errors
    /// Fails if an entry is gone or cannot be read.
    pub fn take(staged: Staged<'_>) -> Result<Self> {
        sleep(CLOCK_STEP);
        let error = |path: &[u8], errno| staged.dir.error("stat", path, errno);
        let mut entries = Vec::with_capacity(staged.tree.len());
        for directory in staged.tree.directories() {
            let dir = staged.dir.open_dir(directory.path())?;
            for (name, _) in directory.entries() {
                let stamp = stamp(&dir, name);
                entries.push(stamp.map_err(|errno| error(&join(directory.path(), name), errno))?);
            }
        }
        let root = stamp(staged.dir, b"").map_err(|errno| error(b"", errno))?;
        Ok(Self { root, entries })
    }

    /// The path of an entry whose stamp is another one in `later`; that of the root is `.`.
    pub fn first_difference(&self, later: &Self, tree: &Tree) -> Option<Vec<u8>> {
        let differs = |index: &usize| self.entries[*index] != later.entries[*index];
        match (0..self.entries.len()).find(differs) {
            Some(index) => Some(join(tree.directory_of(index).path(), tree.entry(index).0)),
            None => (self.root != later.root).then(|| b".".to_vec()),
        }
    }
}

fn stamp(dir: impl AsFd, name: &[u8]) -> Result<Stamp, Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(dir, &*name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Stamp {
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        mode: stat.stx_mode,
        owner: (stat.stx_uid, stat.stx_gid),
        size: stat.stx_size,
        change_time: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    })
}
