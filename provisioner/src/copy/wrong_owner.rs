//! Finds entries of the live tree whose owner is not that of `--owner`. They must be replaced even if
//! their content is the same.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use published_tree::dir::Dir;
use published_tree::tree::{Node, Tree};
use rustix::fs::readlinkat;

use crate::copy::compare::Comparison;
use crate::source::owner::Owner;

/// Returns the indices in `source` of live files and links that equal those of the source, but do
/// not belong to `owner`. They count as damaged in `comparison`. A directory with another owner
/// counts as another difference; the root only if `has_own_root`: it is not the volume itself.
pub fn find_wrong_owners(
    source: &Tree,
    comparison: &mut Comparison,
    live: &Dir,
    owner: Option<Owner>,
    has_own_root: bool,
) -> Vec<usize> {
    let Some(owner) = owner else { return Vec::new() };
    let mut wrong = Vec::new();
    for directory in source.directories() {
        // A missing directory is a difference that the comparison has found.
        let Ok(fd) = live.open_fd(directory.path()) else { continue };
        if (has_own_root || !directory.path().is_empty()) && !owner.owns(&fd, b"").unwrap_or(true) {
            comparison.differs_otherwise = true;
        }
        for index in directory.range() {
            let (name, node) = source.entry(index);
            let is_same = match node {
                Node::Directory { .. } => false,
                Node::File { .. } => comparison.copy_of(index).is_some(),
                Node::Link { target } => leads_to(&fd, name, target),
            };
            if is_same && !owner.owns(&fd, name).unwrap_or(true) {
                wrong.push(index);
            }
        }
    }
    comparison.damaged += wrong.len() as u64;
    comparison.unchanged = comparison.unchanged.saturating_sub(wrong.len() as u64);
    wrong
}

fn leads_to(directory: &OwnedFd, name: &[u8], target: &[u8]) -> bool {
    readlinkat(directory, OsStr::from_bytes(name), Vec::new())
        .is_ok_and(|found: CString| found.to_bytes() == target)
}

/// Whether every entry of a live tree belongs to `owner`, if one was asked for.
pub fn owns_all(tree: &Tree, live: &Dir, owner: Option<Owner>) -> bool {
    let Some(owner) = owner else { return true };
    tree.directories().all(|directory| {
        live.open_fd(directory.path()).is_ok_and(|fd| {
            let owns = |name: &[u8]| owner.owns(&fd, name).unwrap_or(false);
            owns(b"") && directory.entries().all(|(name, _)| owns(name))
        })
    })
}
