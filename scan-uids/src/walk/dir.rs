//! A directory of the walk that has tasks left: its parent, its file descriptor, and how many of its
//! subdirectories have not been found yet.

mod descriptor;
mod link_count;

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Statx;

use super::file_system::FileSystem;
use descriptor::Descriptor;
pub use descriptor::{DirInUse, OpenDir};
pub use link_count::{FileTime, LinkCount};

/// The identity of a file: its device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device_major: u32,
    device_minor: u32,
    inode: u64,
}

impl FileId {
    /// The identity of a file whose inode number was asked for.
    pub fn of(status: &Statx) -> Self {
        Self {
            device_major: status.stx_dev_major,
            device_minor: status.stx_dev_minor,
            inode: status.stx_ino,
        }
    }

    /// Whether both files lie on one device.
    pub fn is_on_device_of(self, other: Self) -> bool {
        (self.device_major, self.device_minor) == (other.device_major, other.device_minor)
    }
}

/// The attributes of a directory that was just opened.
pub struct DirInfo {
    /// Its name in its parent; for a root the path as given.
    pub name: Box<CStr>,
    /// Its identity.
    pub id: FileId,
    /// The file system that it lies on.
    pub file_system: FileSystem,
    /// A number that no other directory of the walk has.
    pub serial: u64,
    /// Its link count, if that tells the number of its subdirectories.
    pub link_count: Option<LinkCount>,
}

/// A directory with tasks left, in itself or below.
pub struct Dir {
    /// Its name in its parent; for a root the path as given.
    pub name: Box<CStr>,
    /// Levels below the root, which has 0.
    pub depth: usize,
    /// Its identity.
    pub id: FileId,
    /// The file system that it lies on.
    pub file_system: FileSystem,
    /// Identifies the directory within the walk, without keeping it alive.
    pub serial: u64,
    /// All its subdirectories have been found: it need not be read any further.
    pub has_all_subdirs: AtomicBool,
    /// The failure to continue reading it was reported.
    pub is_reported_lost: AtomicBool,
    /// Subdirectories still to be found by the link count; `i64::MAX` if unknown.
    subdirs_left: AtomicI64,
    link_count: Option<LinkCount>,
    parent: Option<Arc<Dir>>,
    /// How many [`DirInUse`] there are of it.
    uses: AtomicUsize,
    descriptor: Mutex<Descriptor>,
}

impl Dir {
    /// A directory that was just opened.
    pub fn new(parent: Option<Arc<Dir>>, info: DirInfo, fd: OwnedFd) -> Self {
        let DirInfo { name, id, file_system, serial, link_count } = info;
        let subdirs = link_count.map_or(i64::MAX, |count| i64::from(count.links) - 2);
        Self {
            name,
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            id,
            file_system,
            serial,
            has_all_subdirs: AtomicBool::new(subdirs == 0),
            is_reported_lost: AtomicBool::new(false),
            subdirs_left: AtomicI64::new(subdirs),
            link_count,
            parent,
            uses: AtomicUsize::new(1),
            descriptor: Mutex::new(Descriptor::open(fd)),
        }
    }

    /// The directory above; `None` for a root.
    pub fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// Its path, which starts with the root's path as given.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::with_capacity(self.depth + 1);
        names.extend(self.with_ancestors().map(|dir| dir.name.to_bytes()));
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            push_part(&mut path, name);
        }
        path
    }

    /// The path of an entry of this directory.
    pub fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path();
        push_part(&mut path, name.to_bytes());
        path
    }

    /// Whether this directory or one of its ancestors is `id`: entering `id` would never end.
    pub fn is_within(&self, id: FileId) -> bool {
        self.with_ancestors().any(|dir| dir.id == id)
    }

    fn with_ancestors(&self) -> impl Iterator<Item = &Dir> {
        std::iter::successors(Some(self), |dir| dir.parent.as_deref())
    }

    fn lock(&self) -> MutexGuard<'_, Descriptor> {
        self.descriptor.lock().unwrap_or_else(PoisonError::into_inner)
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
