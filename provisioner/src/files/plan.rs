//! What has to be done to a volume of plain files, by what stands on it. Nothing is changed here.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use published_tree::dir::names;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::{Link, Volume};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;

use super::claims::Claims;
use super::{Found, look};
use crate::source::owner::Owner;

/// What has to be done.
#[derive(Default)]
pub struct Plan {
    /// For each entry of the tree, whether it has to be made anew.
    pub is_wanted: Vec<bool>,
    /// Directories that are not there, and those in them.
    pub missing: HashSet<Vec<u8>>,
    /// Where something of another kind stands.
    pub occupied: HashSet<Vec<u8>>,
    /// Directories that have another mode or owner.
    pub unlike: BTreeSet<Vec<u8>>,
    /// Links that are not what was published.
    pub damaged_links: u64,
    /// What is in the way and not ours.
    obstacles: Vec<String>,
}

/// A tree, and what it meets on a volume.
pub struct Meeting<'m> {
    /// The volume.
    pub volume: &'m Volume,
    /// What is ours there.
    pub claims: &'m Claims,
    /// The tree.
    pub tree: &'m Tree,
    /// Its files that hold there what they are to hold.
    pub is_same: &'m dyn Fn(usize) -> bool,
    /// The indices of entries with the wrong owner, sorted.
    pub wrong_owner: &'m [usize],
    /// The owner that was asked for.
    pub owner: Option<Owner>,
}

impl Meeting<'_> {
    fn has_wrong_owner(&self, index: usize) -> bool {
        self.wrong_owner.binary_search(&index).is_ok()
    }
}

impl Plan {
    /// Looks at all directories and links of the tree, and at what is not the same.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub fn of(meeting: &Meeting<'_>) -> Result<Self> {
        let mut plan = Self { is_wanted: vec![false; meeting.tree.len()], ..Self::default() };
        for directory in meeting.tree.directories() {
            if plan.missing.contains(directory.path()) {
                plan.want_all(directory);
            } else {
                plan.add(directory, meeting)?;
            }
        }
        Ok(plan)
    }

    /// Makes sure that nothing is in the way that is not ours.
    ///
    /// # Errors
    /// All that is.
    pub fn check(&self, volume: &Volume) -> Result<()> {
        if !self.obstacles.is_empty() {
            let (shown, obstacles) = (volume.dir().display_path(b""), self.obstacles.join(", "));
            bail!("`{}` cannot be published to: {obstacles}", shown.display());
        }
        Ok(())
    }

    /// Whether there is nothing to do for the tree.
    pub fn is_empty(&self) -> bool {
        self.unlike.is_empty() && !self.is_wanted.contains(&true)
    }

    fn want_all(&mut self, directory: DirectoryRef<'_>) {
        for (index, (name, node)) in directory.range().zip(directory.entries()) {
            self.is_wanted[index] = true;
            if matches!(node, Node::Directory { .. }) {
                self.missing.insert(join(directory.path(), name));
            }
        }
    }

    /// Looks at a directory of the tree that is one on the volume too.
    fn add(&mut self, directory: DirectoryRef<'_>, meeting: &Meeting<'_>) -> Result<()> {
        let dir = meeting.volume.dir();
        let failure = |operation, path: &[u8], errno| dir.error(operation, path, errno);
        let fd = dir
            .open_fd(directory.path())
            .map_err(|errno| failure("open", directory.path(), errno))?;
        let mut has_new = false;
        for (index, (name, node)) in directory.range().zip(directory.entries()) {
            if (meeting.is_same)(index) && !meeting.has_wrong_owner(index) {
                continue;
            }
            let path = join(directory.path(), name);
            let found = look(&fd, name).map_err(|errno| failure("stat", &path, errno))?;
            let at = Spot { fd: &fd, name, path: &path, index };
            match node {
                Node::Directory { mode } => self.add_directory(&at, mode, found.as_ref(), meeting),
                Node::Link { target } if self.is_there(&at, target, found.as_ref(), meeting) => {
                    continue;
                }
                Node::Link { .. } | Node::File { .. } => {
                    self.add_other(&at, found.as_ref(), meeting)
                }
            }
            .map_err(|errno| failure("look at", &path, errno))?;
            has_new |= self.is_wanted[index];
        }
        if has_new && !directory.path().is_empty() && is_elsewhere(dir, directory.path()) {
            self.obstacle(directory.path(), "is another file system");
        }
        Ok(())
    }

    fn add_directory(
        &mut self,
        at: &Spot<'_>,
        mode: u16,
        found: Option<&Found>,
        meeting: &Meeting<'_>,
    ) -> Result<(), Errno> {
        if let Some(Found { kind: FileType::Directory, mode: found, .. }) = found {
            let has = |owner: Owner| owner.owns(at.fd, at.name);
            if *found != mode || !meeting.owner.map_or(Ok(true), has)? {
                self.unlike.insert(at.path.to_vec());
            }
            return Ok(());
        }
        self.is_wanted[at.index] = true;
        self.missing.insert(at.path.to_vec());
        if found.is_some() {
            self.occupied.insert(at.path.to_vec());
            let is_layout = || {
                !at.path.contains(&b'/')
                    && meeting.volume.link(at.name).is_ok_and(|link| link == Link::Ours)
            };
            if !meeting.claims.have(at.path) && !is_layout() {
                self.obstacle(at.path, "is no directory, and was not published");
            }
        }
        Ok(())
    }

    /// Whether a link is there already.
    fn is_there(
        &mut self,
        at: &Spot<'_>,
        target: &[u8],
        found: Option<&Found>,
        meeting: &Meeting<'_>,
    ) -> bool {
        let is_link = found.is_some_and(|found| found.kind == FileType::Symlink);
        let is_there = is_link
            && readlinkat(at.fd, OsStr::from_bytes(at.name), Vec::new())
                .is_ok_and(|found| found.to_bytes() == target);
        let published = meeting.claims.published.as_ref().map(|record| &record.tree);
        let before = published.and_then(|tree| Some(tree.entry(tree.find(at.path)?).1));
        self.damaged_links += u64::from(!is_there && before == Some(Node::Link { target }));
        is_there && !meeting.has_wrong_owner(at.index)
    }

    /// A file or link that has to be put in its place.
    fn add_other(
        &mut self,
        at: &Spot<'_>,
        found: Option<&Found>,
        meeting: &Meeting<'_>,
    ) -> Result<(), Errno> {
        self.is_wanted[at.index] = true;
        let Some(found) = found else { return Ok(()) };
        if found.kind == FileType::Directory {
            self.occupied.insert(at.path.to_vec());
            let directory = meeting.volume.dir().open_fd(at.path)?;
            if let Some(path) = foreign(&directory, at.path, meeting.claims)? {
                let path = one_line(&path);
                self.obstacle(at.path, &format!("is a directory, and `{path}` was not published"));
            }
        } else if !meeting.claims.have(at.path) {
            // Some file systems take names for the same that are not.
            let listed = names(at.fd.as_fd())?;
            if !listed.iter().any(|listed| listed.to_bytes() == at.name) {
                self.obstacle(at.path, "is there by another spelling");
            }
        }
        Ok(())
    }

    fn obstacle(&mut self, path: &[u8], what: &str) {
        self.obstacles.push(format!("`{}` {what}", one_line(path)));
    }
}

/// An entry of the tree in an open directory of the volume.
struct Spot<'s> {
    fd: &'s OwnedFd,
    name: &'s [u8],
    path: &'s [u8],
    index: usize,
}

/// Something below a directory that is not ours.
fn foreign(directory: &OwnedFd, path: &[u8], claims: &Claims) -> Result<Option<Vec<u8>>, Errno> {
    for name in names(directory.as_fd())? {
        let name = name.to_bytes();
        let path = join(path, name);
        if !claims.own(directory, name, &path)? {
            return Ok(Some(path));
        }
        if look(directory, name)?.is_some_and(|found| found.kind == FileType::Directory) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below =
                rustix::fs::openat(directory, OsStr::from_bytes(name), flags, Mode::empty())?;
            if let Some(path) = foreign(&below, &path, claims)? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Whether a directory is on another file system than the root of the volume, or mounted below it:
/// nothing can be moved there.
fn is_elsewhere(volume: impl AsFd, path: &[u8]) -> bool {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat2(volume, OsStr::from_bytes(path), flags, Mode::empty(), resolve);
    opened.is_err_and(|errno| errno == Errno::XDEV)
}
