//! The files of a scan in the directory that the scan had opened. They can be read from there when another
//! version is live, until the version with them is removed.

use std::fmt;
use std::sync::Arc;

use published_tree::dir::Dir;

use super::tree::Entry;

/// The open directory of a scan. Clones are equal.
#[derive(Clone)]
pub struct Root {
    dir: Arc<Dir>,
    /// What the paths of the entries below `dir` begin with.
    prefix: &'static [u8],
}

impl Root {
    /// The directory of entries whose paths begin with `prefix`.
    pub fn new(dir: Dir, prefix: &'static [u8]) -> Self {
        Self { dir: Arc::new(dir), prefix }
    }
}

impl PartialEq for Root {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dir, &other.dir)
    }
}

impl Eq for Root {}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display_path(b"").fmt(f)
    }
}

/// The files of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub(super) root: Root,
    pub(super) entries: Arc<[Entry]>,
    /// A part that the scan does not cover, and why; `None` if it covers everything.
    pub warning: Option<String>,
}

impl Files {
    /// The directory that holds them.
    pub fn dir(&self) -> &Dir {
        &self.root.dir
    }

    /// The entries, by their paths below the directory.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.path.strip_prefix(self.root.prefix)?, entry)))
    }
}
