//! Writes a tree into a new directory that no reader opens yet.
//!
//! 1. Create all directories and links.
//! 2. Create each file so that no other user can open it, and write its content.
//! 3. Set the mode of the complete file, then its owner, and sync it.
//! 4. Set modes and owners of the directories, the deepest first, and sync them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use published_tree::dir::Dir;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use crate::copy::durable::Durability;
use crate::source::owner::{Owner, chown_error};

/// Where a tree is copied to.
#[derive(Clone, Copy)]
pub struct Destination<'d> {
    /// An empty directory.
    pub dir: &'d Dir,
    /// Syncs it.
    pub disk: &'d Durability,
    /// The owner of everything in it, if not the user of this process.
    pub owner: Option<Owner>,
    /// Counts the files.
    pub progress: &'d Progress,
}

/// Creates all directories and symbolic links of a tree (step 1).
///
/// # Errors
/// Fails if one cannot be created.
pub fn create_directories(tree: &Tree, to: &Destination<'_>) -> Result<()> {
    tree.directories().try_for_each(|directory| create_entries(directory, to))
}

fn create_entries(directory: DirectoryRef<'_>, to: &Destination<'_>) -> Result<()> {
    let path = directory.path();
    let fd = to.dir.open_fd(path).map_err(|errno| to.dir.error("open", path, errno))?;
    for (name, node) in directory.entries() {
        let (at, path) = (OsStr::from_bytes(name), || join(path, name));
        match node {
            Node::Directory { .. } => mkdirat(&fd, at, Mode::RWXU)
                .map_err(|errno| to.dir.error("create", &path(), errno))?,
            Node::Link { target } => {
                symlinkat(OsStr::from_bytes(target), &fd, at)
                    .map_err(|errno| to.dir.link_error(&path(), errno))?;
                let changed = to.owner.map_or(Ok(()), |owner| owner.set_on_link(&fd, at));
                changed.map_err(|errno| chown_error(to.dir, &path(), errno))?;
            }
            Node::File { .. } => {}
        }
    }
    Ok(())
}

/// Sets modes and owners of all directories, the deepest first (step 4). A directory without write
/// permission could not be filled.
///
/// # Errors
/// Fails if one cannot be changed or synced.
pub fn finish_directories(tree: &Tree, to: &Destination<'_>) -> Result<()> {
    let directories: Vec<_> = tree.directories().collect();
    for directory in directories.iter().rev() {
        let path = directory.path();
        let error = |operation: &str, errno| to.dir.error(operation, path, errno);
        let fd = to.dir.open_fd(path).map_err(|errno| error("open", errno))?;
        let mode = Mode::from_raw_mode(u32::from(directory.mode()));
        fchmod(&fd, mode).map_err(|errno| error("set the mode of", errno))?;
        let changed = to.owner.map_or(Ok(()), |owner| owner.set_on(&fd));
        changed.map_err(|errno| chown_error(to.dir, path, errno))?;
        to.disk.written(&fd).map_err(|errno| error("sync", errno))?;
    }
    Ok(())
}

/// A file to be created.
pub struct StagedFile<'t> {
    /// The path of its directory below the root.
    pub directory: &'t [u8],
    /// Its name there.
    pub name: &'t [u8],
    /// Permission bits.
    pub mode: u16,
    /// In bytes.
    pub size: u64,
}

impl StagedFile<'_> {
    /// Its path below the root.
    pub fn path(&self) -> Vec<u8> {
        join(self.directory, self.name)
    }
}

/// Creates files below a destination.
pub struct Writer<'d> {
    to: Destination<'d>,
    directories: Reader<'d>,
}

impl<'d> Writer<'d> {
    /// Creates a writer to `to`.
    pub fn new(to: Destination<'d>) -> Self {
        Self { to, directories: Reader::unbuffered(to.dir) }
    }

    /// Where it writes to.
    pub fn destination(&self) -> &Destination<'d> {
        &self.to
    }

    /// Creates an empty file that other users cannot open (step 2).
    ///
    /// # Errors
    /// Fails if it exists or cannot be created.
    pub fn create(&mut self, staged: &StagedFile<'_>) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let created = self.directories.open_fd(staged.directory).and_then(|fd| {
            openat(fd, OsStr::from_bytes(staged.name), flags | OFlags::NOFOLLOW, Mode::RUSR)
        });
        created.map(File::from).map_err(|errno| self.error(staged, "create", errno))
    }

    /// Sets the mode and the owner of a complete file, and syncs it (step 3).
    ///
    /// # Errors
    /// Fails if one of these steps does.
    pub fn finish(&self, staged: &StagedFile<'_>, copy: &File) -> Result<()> {
        let mode = Mode::from_raw_mode(u32::from(staged.mode));
        fchmod(copy, mode).map_err(|errno| self.error(staged, "set the mode of", errno))?;
        // The owner comes last: after that, this process may not change the mode any more.
        let changed = self.to.owner.map_or(Ok(()), |owner| owner.set_on(copy));
        changed.map_err(|errno| chown_error(self.to.dir, &staged.path(), errno))?;
        self.to.disk.written(copy).map_err(|errno| self.error(staged, "sync", errno))
    }

    /// The error for a failed write.
    pub fn write_error(&self, staged: &StagedFile<'_>, error: &io::Error) -> anyhow::Error {
        self.error(staged, "write", Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// The error for an `operation` on a file.
    pub fn error(&self, staged: &StagedFile<'_>, operation: &str, errno: Errno) -> anyhow::Error {
        self.to.dir.error(operation, &staged.path(), errno)
    }
}
