//! Applies a publication to the volume: moves staged files to their names, removes stale ones, and
//! sets the modes and owners of directories.
//!
//! Every directory is opened name by name, so that no link on the volume leads a write elsewhere.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use published_tree::dir::{Dir, Metadata};
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::Volume;
use rustix::fs::{AtFlags, Mode, fchmod, unlinkat};
use rustix::io::Errno;

use super::changes::Changes;
use super::claims::Claims;
use super::staging::Staging;
use super::stale::{self, Stale};
use crate::copy::durable::Durability;
use crate::source::owner::{self, Owner};

/// The permission bits that are needed to change the entries of a directory.
const WRITABLE: u16 = 0o300;

/// Changes the files of a volume.
pub struct Applier<'a> {
    volume: &'a Volume,
    disk: &'a Durability,
    /// Directories that were made writable, and need their modes again.
    made_writable: BTreeSet<Vec<u8>>,
    /// Whether an entry was removed.
    pub has_removed: bool,
}

impl<'a> Applier<'a> {
    /// An applier for one run. `disk` was started before the first write.
    pub fn new(volume: &'a Volume, disk: &'a Durability) -> Self {
        Self { volume, disk, made_writable: BTreeSet::new(), has_removed: false }
    }

    /// Moves all entries of the staged tree to their names.
    ///
    /// # Errors
    /// Fails if an entry cannot be moved. Those before it are in place.
    pub fn put(&mut self, staged: &Tree, changes: &Changes, staging: &Staging) -> Result<()> {
        for directory in staged.directories() {
            let path = directory.path();
            // A new directory was moved with its entries.
            if changes.new_directories.contains(path) {
                continue;
            }
            let (from, to) = (staging.tree.open_dir(path)?, self.open_writable(path)?);
            for (name, node) in directory.entries() {
                let path = join(path, name);
                let is_directory = matches!(node, Node::Directory { .. });
                if changes.other_type.contains(&path) {
                    // rename(2): the moved directory itself must be writable, since its `..` changes.
                    if !is_directory {
                        self.open_writable(&path)?;
                    }
                    staging.exchange(name, &from, &to)?;
                } else if !is_directory || changes.new_directories.contains(&path) {
                    staging.put(name, &from, &to)?;
                }
            }
            self.written(&to)?;
        }
        Ok(())
    }

    /// Removes the stale entries. Directories that are not empty stay.
    ///
    /// # Errors
    /// Fails if an entry cannot be removed.
    pub fn remove_stale(&mut self, claims: &Claims, is_kept: impl Fn(&[u8]) -> bool) -> Result<()> {
        for tree in claims.trees() {
            let directories: Vec<_> = tree.directories().collect();
            // The deepest directories are removed first.
            for directory in directories.into_iter().rev() {
                self.remove_from(directory, claims, &is_kept)?;
            }
        }
        Ok(())
    }

    fn remove_from(
        &mut self,
        directory: DirectoryRef<'_>,
        claims: &Claims,
        is_kept: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        if directory.entries().all(|(name, _)| is_kept(&join(directory.path(), name))) {
            return Ok(());
        }
        let opened = self.volume.dir().open_fd(directory.path());
        if matches!(opened, Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) {
            return Ok(());
        }
        let dir = self.open_writable(directory.path())?;
        let fd = dir.open_fd(b"").map_err(|errno| dir.error("open", b"", errno))?;
        for Stale { name, path, is_directory } in
            stale::in_directory(&fd, directory, self.volume, claims, is_kept)?
        {
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(&fd, OsStr::from_bytes(name), flags) {
                Ok(()) => self.has_removed = true,
                // The directory is in use, or another program has changed the entry.
                Err(
                    Errno::NOENT
                    | Errno::NOTEMPTY
                    | Errno::EXIST
                    | Errno::BUSY
                    | Errno::NOTDIR
                    | Errno::ISDIR,
                ) => {}
                Err(errno) => return Err(self.volume.dir().error("remove", &path, errno)),
            }
        }
        self.written(&dir)
    }

    /// Sets the modes and owners of changed directories, the deepest first.
    ///
    /// # Errors
    /// Fails if one cannot be changed.
    pub fn finish_directories(
        &self,
        tree: &Tree,
        changes: &Changes,
        owner: Option<Owner>,
    ) -> Result<()> {
        let paths: BTreeSet<&Vec<u8>> = self
            .made_writable
            .iter()
            .chain(&changes.wrong_attributes)
            .chain(&changes.new_directories)
            .collect();
        for path in paths.into_iter().rev() {
            let Some(Node::Directory { mode }) = tree.find(path).map(|at| tree.entry(at).1) else {
                continue;
            };
            let dir = self.volume.dir().open_dir(path)?;
            let error = |operation: &str, errno| dir.error(operation, b"", errno);
            let found = Metadata::at(&dir, c"").map_err(|errno| error("stat", errno))?.mode;
            if found != mode {
                fchmod(&dir, Mode::from_raw_mode(u32::from(mode)))
                    .map_err(|errno| error("set the mode of", errno))?;
            }
            if let Some(owner) = owner
                && !owner.owns(&dir, b"").map_err(|errno| error("stat", errno))?
            {
                owner.set_on(&dir).map_err(|errno| owner::chown_error(&dir, b"", errno))?;
            }
            self.written(&dir)?;
        }
        Ok(())
    }

    /// Syncs all changes to the disk.
    ///
    /// # Errors
    /// Fails if they may not be on the disk.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync().map_err(|errno| self.volume.dir().error("sync", b"", errno))?;
        self.volume.sync()
    }

    /// Opens a directory whose entries will change, and makes it writable for that time.
    fn open_writable(&mut self, path: &[u8]) -> Result<Dir> {
        let dir = self.volume.dir().open_dir(path)?;
        let mode = Metadata::at(&dir, c"").map_err(|errno| dir.error("stat", b"", errno))?.mode;
        if mode & WRITABLE != WRITABLE && !path.is_empty() {
            self.made_writable.insert(path.to_vec());
            // If this fails, the change that needs it reports the error.
            let _ = fchmod(&dir, Mode::from_raw_mode(u32::from(mode | WRITABLE)));
        }
        Ok(dir)
    }

    fn written(&self, dir: &Dir) -> Result<()> {
        self.disk.written(dir).map_err(|errno| dir.error("sync", b"", errno))
    }
}
