//! What has to go of plain files that were published before. Nothing is changed here.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use published_tree::dir::names;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::{Link, Volume};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::claims::Claims;
use super::look;

/// An entry that is ours, and not to be kept.
pub struct Stale<'s> {
    /// Its name.
    pub name: &'s [u8],
    /// Its path.
    pub path: Vec<u8>,
    /// Whether it was published as a directory, which goes if nothing is in it.
    pub is_directory: bool,
}

/// What of a directory that is open on a volume is ours and not to be kept: files that are not what
/// was published stay where nobody knows whose they are.
///
/// # Errors
/// Something cannot be looked at.
pub fn within<'s>(
    fd: &OwnedFd,
    directory: DirectoryRef<'s>,
    volume: &Volume,
    claims: &Claims,
    is_kept: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Stale<'s>>> {
    let is_root = directory.path().is_empty();
    let mut stale = Vec::new();
    for (name, node) in directory.entries() {
        let path = join(directory.path(), name);
        if is_kept(&path) {
            continue;
        }
        let is_layout = || is_root && volume.link(name).is_ok_and(|link| link == Link::Ours);
        let is_ours = claims
            .own(fd, name, &path)
            .map_err(|errno| volume.dir().error("look at", &path, errno))?;
        if !is_ours || is_layout() {
            continue;
        }
        let is_directory = matches!(node, Node::Directory { .. });
        // What another claim says of it may be true instead.
        let found = look(fd, name).map_err(|errno| volume.dir().error("stat", &path, errno))?;
        if found.is_some_and(|found| is_directory == (found.kind == FileType::Directory)) {
            stale.push(Stale { name, path, is_directory });
        }
    }
    Ok(stale)
}

/// The paths that go if all is removed that is ours and not kept, and whether each is a directory.
///
/// # Errors
/// Something cannot be looked at.
pub fn all(
    volume: &Volume,
    claims: &Claims,
    is_kept: impl Fn(&[u8]) -> bool,
) -> Result<BTreeMap<Vec<u8>, bool>> {
    let mut gone = BTreeMap::new();
    for tree in claims.trees() {
        add(tree, volume, claims, &is_kept, &mut gone)?;
    }
    Ok(gone)
}

/// Adds those of one claim, in the order in which a run removes them.
fn add(
    tree: &Tree,
    volume: &Volume,
    claims: &Claims,
    is_kept: impl Fn(&[u8]) -> bool,
    gone: &mut BTreeMap<Vec<u8>, bool>,
) -> Result<()> {
    let dir = volume.dir();
    let directories: Vec<_> = tree.directories().collect();
    for directory in directories.into_iter().rev() {
        let fd = match dir.open_fd(directory.path()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            opened => opened.map_err(|errno| dir.error("open", directory.path(), errno))?,
        };
        for Stale { path, is_directory, .. } in within(&fd, directory, volume, claims, &is_kept)? {
            let stays = || -> Result<bool, Errno> {
                let below = names(dir.open_fd(&path)?.as_fd())?;
                Ok(below.iter().any(|name| !gone.contains_key(&join(&path, name.to_bytes()))))
            };
            if !is_directory || !stays().map_err(|errno| dir.error("read", &path, errno))? {
                gone.insert(path, is_directory);
            }
        }
    }
    Ok(())
}
