//! What of a live tree belongs to others than the owner it is to have.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::readlinkat;

use crate::compare::Comparison;
use crate::owner::Owner;
use crate::place::Place;
use crate::tree::{Node, Tree};

/// What of a live tree belongs to others than the owner that a source is to have: of what is the
/// same in both, the places in the source, which are counted as damaged from now on; and of its
/// directories, which must be others, or not.
///
/// The root counts if it is the tree's alone.
pub fn strangers(
    (source, comparison): (&Tree, &mut Comparison),
    live: &Place,
    is_root_ours: bool,
) -> Vec<usize> {
    let Some(owner) = source.owner() else { return Vec::new() };
    let mut strangers = Vec::new();
    for directory in source.directories() {
        // What is missing belongs to nobody.
        let Ok(fd) = live.directory(directory.path()) else { continue };
        if (is_root_ours || !directory.path().is_empty()) && !owner.has(&fd, b"").unwrap_or(true) {
            comparison.differs_otherwise = true;
        }
        for index in directory.range() {
            let (name, node) = source.entry(index);
            let is_same = match node {
                Node::Directory { .. } => false,
                Node::File { .. } => comparison.copy_of(index).is_some(),
                Node::Link { target } => leads_to(&fd, name, target),
            };
            if is_same && !owner.has(&fd, name).unwrap_or(true) {
                strangers.push(index);
            }
        }
    }
    comparison.damaged += strangers.len() as u64;
    comparison.unchanged = comparison.unchanged.saturating_sub(strangers.len() as u64);
    strangers
}

fn leads_to(directory: &OwnedFd, name: &[u8], target: &[u8]) -> bool {
    readlinkat(directory, OsStr::from_bytes(name), Vec::new())
        .is_ok_and(|found: CString| found.to_bytes() == target)
}

/// Whether a live tree belongs, all of it, to the owner it is to have.
pub fn has_all(tree: &Tree, live: &Place, owner: Option<Owner>) -> bool {
    let Some(owner) = owner else { return true };
    tree.directories().all(|directory| {
        live.directory(directory.path()).is_ok_and(|fd| {
            let is_ours = |name: &[u8]| owner.has(&fd, name).unwrap_or(false);
            is_ours(b"") && directory.entries().all(|(name, _)| is_ours(name))
        })
    })
}
