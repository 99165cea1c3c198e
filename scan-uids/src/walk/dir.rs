//! Directories of the walk: where they lie, and what is known of them.

mod descriptor;
mod links;

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::volume::Volume;
use descriptor::State;
pub use descriptor::{InUse, Open};
pub use links::Counted;

/// Which file it is: device (major, minor) and inode number.
pub type FileId = (u32, u32, u64);

/// A directory that is read, or whose children still are.
pub struct Dir {
    /// What it is called in its parent; the path as given for a root.
    pub name: Box<CStr>,
    /// Levels below the root, which is 0.
    pub depth: usize,
    /// Which directory it is.
    pub id: FileId,
    /// The file system that it lies on.
    pub volume: Volume,
    /// Tells directories apart, for whoever must not keep them alive.
    pub serial: u64,
    /// How many subdirectories are still to be found by its link count; `i64::MAX` for unknown.
    left: AtomicI64,
    /// All of its subdirectories have been found: it need not be read any further.
    pub is_complete: AtomicBool,
    /// A failure to go on in it was told.
    pub is_lost: AtomicBool,
    counted: Option<Counted>,
    parent: Option<Arc<Dir>>,
    /// How much is left to do in it.
    uses: AtomicUsize,
    state: Mutex<State>,
}

impl Dir {
    /// A directory that was just opened.
    pub fn new(
        parent: Option<Arc<Dir>>,
        name: Box<CStr>,
        id: FileId,
        volume: Volume,
        serial: u64,
        counted: Option<Counted>,
        fd: OwnedFd,
    ) -> Self {
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        let left = counted.map_or(i64::MAX, |counted| i64::from(counted.links) - 2);
        let state = Mutex::new(State::open(fd));
        Self {
            name,
            depth,
            id,
            volume,
            serial,
            left: AtomicI64::new(left),
            is_complete: AtomicBool::new(left == 0),
            is_lost: AtomicBool::new(false),
            counted,
            parent,
            uses: AtomicUsize::new(1),
            state,
        }
    }

    /// The directory above; none for a root.
    pub fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// Its path, which starts with the root's as given.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::with_capacity(self.depth + 1);
        let mut at = Some(self);
        while let Some(dir) = at {
            names.push(dir.name.to_bytes());
            at = dir.parent.as_deref();
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            push_part(&mut path, name);
        }
        path
    }

    /// The path of an entry.
    pub fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path();
        push_part(&mut path, name.to_bytes());
        path
    }

    /// Whether this or a directory above is `id`: to enter it again would never end.
    pub fn is_within(&self, id: FileId) -> bool {
        let mut at = Some(self);
        while let Some(dir) = at {
            if dir.id == id {
                return true;
            }
            at = dir.parent.as_deref();
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push_part(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

impl Drop for Dir {
    /// Drops ancestors in a loop: recursion would overflow the stack on a deep tree.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut dir) = above.and_then(Arc::into_inner) {
            above = dir.parent.take();
        }
    }
}
