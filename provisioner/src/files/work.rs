//! What is done to a volume of plain files: new files take their places, old ones are removed.
//! Every directory is opened name by name: no link on the volume leads anywhere else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use published_tree::dir::Dir;
use published_tree::dir::Metadata;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::Volume;
use rustix::fs::{AtFlags, Mode, fchmod, unlinkat};
use rustix::io::Errno;

use super::claims::Claims;
use super::plan::Plan;
use super::staging::Staging;
use super::stale::{self, Stale};
use crate::copy::durable::Durability;
use crate::source::owner::{self, Owner};

/// Permission bits of who may change what is in a directory.
const WRITABLE: u16 = 0o300;

/// Work on a volume.
pub struct Work<'w> {
    volume: &'w Volume,
    disk: &'w Durability,
    /// Directories whose modes may not be what they should.
    touched: BTreeSet<Vec<u8>>,
    /// Whether anything was removed.
    pub has_removed: bool,
}

impl<'w> Work<'w> {
    /// Begins it.
    pub fn on(volume: &'w Volume, disk: &'w Durability) -> Self {
        Self { volume, disk, touched: BTreeSet::new(), has_removed: false }
    }

    /// Puts all of a part of the tree in its place.
    ///
    /// # Errors
    /// Something is not there.
    pub fn put(&mut self, part: &Tree, plan: &Plan, staging: &Staging) -> Result<()> {
        for directory in part.directories() {
            let path = directory.path();
            // It comes with the one above.
            if plan.missing.contains(path) {
                continue;
            }
            let (from, to) = (staging.tree.open_dir(path)?, self.open(path)?);
            for (name, node) in directory.entries() {
                let path = join(path, name);
                let is_directory = matches!(node, Node::Directory { .. });
                if plan.occupied.contains(&path) {
                    // Who moves a directory writes to it.
                    if !is_directory {
                        self.open(&path)?;
                    }
                    staging.put_instead(name, &from, &to)?;
                } else if !is_directory || plan.missing.contains(&path) {
                    staging.put(name, &from, &to)?;
                }
            }
            self.written(&to)?;
        }
        Ok(())
    }

    /// Removes what is ours and not to be kept: files that are not what was published stay where
    /// nobody knows whose they are, and directories as long as something is in them.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&mut self, claims: &Claims, is_kept: impl Fn(&[u8]) -> bool) -> Result<()> {
        for tree in claims.trees() {
            let directories: Vec<_> = tree.directories().collect();
            // What is below a directory comes after it.
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
        // Something else is there, or nothing.
        let opened = self.volume.dir().open_fd(directory.path());
        if matches!(opened, Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) {
            return Ok(());
        }
        let dir = self.open(directory.path())?;
        let fd = dir.open_fd(b"").map_err(|errno| dir.error("open", b"", errno))?;
        for Stale { name, path, is_directory } in
            stale::within(&fd, directory, self.volume, claims, is_kept)?
        {
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(&fd, OsStr::from_bytes(name), flags) {
                Ok(()) => self.has_removed = true,
                Err(Errno::NOENT) => {}
                // It is not ours alone, or not what another claim says.
                Err(
                    Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR | Errno::ISDIR,
                ) => {}
                Err(errno) => return Err(self.volume.dir().error("remove", &path, errno)),
            }
        }
        self.written(&dir)
    }

    /// Gives directories the modes and owners that they have in the tree.
    ///
    /// # Errors
    /// One cannot be changed.
    pub fn finish(&self, tree: &Tree, plan: &Plan, owner: Option<Owner>) -> Result<()> {
        // From the deepest up.
        let paths: BTreeSet<&Vec<u8>> =
            self.touched.iter().chain(&plan.unlike).chain(&plan.missing).collect();
        for path in paths.into_iter().rev() {
            let Some(Node::Directory { mode }) = tree.find(path).map(|at| tree.entry(at).1) else {
                continue;
            };
            let dir = self.volume.dir().open_dir(path)?;
            let failure = |operation: &str, errno| dir.error(operation, b"", errno);
            let found = Metadata::at(&dir, c"").map_err(|errno| failure("stat", errno))?.mode;
            if found != mode {
                fchmod(&dir, Mode::from_raw_mode(u32::from(mode)))
                    .map_err(|errno| failure("set the mode of", errno))?;
            }
            if let Some(owner) = owner
                && !owner.owns(&dir, b"").map_err(|errno| failure("stat", errno))?
            {
                owner.set_on(&dir).map_err(|errno| owner::chown_error(&dir, b"", errno))?;
            }
            self.written(&dir)?;
        }
        Ok(())
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// It is not there.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync().map_err(|errno| self.volume.dir().error("sync", b"", errno))?;
        self.volume.sync()
    }

    /// A directory that something is put into or removed from. One that must not be written gets
    /// its mode back in the end.
    fn open(&mut self, path: &[u8]) -> Result<Dir> {
        let dir = self.volume.dir().open_dir(path)?;
        let mode = Metadata::at(&dir, c"").map_err(|errno| dir.error("stat", b"", errno))?.mode;
        if mode & WRITABLE != WRITABLE && !path.is_empty() {
            self.touched.insert(path.to_vec());
            // If that is not allowed, what it is for tells why.
            let _ = fchmod(&dir, Mode::from_raw_mode(u32::from(mode | WRITABLE)));
        }
        Ok(dir)
    }

    fn written(&self, dir: &Dir) -> Result<()> {
        self.disk.written(dir).map_err(|errno| dir.error("sync", b"", errno))
    }
}
