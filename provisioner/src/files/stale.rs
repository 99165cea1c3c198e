//! Finds claimed entries that the new tree does not have, and that a publication removes. Changes
//! nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use published_tree::dir::names;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::volume::{LinkState, Volume};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::claims::Claims;
use super::entry;

/// A claimed entry to be removed.
pub struct Stale<'s> {
    /// Its name.
    pub name: &'s [u8],
    /// Its path on the volume.
    pub path: Vec<u8>,
    /// Whether it is a directory, which is removed only if it is empty.
    pub is_directory: bool,
}

/// The stale entries of `directory`, a directory of a claimed tree that is open on the volume as
/// `fd`. Links of the atomic layout are not among them: they have replaced the claimed files.
///
/// # Errors
/// Fails if an entry cannot be read.
pub fn in_directory<'s>(
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
        let is_atomic_link =
            || is_root && volume.link_state(name).is_ok_and(|link| link == LinkState::Ours);
        let is_claimed = claims
            .covers(fd, name, &path)
            .map_err(|errno| volume.dir().error("look at", &path, errno))?;
        if !is_claimed || is_atomic_link() {
            continue;
        }
        let is_directory = matches!(node, Node::Directory { .. });
        // Another claim may cover it as another type. That claim's tree lists it too.
        let found =
            entry::metadata(fd, name).map_err(|errno| volume.dir().error("stat", &path, errno))?;
        if found.is_some_and(|found| is_directory == (found.kind == FileType::Directory)) {
            stale.push(Stale { name, path, is_directory });
        }
    }
    Ok(stale)
}

/// The paths of all stale entries on a volume, and whether each is a directory. A directory is among
/// them only if all its entries are.
///
/// # Errors
/// Fails if an entry cannot be read.
pub fn paths(
    volume: &Volume,
    claims: &Claims,
    is_kept: impl Fn(&[u8]) -> bool,
) -> Result<BTreeMap<Vec<u8>, bool>> {
    let mut stale = BTreeMap::new();
    for tree in claims.trees() {
        add_paths(tree, volume, claims, &is_kept, &mut stale)?;
    }
    Ok(stale)
}

/// Adds the stale entries of one claimed tree, the deepest directories first, as a run removes them.
fn add_paths(
    tree: &Tree,
    volume: &Volume,
    claims: &Claims,
    is_kept: impl Fn(&[u8]) -> bool,
    stale: &mut BTreeMap<Vec<u8>, bool>,
) -> Result<()> {
    let dir = volume.dir();
    let directories: Vec<_> = tree.directories().collect();
    for directory in directories.into_iter().rev() {
        let fd = match dir.open_fd(directory.path()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            opened => opened.map_err(|errno| dir.error("open", directory.path(), errno))?,
        };
        let found = in_directory(&fd, directory, volume, claims, &is_kept)?;
        for Stale { path, is_directory, .. } in found {
            let has_other_entries = || -> Result<bool, Errno> {
                let entries = names(dir.open_fd(&path)?.as_fd())?;
                Ok(entries.iter().any(|name| !stale.contains_key(&join(&path, name.to_bytes()))))
            };
            let stays = is_directory
                && has_other_entries().map_err(|errno| dir.error("read", &path, errno))?;
            if !stays {
                stale.insert(path, is_directory);
            }
        }
    }
    Ok(())
}
