//! The layout of a volume, after the convention of ConfigMap volumes:
//!
//! ```text
//! ..version-5f0c.../tree/        the published tree
//! ..version-5f0c.../manifest     its manifest (see `manifest`)
//! ..version-5f0c.../version      the digest and the time of publication, as JSON
//! ..data -> ..version-5f0c.../tree
//! certs -> ..data/certs          for each name at the top of the tree
//! ..next-...                     a link that is about to be renamed to `..data`
//! ..old-...                      a plain file or directory that a link has replaced
//! ```
//!
//! Renaming a new link over `..data` makes another version live. Other files on the volume are left
//! alone.

mod links;

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fsync, mkdirat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::dir::{Dir, Metadata, names, open_noatime};
use crate::manifest;
use crate::publish_time::PublishTime;
use crate::tree::{Hash, Tree};

pub use links::LinkState;

/// The link to the live tree.
pub const DATA: &str = "..data";
/// Prefix of the directories of versions.
const VERSION: &str = "..version-";
/// Prefix of plain files and directories that links have replaced.
const OLD: &str = "..old-";
/// Prefix of links that are about to be renamed to [`DATA`].
const NEXT: &str = "..next-";
/// The published tree within a version.
pub const TREE: &str = "tree";
/// Its manifest.
pub const MANIFEST: &str = "manifest";

/// A volume that trees are published to.
pub struct Volume {
    dir: Dir,
}

/// The live version of a volume.
pub struct LiveVersion {
    /// The name of its directory.
    pub name: String,
    /// The published tree; `None` if its manifest cannot be read.
    pub published: Option<Published>,
}

/// A tree that was published.
pub struct Published {
    /// The tree that the manifest lists.
    pub tree: Tree,
    /// The digest of the version: the hash of its manifest.
    pub digest: Hash,
    /// The directory of the tree.
    pub dir: Dir,
    /// When the version was complete; `None` if its manifest is not the original one.
    pub publish_time: Option<PublishTime>,
}

/// A version that is not live, or a file or directory that a link has replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct OldVersion {
    /// Its name on the volume.
    pub name: String,
    /// Whether it was complete: readers can enter it.
    pub is_complete: bool,
}

impl AsFd for Volume {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Volume {
    /// Opens a volume.
    ///
    /// # Errors
    /// Fails if it does not exist or is not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { dir: Dir::open(path)? })
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The live version; `None` before the first publication.
    ///
    /// # Errors
    /// Fails if another program owns `..data`.
    pub fn live(&self) -> Result<Option<LiveVersion>> {
        let name = self.live_name()?;
        Ok(name.map(|name| LiveVersion { published: self.published(&name).ok(), name }))
    }

    /// The name of the live version's directory; `None` before the first publication.
    ///
    /// # Errors
    /// Fails if another program owns `..data`.
    pub fn live_name(&self) -> Result<Option<String>> {
        let target = match readlinkat(&self.dir, DATA, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.dir.error("read the link", DATA.as_bytes(), errno)),
        };
        let name = target.to_str().ok().and_then(|target| {
            let name = target.strip_suffix(TREE)?.strip_suffix('/')?;
            (name.starts_with(VERSION) && !name.contains('/')).then(|| name.to_owned())
        });
        if name.is_none() {
            let (path, target) = (self.dir.display_path(b""), one_line(target.to_bytes()));
            bail!(
                "`{}` is in use by another program: its `..data` leads to `{target}`",
                path.display()
            );
        }
        Ok(name)
    }

    /// Reads the manifest of a version.
    ///
    /// # Errors
    /// Fails if there is none, or it cannot be read or parsed.
    pub fn published(&self, name: &str) -> Result<Published> {
        let version = self.dir.open_dir(name.as_bytes())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open_noatime(&version, MANIFEST, flags);
        let file = opened.map_err(|errno| version.error("open", MANIFEST.as_bytes(), errno))?;
        let file = File::from(file);
        let (tree, digest) = manifest::read(BufReader::new(&file))?;
        let publish_time = PublishTime::of(&version, &file, &digest);
        Ok(Published { tree, digest, dir: version.open_dir(TREE.as_bytes())?, publish_time })
    }

    /// Makes a version live by one rename, and syncs it to the disk. `suffix` makes the name of the
    /// temporary link unique.
    ///
    /// # Errors
    /// After a failure before the rename, the old version is still live. After a failed sync, the
    /// new version is live, but may not survive a crash.
    pub fn switch(&self, name: &str, suffix: &str) -> Result<()> {
        let next = self.add_next_link(name, suffix)?;
        let renamed = self.sync().and_then(|()| self.rename_to_data(&next));
        self.remove_next_on_error(&next, renamed)?;
        self.sync()
    }

    /// Makes the version `before` live again, or removes `..data` if there was none. Does not sync.
    ///
    /// # Errors
    /// If it fails, the live version is unchanged.
    pub fn switch_back(&self, before: Option<&str>, suffix: &str) -> Result<()> {
        let Some(before) = before else {
            return unlink(&self.dir, DATA.as_bytes(), AtFlags::empty());
        };
        let next = self.add_next_link(before, suffix)?;
        self.remove_next_on_error(&next, self.rename_to_data(&next))
    }

    /// Creates the link that will be renamed to [`DATA`], and returns its name.
    fn add_next_link(&self, version: &str, suffix: &str) -> Result<String> {
        let next = format!("{NEXT}{suffix}");
        symlinkat(format!("{version}/{TREE}"), &self.dir, &next)
            .map_err(|errno| self.dir.link_error(next.as_bytes(), errno))?;
        Ok(next)
    }

    fn rename_to_data(&self, next: &str) -> Result<()> {
        renameat(&self.dir, next, &self.dir, DATA)
            .map_err(|errno| self.dir.error("replace", DATA.as_bytes(), errno))
    }

    fn remove_next_on_error(&self, next: &str, renamed: Result<()>) -> Result<()> {
        if renamed.is_err() {
            // If this fails too, the next run removes the link.
            let _ = unlinkat(&self.dir, next, AtFlags::empty());
        }
        renamed
    }

    /// Syncs the names at the top of the volume to the disk.
    ///
    /// # Errors
    /// Fails if they may not be on the disk.
    pub fn sync(&self) -> Result<()> {
        fsync(&self.dir).map_err(|errno| self.dir.error("sync", b"", errno))
    }

    /// The name of a new version.
    pub fn version_name(suffix: &str) -> String {
        format!("{VERSION}{suffix}")
    }

    /// Whether `name` is that of a version.
    pub fn is_version(name: &str) -> bool {
        name.starts_with(VERSION)
    }

    /// The new name of a plain file or directory that a link replaces. `number` counts those of one
    /// publication.
    pub fn old_name(suffix: &str, number: usize) -> String {
        format!("{OLD}{suffix}-{number}")
    }

    /// Creates the directory of a version, with an empty tree, closed to other users.
    ///
    /// # Errors
    /// Fails if it exists or cannot be created.
    pub fn create_version(&self, name: &str) -> Result<Dir> {
        let made = mkdirat(&self.dir, name, Mode::RWXU);
        made.map_err(|errno| self.dir.error("create", name.as_bytes(), errno))?;
        let version = self.dir.open_dir(name.as_bytes())?;
        let made = mkdirat(&version, TREE, Mode::RWXU);
        made.map_err(|errno| version.error("create", TREE.as_bytes(), errno))?;
        Ok(version)
    }

    /// Opens the directory of a complete version to other users, and syncs that. Its name is on the
    /// disk only after [`switch`](Self::switch).
    ///
    /// # Errors
    /// Fails if the mode cannot be changed or synced.
    pub fn open_to_readers(&self, name: &str) -> Result<()> {
        let version = self.dir.open_dir(name.as_bytes())?;
        fchmod(&version, Mode::from_raw_mode(0o755))
            .map_err(|errno| version.error("set the mode of", b"", errno))?;
        fsync(&version).map_err(|errno| version.error("sync", b"", errno))
    }

    /// Removes the manifest of a version, so that no rollback returns to it.
    ///
    /// # Errors
    /// Fails if the manifest cannot be removed.
    pub fn remove_manifest(&self, name: &str) -> Result<()> {
        unlink(&self.dir.open_dir(name.as_bytes())?, MANIFEST.as_bytes(), AtFlags::empty())
    }

    /// Versions other than `live`, and files and directories that links have replaced.
    ///
    /// # Errors
    /// Fails if the volume cannot be read.
    pub fn old_versions(&self, live: Option<&str>) -> Result<Vec<OldVersion>> {
        let mut found = Vec::new();
        for name in self.dir.names()? {
            let Ok(text) = name.to_str() else { continue };
            let is_replaced = text.starts_with(OLD);
            if (is_replaced || text.starts_with(VERSION)) && Some(text) != live {
                // A version is closed to other users until it is complete.
                let mode = Metadata::at(&self.dir, &name).map_or(0, |found| found.mode);
                let is_complete = is_replaced || mode & 0o077 != 0;
                found.push(OldVersion { name: text.to_owned(), is_complete });
            }
        }
        Ok(found)
    }

    /// Removes a version, complete or not.
    ///
    /// # Errors
    /// Fails if something in it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove(&self.dir, name.as_bytes())
    }
}

/// Removes a file, or a directory with its content, without following links. Entries that another
/// process removes at the same time are no error.
///
/// # Errors
/// Fails if something cannot be removed.
pub fn remove(dir: &Dir, name: &[u8]) -> Result<()> {
    let error = |operation: &str, errno| dir.error(operation, name, errno);
    let fd = match dir.open_fd(name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlink(dir, name, AtFlags::empty()),
        Err(errno) => return Err(error("open", errno)),
    };
    // A directory without write permission cannot be emptied.
    let _ = fchmod(&fd, Mode::RWXU);
    let entries = match names(fd.as_fd()) {
        Err(Errno::NOENT) => Vec::new(),
        listed => listed.map_err(|errno| error("read", errno))?,
    };
    let below = dir.with_fd(fd, name);
    entries.iter().try_for_each(|entry| remove(&below, entry.to_bytes()))?;
    unlink(dir, name, AtFlags::REMOVEDIR)
}

fn unlink(dir: &Dir, name: &[u8], flags: AtFlags) -> Result<()> {
    match unlinkat(dir, OsStr::from_bytes(name), flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(dir.error("remove", name, errno)),
    }
}
