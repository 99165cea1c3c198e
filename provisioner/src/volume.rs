//! How a volume is laid out, after the convention of ConfigMap volumes:
//!
//! ```text
//! ..version-5f0c.../tree/        what was published
//! ..version-5f0c.../manifest     what that is (see `tree::manifest`)
//! ..version-5f0c.../version      since when, and the digest, as JSON
//! ..data -> ..version-5f0c.../tree
//! certs -> ..data/certs          for each name at the top of the tree
//! ```
//!
//! One rename of `..data` makes another version live. Whatever else is on the volume is left
//! alone.

mod links;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fsync, mkdirat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::place::{Place, open_unseen};
use crate::seal::Seal;
use crate::tree::scan::{mode_of, names};
use crate::tree::{Hash, Tree, manifest};

pub use links::Link;

/// The link to what is live.
pub const DATA: &str = "..data";
/// What the names of versions begin with.
const VERSION: &str = "..version-";
/// What the names begin with that plain files and directories get which were replaced by links.
const OLD: &str = "..old-";
/// What the names of links begin with that become [`DATA`].
const NEXT: &str = "..next-";
/// The published tree within a version.
pub const TREE: &str = "tree";
/// Its manifest.
pub const MANIFEST: &str = "manifest";

/// A volume that trees are published to.
pub struct Volume {
    place: Place,
}

/// What is live on a volume.
pub struct Live {
    /// The directory of the version.
    pub name: String,
    /// The published tree, if its manifest can be read.
    pub published: Option<Published>,
}

/// A tree that was published.
pub struct Published {
    /// What it was then.
    pub tree: Tree,
    /// The digest of the version.
    pub digest: Hash,
    /// Where it is.
    pub place: Place,
    /// What tells which of its files nobody has touched since.
    pub seal: Option<Seal>,
}

impl AsFd for Volume {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.place.as_fd()
    }
}

impl Volume {
    /// Opens a volume.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { place: Place::open(path)? })
    }

    /// Its directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is live; `None` before the first publication.
    ///
    /// # Errors
    /// `..data` is somebody else's.
    pub fn live(&self) -> Result<Option<Live>> {
        let name = self.live_name()?;
        Ok(name.map(|name| Live { published: self.published(&name).ok(), name }))
    }

    /// The directory of the version that is live.
    ///
    /// # Errors
    /// As those of [`live`](Self::live).
    pub fn live_name(&self) -> Result<Option<String>> {
        let target = match readlinkat(&self.place, DATA, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.place.failure("read the link", DATA.as_bytes(), errno)),
        };
        let name = target.to_str().ok().and_then(|target| {
            let name = target.strip_suffix(TREE)?.strip_suffix('/')?;
            (name.starts_with(VERSION) && !name.contains('/')).then(|| name.to_owned())
        });
        if name.is_none() {
            let (shown, target) = (self.place.shown(b""), one_line(target.to_bytes()));
            bail!(
                "`{}` is in use by another program: its `..data` leads to `{target}`",
                shown.display()
            );
        }
        Ok(name)
    }

    /// What a version was published with.
    ///
    /// # Errors
    /// Its manifest cannot be read.
    pub fn published(&self, name: &str) -> Result<Published> {
        let version = self.place.below(name.as_bytes())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open_unseen(&version, MANIFEST, flags);
        let file = opened.map_err(|errno| version.failure("open", MANIFEST.as_bytes(), errno))?;
        let file = File::from(file);
        let (tree, digest) = manifest::read(BufReader::new(&file))?;
        let seal = Seal::of(&version, &file, &digest);
        Ok(Published { tree, digest, place: version.below(TREE.as_bytes())?, seal })
    }

    /// Makes the link of a new version live. The old one is live until then, and if this fails.
    ///
    /// # Errors
    /// It was not, or is not on the disk.
    pub fn switch(&self, name: &str, tag: &str) -> Result<()> {
        let next = self.add_next(name, tag)?;
        let renamed = self.sync().and_then(|()| self.make_live(&next));
        self.discard(&next, renamed)?;
        self.sync()
    }

    /// Makes the version live again that was so before, or none at all.
    ///
    /// # Errors
    /// What is live is so still.
    pub fn switch_back(&self, before: Option<&str>, tag: &str) -> Result<()> {
        let Some(before) = before else {
            return unlink(&self.place, DATA.as_bytes(), AtFlags::empty());
        };
        let next = self.add_next(before, tag)?;
        self.discard(&next, self.make_live(&next))
    }

    /// Makes the link that is to become [`DATA`]; its name.
    fn add_next(&self, version: &str, tag: &str) -> Result<String> {
        let next = format!("{NEXT}{tag}");
        symlinkat(format!("{version}/{TREE}"), &self.place, &next)
            .map_err(|errno| self.place.link_failure(next.as_bytes(), errno))?;
        Ok(next)
    }

    fn make_live(&self, next: &str) -> Result<()> {
        renameat(&self.place, next, &self.place, DATA)
            .map_err(|errno| self.place.failure("replace", DATA.as_bytes(), errno))
    }

    /// Removes a link that did not become [`DATA`].
    fn discard(&self, next: &str, became: Result<()>) -> Result<()> {
        if became.is_err() {
            // It would be removed by the next run.
            let _ = unlinkat(&self.place, next, AtFlags::empty());
        }
        became
    }

    /// Brings the names on the volume to its disk.
    ///
    /// # Errors
    /// They are not there.
    pub fn sync(&self) -> Result<()> {
        fsync(&self.place).map_err(|errno| self.place.failure("sync", b"", errno))
    }

    /// A name for a new version.
    pub fn version_name(tag: &str) -> String {
        format!("{VERSION}{tag}")
    }

    /// Whether a name is that of a version.
    pub fn is_version(name: &str) -> bool {
        name.starts_with(VERSION)
    }

    /// A name for what was replaced by a link.
    pub fn old_name(tag: &str, number: usize) -> String {
        format!("{OLD}{tag}-{number}")
    }

    /// Makes a new version, with an empty tree, that nobody else may look into.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self, name: &str) -> Result<Place> {
        let made = mkdirat(&self.place, name, Mode::RWXU);
        made.map_err(|errno| self.place.failure("create", name.as_bytes(), errno))?;
        let version = self.place.below(name.as_bytes())?;
        let made = mkdirat(&version, TREE, Mode::RWXU);
        made.map_err(|errno| version.failure("create", TREE.as_bytes(), errno))?;
        Ok(version)
    }

    /// Lets everybody look into a version, now that it is complete and on the disk. Its name is not
    /// there before [`switch`](Self::switch) has brought it there.
    ///
    /// # Errors
    /// That cannot be done, or brought to the disk.
    pub fn uncover(&self, name: &str) -> Result<()> {
        let version = self.place.below(name.as_bytes())?;
        fchmod(&version, Mode::from_raw_mode(0o755))
            .map_err(|errno| version.failure("set the mode of", b"", errno))?;
        fsync(&version).map_err(|errno| version.failure("sync", b"", errno))
    }

    /// Lets a version be none that was published: nobody will go back to it.
    ///
    /// # Errors
    /// It is one still.
    pub fn disown(&self, name: &str) -> Result<()> {
        unlink(&self.place.below(name.as_bytes())?, MANIFEST.as_bytes(), AtFlags::empty())
    }

    /// Versions that are not live, and whether each was complete; and what was replaced by links.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub fn others(&self, live: Option<&str>) -> Result<Vec<(String, bool)>> {
        let mut others = Vec::new();
        for name in self.names()? {
            let Ok(text) = name.to_str() else { continue };
            let is_old = text.starts_with(OLD);
            if (is_old || text.starts_with(VERSION)) && Some(text) != live {
                // It is hidden until then.
                let mode = mode_of(&self.place, &name).map_or(0, |(_, mode, _)| mode);
                others.push((text.to_owned(), is_old || mode & 0o077 != 0));
            }
        }
        Ok(others)
    }

    fn names(&self) -> Result<Vec<Box<CStr>>> {
        let fd = self.place.directory(b"").and_then(|fd| names(fd.as_fd()));
        fd.map_err(|errno| self.place.failure("read", b"", errno))
    }

    /// Removes a version, or what there is of it.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove(&self.place, name.as_bytes())
    }
}

/// Removes a file, or a directory with all that is in it, which no link can lead out of.
///
/// What is gone meanwhile is no failure: another run was faster.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(place: &Place, name: &[u8]) -> Result<()> {
    let failure = |operation: &str, errno| place.failure(operation, name, errno);
    let fd = match place.directory(name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlink(place, name, AtFlags::empty()),
        Err(errno) => return Err(failure("open", errno)),
    };
    // One that must not be written cannot be emptied.
    let _ = fchmod(&fd, Mode::RWXU);
    let entries = match names(fd.as_fd()) {
        Err(Errno::NOENT) => Vec::new(),
        listed => listed.map_err(|errno| failure("read", errno))?,
    };
    let directory = place.at(fd, name);
    entries.iter().try_for_each(|entry| remove(&directory, entry.to_bytes()))?;
    unlink(place, name, AtFlags::REMOVEDIR)
}

fn unlink(place: &Place, name: &[u8], flags: AtFlags) -> Result<()> {
    match unlinkat(place, OsStr::from_bytes(name), flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(place.failure("remove", name, errno)),
    }
}
