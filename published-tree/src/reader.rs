//! Opens the files of a tree for reading, without following links. Callers read files in the order of
//! the tree, so the directory of the last file stays open for the next one.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::dir::{Dir, Metadata, open_noatime};
use crate::tree::Tree;

/// How much of a file is read at a time, in bytes.
pub const BUFFER_SIZE: usize = 128 * 1024;

/// Opens files of the tree below a directory.
pub struct Reader<'d> {
    dir: &'d Dir,
    current: Option<(Vec<u8>, OwnedFd)>,
    /// Holds the bytes that the caller read last.
    pub buffer: Vec<u8>,
}

impl<'d> Reader<'d> {
    /// A reader with a buffer of [`BUFFER_SIZE`] bytes.
    pub fn new(dir: &'d Dir) -> Self {
        Self { dir, current: None, buffer: vec![0; BUFFER_SIZE] }
    }

    /// A reader for callers that need no buffer.
    pub fn unbuffered(dir: &'d Dir) -> Self {
        Self { dir, current: None, buffer: Vec::new() }
    }

    /// The root of the tree.
    pub fn dir(&self) -> &'d Dir {
        self.dir
    }

    /// Opens the file `name` in `directory`, a path below the root. The access time is left alone
    /// where that is permitted.
    ///
    /// # Errors
    /// Returns the system's error, and `ESTALE` if it is no regular file: it was one when the tree
    /// was scanned.
    pub fn open(&mut self, directory: &[u8], name: &[u8]) -> Result<(File, Metadata), Errno> {
        let fd = self.open_fd(directory)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open_noatime(fd, OsStr::from_bytes(name), flags)?;
        match Metadata::at(&fd, c"")? {
            found if found.kind == FileType::RegularFile => Ok((File::from(fd), found)),
            _ => Err(Errno::STALE),
        }
    }

    /// Opens the directory `path` below the root, unless it is the one that is open.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn open_fd(&mut self, path: &[u8]) -> Result<&OwnedFd, Errno> {
        if self.current.as_ref().is_none_or(|(open, _)| open != path) {
            self.current = Some((path.to_vec(), self.dir.open_fd(path)?));
        }
        self.current.as_ref().map(|(_, fd)| fd).ok_or(Errno::BADF)
    }
}

/// A tree, and the open directory that holds it.
#[derive(Clone, Copy)]
pub struct OpenTree<'t> {
    /// The tree as data.
    pub tree: &'t Tree,
    /// Its root.
    pub dir: &'t Dir,
}
