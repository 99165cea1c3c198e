//! Finds out what is in the watched directories now.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use published_tree::dir::Dir;
use published_tree::progress::Progress;
use published_tree::tree::{Hash, Node, join};
use published_tree::verify::verify;
use published_tree::volume::{Published, Volume};
use rustix::fs::fstat;
use sha2::{Digest, Sha256};

use super::filesystem::tells_of_changes;
use super::inotify::Watches;
use super::tree::{self, Entry, Limits, Tree};

/// What is in the directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Stands for all of it.
    pub digest: Hash,
    /// It is whole: its writer has left a manifest which it agrees with.
    pub is_proven: bool,
    /// By path.
    pub entries: Arc<[Entry]>,
    /// What is not covered, and why.
    pub notes: Vec<String>,
}

/// Reads directories again and again.
pub struct Scanner {
    roots: Vec<PathBuf>,
    limits: Limits,
    watches: Option<Watches>,
    /// By root: versions that have been read, and are what they were published as.
    proven: HashMap<PathBuf, (String, Seen)>,
    tells: bool,
}

impl Scanner {
    /// A scanner of directories that need not be there yet.
    pub fn new(roots: Vec<PathBuf>, limits: Limits, watches: Option<Watches>) -> Self {
        Self { roots, limits, watches, proven: HashMap::new(), tells: false }
    }

    /// Whether events tell of every change of what was seen last.
    pub fn is_told_of_changes(&self) -> bool {
        self.tells
    }

    /// Reads the directories. Unless it is `thorough`, a published version that has been read
    /// once is taken for unchanged: its manifest says what it is.
    ///
    /// # Errors
    /// One is missing, cannot be read, or is not what its manifest says.
    pub fn scan(&mut self, thorough: bool) -> Result<Seen> {
        self.tells = self.watches.is_some();
        let mut devices = HashMap::new();
        let roots = self.roots.clone();
        let seen: Result<Vec<Seen>> =
            roots.iter().map(|root| self.root(root, thorough, &mut devices)).collect();
        let is_complete = self.watches.as_mut().is_some_and(Watches::settle);
        self.tells &= is_complete && devices.values().all(|tells| *tells);
        Ok(together(&self.roots, seen?))
    }

    fn root(
        &mut self,
        root: &Path,
        thorough: bool,
        devices: &mut HashMap<u64, bool>,
    ) -> Result<Seen> {
        let watches = &mut self.watches;
        let mut arm = |directory: BorrowedFd<'_>| {
            if let Ok(stat) = fstat(directory) {
                devices.entry(stat.st_dev).or_insert_with(|| tells_of_changes(directory));
            }
            if let Some(watches) = watches {
                watches.arm(directory);
            }
        };
        let dir = Dir::open(root);
        if let Ok(dir) = &dir {
            arm(std::os::fd::AsFd::as_fd(dir));
        }
        let seen = dir.and_then(|dir| {
            let volume = Volume::open(root)?;
            let Ok(Some(name)) = volume.live_name() else {
                return plain(&dir, self.limits, &mut arm);
            };
            let Ok(published) = volume.published(&name) else {
                return plain(&dir, self.limits, &mut arm);
            };
            arm_published(&published, &mut arm);
            match self.proven.get(root) {
                Some((known, seen)) if *known == name && !thorough => Ok(seen.clone()),
                _ => {
                    verify(&published, &Progress::default())
                        .context("what is live is damaged, or was replaced meanwhile")?;
                    let seen = of_manifest(&published);
                    self.proven.insert(root.to_owned(), (name, seen.clone()));
                    Ok(seen)
                }
            }
        });
        if let Some(watches) = &mut self.watches {
            watches.arm_way(root);
        }
        seen
    }
}

fn plain(dir: &Dir, limits: Limits, arm: &mut dyn FnMut(BorrowedFd<'_>)) -> Result<Seen> {
    let tree = tree::read(dir, limits, arm)?;
    let digest = tree.digest();
    let Tree { entries, notes } = tree;
    Ok(Seen { digest, is_proven: false, entries: entries.into(), notes })
}

fn arm_published(published: &Published, arm: &mut dyn FnMut(BorrowedFd<'_>)) {
    for directory in published.tree.directories() {
        if let Ok(fd) = published.dir.open_fd(directory.path()) {
            arm(std::os::fd::AsFd::as_fd(&fd));
        }
    }
}

fn of_manifest(published: &Published) -> Seen {
    let mut entries = Vec::with_capacity(published.tree.len());
    for directory in published.tree.directories() {
        for (name, node) in directory.entries() {
            let (kind, hash) = match node {
                Node::Directory { .. } => (b'd', Hash::default()),
                Node::File { hash, .. } => (b'f', *hash),
                Node::Link { target } => (b'l', Sha256::digest(target).into()),
            };
            let path = join(directory.path(), name).into();
            entries.push(Entry { path, kind, hash });
        }
    }
    let notes = Vec::new();
    Seen { digest: published.digest, is_proven: true, entries: entries.into(), notes }
}

/// What is in all of the directories, which a single one speaks for itself.
fn together(roots: &[PathBuf], mut seen: Vec<Seen>) -> Seen {
    if seen.len() == 1 {
        return seen.swap_remove(0);
    }
    let mut digest = Sha256::new();
    let (mut is_proven, mut entries, mut notes) = (true, Vec::new(), Vec::new());
    for (root, seen) in roots.iter().zip(seen) {
        let root = root.as_os_str().as_bytes();
        digest.update((root.len() as u64).to_le_bytes());
        digest.update(root);
        digest.update(seen.digest);
        is_proven &= seen.is_proven;
        notes.extend(seen.notes);
        entries.extend(seen.entries.iter().map(|entry| {
            let path = [root, b"/", &entry.path].concat().into();
            Entry { path, ..entry.clone() }
        }));
    }
    Seen { digest: digest.finalize().into(), is_proven, entries: entries.into(), notes }
}
