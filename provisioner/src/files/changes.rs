//! Finds the changes that a publication of plain files needs on the volume, and the obstacles to them.
//! Writes nothing.
//!
//! 1. Walk the directories of the tree that exist on the volume.
//! 2. Skip files whose content is already there, by the comparison that was made before.
//! 3. Compare directories by mode and owner, links by target and owner.
//! 4. Stage everything else. A directory that does not exist is staged with all its entries.
//! 5. Record obstacles: entries that are not claimed and have another type, other spellings of a
//!    name, and other file systems.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;

use anyhow::Result;
use diagnostics::wording::one_line;
use published_tree::dir::Metadata;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::{LinkState, Volume};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::claims::Claims;
use super::entry;
use super::obstacles::{Obstacles, find_unclaimed, has_other_spelling, is_on_other_mount};
use crate::source::owner::Owner;

/// The changes of a publication.
#[derive(Default)]
pub struct Changes {
    /// For each entry of the tree, whether it must be staged and put in place.
    pub is_staged: Vec<bool>,
    /// The paths of directories that do not exist on the volume.
    pub new_directories: HashSet<Vec<u8>>,
    /// The paths where a directory replaces another type of entry, or the reverse.
    pub other_type: HashSet<Vec<u8>>,
    /// The paths of directories with the wrong mode or owner.
    pub wrong_attributes: BTreeSet<Vec<u8>>,
    /// The number of published links that are missing or point elsewhere.
    pub damaged_links: u64,
    /// Why the tree cannot be published.
    pub obstacles: Obstacles,
}

impl Changes {
    /// Whether the volume needs no change for the tree.
    pub fn is_empty(&self) -> bool {
        self.wrong_attributes.is_empty() && !self.is_staged.contains(&true)
    }

    /// Stages all entries of a new directory.
    fn add_all(&mut self, directory: DirectoryRef<'_>) {
        for (index, (name, node)) in directory.range().zip(directory.entries()) {
            self.is_staged[index] = true;
            if matches!(node, Node::Directory { .. }) {
                self.new_directories.insert(join(directory.path(), name));
            }
        }
    }
}

/// Finds the changes that a volume needs for a tree.
pub struct ChangeFinder<'f> {
    /// The volume.
    pub volume: &'f Volume,
    /// Which of its files may be replaced.
    pub claims: &'f Claims,
    /// The tree.
    pub tree: &'f Tree,
    /// Whether the volume has a file with the mode and content of the entry at this index.
    pub is_same: &'f dyn Fn(usize) -> bool,
    /// The indices of entries with the wrong owner, sorted.
    pub wrong_owner: &'f [usize],
    /// The owner that was asked for.
    pub owner: Option<Owner>,
}

/// An entry of the tree, with the directory on the volume that it belongs in.
struct Entry<'e> {
    directory: &'e OwnedFd,
    name: &'e [u8],
    path: &'e [u8],
    /// Its index in the tree.
    index: usize,
    /// The entry on the volume.
    found: Option<Metadata>,
}

impl ChangeFinder<'_> {
    /// Finds the changes.
    ///
    /// # Errors
    /// Fails if the volume cannot be read.
    pub fn find(&self) -> Result<Changes> {
        let mut changes = Changes { is_staged: vec![false; self.tree.len()], ..Changes::default() };
        for directory in self.tree.directories() {
            if changes.new_directories.contains(directory.path()) {
                changes.add_all(directory);
            } else {
                self.add_directory_entries(directory, &mut changes)?;
            }
        }
        Ok(changes)
    }

    /// Adds the changes within a directory that exists on the volume.
    fn add_directory_entries(
        &self,
        directory: DirectoryRef<'_>,
        changes: &mut Changes,
    ) -> Result<()> {
        let dir = self.volume.dir();
        let error = |operation, path: &[u8], errno| dir.error(operation, path, errno);
        let fd = dir
            .open_fd(directory.path())
            .map_err(|errno| error("open", directory.path(), errno))?;
        let mut has_staged = false;
        for (index, (name, node)) in directory.range().zip(directory.entries()) {
            if (self.is_same)(index) && !self.has_wrong_owner(index) {
                continue;
            }
            let path = join(directory.path(), name);
            let found = entry::metadata(&fd, name).map_err(|errno| error("stat", &path, errno))?;
            let entry = Entry { directory: &fd, name, path: &path, index, found };
            let added = match node {
                Node::Directory { mode } => self.add_directory(&entry, mode, changes),
                Node::Link { target } => self.add_link(&entry, target, changes),
                Node::File { .. } => self.add_file_or_link(&entry, changes),
            };
            added.map_err(|errno| error("look at", &path, errno))?;
            has_staged |= changes.is_staged[index];
        }
        if has_staged && !directory.path().is_empty() && is_on_other_mount(dir, directory.path()) {
            changes.obstacles.add(directory.path(), "is another file system");
        }
        Ok(())
    }

    fn add_directory(
        &self,
        entry: &Entry<'_>,
        mode: u16,
        changes: &mut Changes,
    ) -> Result<(), Errno> {
        if let Some(Metadata { kind: FileType::Directory, mode: found, .. }) = entry.found {
            let has_owner = |owner: Owner| owner.owns(entry.directory, entry.name);
            if found != mode || !self.owner.map_or(Ok(true), has_owner)? {
                changes.wrong_attributes.insert(entry.path.to_vec());
            }
            return Ok(());
        }
        changes.is_staged[entry.index] = true;
        changes.new_directories.insert(entry.path.to_vec());
        if entry.found.is_some() {
            changes.other_type.insert(entry.path.to_vec());
            let is_atomic_link = || {
                !entry.path.contains(&b'/')
                    && self.volume.link_state(entry.name).is_ok_and(|link| link == LinkState::Ours)
            };
            if !self.claims.has_path(entry.path) && !is_atomic_link() {
                changes.obstacles.add(entry.path, "is no directory, and was not published");
            }
        }
        Ok(())
    }

    fn add_link(
        &self,
        entry: &Entry<'_>,
        target: &[u8],
        changes: &mut Changes,
    ) -> Result<(), Errno> {
        let is_link = entry.found.is_some_and(|found| found.kind == FileType::Symlink);
        let is_same =
            is_link && entry::has_target(entry.directory, entry.name, target).unwrap_or(false);
        let published = self
            .claims
            .published_tree()
            .and_then(|tree| Some(tree.entry(tree.find(entry.path)?).1));
        if !is_same && published == Some(Node::Link { target }) {
            changes.damaged_links += 1;
        }
        if is_same && !self.has_wrong_owner(entry.index) {
            return Ok(());
        }
        self.add_file_or_link(entry, changes)
    }

    /// Stages a file or link.
    fn add_file_or_link(&self, entry: &Entry<'_>, changes: &mut Changes) -> Result<(), Errno> {
        changes.is_staged[entry.index] = true;
        let Some(found) = entry.found else { return Ok(()) };
        if found.kind == FileType::Directory {
            changes.other_type.insert(entry.path.to_vec());
            let directory = self.volume.dir().open_fd(entry.path)?;
            if let Some(path) = find_unclaimed(&directory, entry.path, self.claims)? {
                let path = one_line(&path);
                let reason = format!("is a directory, and `{path}` was not published");
                changes.obstacles.add(entry.path, &reason);
            }
        } else if !self.claims.has_path(entry.path)
            && has_other_spelling(entry.directory, entry.name)?
        {
            changes.obstacles.add(entry.path, "exists in another spelling");
        }
        Ok(())
    }

    fn has_wrong_owner(&self, index: usize) -> bool {
        self.wrong_owner.binary_search(&index).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    /// `a` (a file), `d/` with `d/b`, and `link` to `a`.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        let file = Node::File { mode: 0o644, size: 3, hash: &[7; 32] };
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(b"a", file).unwrap();
        tree.push_entry(b"d", Node::Directory { mode: 0o755 }).unwrap();
        tree.push_entry(b"link", Node::Link { target: b"a" }).unwrap();
        tree.push_directory(b"d", 0o755).unwrap();
        tree.push_entry(b"b", file).unwrap();
        tree
    }

    fn find(dir: &TempDir, is_same: impl Fn(usize) -> bool) -> (Changes, Volume) {
        let (volume, claims, tree) = (Volume::open(dir.path()).unwrap(), Claims::default(), tree());
        let finder = ChangeFinder {
            volume: &volume,
            claims: &claims,
            tree: &tree,
            is_same: &is_same,
            wrong_owner: &[],
            owner: None,
        };
        (finder.find().unwrap(), volume)
    }

    #[test]
    fn an_empty_volume_needs_every_entry() {
        let (changes, volume) = find(&tempfile::tempdir().unwrap(), |_| false);
        assert_eq!(changes.is_staged, [true; 4]);
        assert_eq!(changes.new_directories, HashSet::from([b"d".to_vec()]));
        assert!(changes.other_type.is_empty() && !changes.is_empty());
        changes.obstacles.check(&volume).unwrap();
    }

    #[test]
    fn equal_entries_need_no_change_but_a_directory_mode_may() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        for mode in [0o755, 0o700] {
            fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(mode)).unwrap();
            let (changes, _) = find(&dir, |index| [0, 3].contains(&index));
            assert_eq!(changes.is_staged, [false; 4]);
            assert_eq!(changes.wrong_attributes.len(), usize::from(mode == 0o700));
            assert_eq!(changes.is_empty(), mode == 0o755);
        }
    }

    #[test]
    fn every_unclaimed_entry_of_another_type_is_an_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("d"), "").unwrap();
        fs::create_dir_all(dir.path().join("a/other")).unwrap();
        let (changes, volume) = find(&dir, |_| false);
        assert_eq!(changes.other_type, HashSet::from([b"a".to_vec(), b"d".to_vec()]));
        let error = changes.obstacles.check(&volume).unwrap_err().to_string();
        let reasons = "cannot be published to: `a` is a directory, and `a/other` was not \
                       published, `d` is no directory, and was not published";
        assert!(error.ends_with(reasons), "{error}");
    }
}
