//! Claims: which plain files on a volume provisioner has put there, and so may replace and remove.
//! Each claim is a record of a whole tree:
//!
//! ```text
//! ..provisioner/files/published      the tree that was published
//! ..provisioner/files/pending-...    a tree whose publication has started
//! ..provisioner/files/next-...       new files before they are put in place (see `staging`)
//! ```
//!
//! A complete publication turns its pending record into the published one. Until then, the published
//! record and all pending ones are claims, also those of runs that were killed: so each run knows the
//! files that the runs before it have put in place.

mod record;

use std::os::fd::AsFd;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::dir::Dir;
use published_tree::records;
use published_tree::tree::{Node, Tree};
use published_tree::volume::{Volume, remove};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::entry;
use crate::state::{STATE, State};
use record::PUBLISHED;

pub use record::{FixedModes, Record, complete, published_header, sync, write_pending};

/// The directory of claims and staged files, within [`STATE`].
pub const FILES: &str = "files";

/// All claims on a volume.
#[derive(Default)]
pub struct Claims {
    /// The tree that was published last.
    pub published: Option<Record>,
    /// The trees of publications that were not completed. Their files may be on the volume.
    pub pending: Vec<Tree>,
    /// The names of all records except a readable published one. The next complete publication
    /// removes them.
    pub stale_records: Vec<String>,
}

impl Claims {
    /// Reads the claims on a volume. Warns of records that cannot be read: the files that they list
    /// are not claimed any more.
    ///
    /// # Errors
    /// Fails if the directory of claims cannot be read.
    pub fn of(volume: &Volume, report: &mut Report) -> Result<Self> {
        let mut claims = Self::default();
        let Some(dir) = find_dir(volume)? else { return Ok(claims) };
        let names = record::names(&dir)?;
        for name in &names {
            match record::read(&dir, name) {
                Ok(record) if name == PUBLISHED => claims.published = Some(record),
                Ok(record) => claims.pending.push(record.tree),
                Err(error) => report.warn(format!(
                    "published files that are not in the tree stay on the volume: {error:#}"
                )),
            }
        }
        let is_current = |name: &String| name == PUBLISHED && claims.published.is_some();
        claims.stale_records = names.into_iter().filter(|name| !is_current(name)).collect();
        Ok(claims)
    }

    /// Whether no path is claimed.
    pub fn is_empty(&self) -> bool {
        self.published.is_none() && self.pending.is_empty()
    }

    /// The tree that was published last.
    pub fn published_tree(&self) -> Option<&Tree> {
        self.published.as_ref().map(|record| &record.tree)
    }

    /// The modes that the volume gave to every entry when it was published to.
    pub fn fixed_modes(&self) -> Option<FixedModes> {
        self.published.as_ref().and_then(|record| record.fixed_modes)
    }

    /// Whether a claimed tree has an entry at `path`.
    pub fn has_path(&self, path: &[u8]) -> bool {
        self.trees().any(|tree| tree.find(path).is_some())
    }

    /// Whether the entry `name` of an open directory, at `path` on the volume, is claimed.
    ///
    /// A published entry needs the same type only, because its content may be damaged. A pending
    /// entry needs the same content, because a file that another program has put there may still
    /// be in its place.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn covers(&self, directory: impl AsFd, name: &[u8], path: &[u8]) -> Result<bool, Errno> {
        if let Some(node) = self.published_tree().and_then(|tree| node_at(tree, path))
            && entry::has_type_of(&directory, name, node)?
        {
            return Ok(true);
        }
        for node in self.pending.iter().filter_map(|tree| node_at(tree, path)) {
            if entry::has_content_of(&directory, name, node)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All claimed trees, the published one first.
    pub fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.published_tree().into_iter().chain(&self.pending)
    }
}

fn node_at<'t>(tree: &'t Tree, path: &[u8]) -> Option<Node<'t>> {
    tree.find(path).map(|index| tree.entry(index).1)
}

/// The names of all records on a volume.
///
/// # Errors
/// Fails if the directory of claims cannot be read.
pub fn record_names(volume: &Volume) -> Result<Vec<String>> {
    Ok(find_dir(volume)?.map(|dir| record::names(&dir)).transpose()?.unwrap_or_default())
}

/// Opens the directory of claims; `None` if it does not exist.
///
/// # Errors
/// Fails if it exists and cannot be opened.
pub fn find_dir(volume: &Volume) -> Result<Option<Dir>> {
    let state = State::find(volume)?;
    Ok(state.map(|state| records::find_dir(state.dir(), FILES)).transpose()?.flatten())
}

/// Removes all claims and staged files.
///
/// # Errors
/// Fails if one cannot be removed, or the removal not synced.
pub fn remove_all(volume: &Volume) -> Result<()> {
    let Some(state) = State::find(volume)? else { return Ok(()) };
    remove(state.dir(), FILES.as_bytes())?;
    sync(state.dir())
}

/// Removes the directories of claims and state if they are empty: after a failed first publication.
pub fn remove_empty_dirs(volume: &Volume) {
    if let Ok(Some(state)) = State::find(volume) {
        let _ = unlinkat(state.dir(), FILES, AtFlags::REMOVEDIR);
        let _ = unlinkat(volume, STATE, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::UNIX_EPOCH;

    use super::*;

    fn tree(name: &[u8]) -> Tree {
        let mut tree = Tree::default();
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(name, Node::File { mode: 0o644, size: 3, hash: &[7; 32] }).unwrap();
        tree
    }

    fn claims() -> Claims {
        let (tree, fixed_modes) = (self::tree(b"published"), None);
        let record = Record { tree, digest: [0; 32], since: UNIX_EPOCH, fixed_modes };
        let pending = vec![self::tree(b"pending")];
        Claims { published: Some(record), pending, stale_records: Vec::new() }
    }

    #[test]
    fn paths_of_published_and_pending_trees_are_claimed() {
        let claims = claims();
        assert!(claims.has_path(b"published") && claims.has_path(b"pending"));
        assert!(!claims.has_path(b"other"));
        assert!(!claims.is_empty() && Claims::default().is_empty());
        assert!(!Claims { published: None, ..claims }.is_empty());
    }

    #[test]
    fn a_damaged_published_file_is_claimed_a_pending_file_with_other_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["published", "pending", "other"] {
            fs::write(dir.path().join(name), "abc").unwrap();
        }
        let (claims, opened) = (claims(), File::open(dir.path()).unwrap());
        let covers = |name: &[u8]| claims.covers(&opened, name, name).unwrap();
        assert!(covers(b"published") && !covers(b"pending") && !covers(b"other"));
        fs::remove_file(dir.path().join("published")).unwrap();
        fs::create_dir(dir.path().join("published")).unwrap();
        assert!(!covers(b"published"));
    }
}
