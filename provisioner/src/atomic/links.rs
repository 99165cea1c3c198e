//! Adds, removes and repairs the links at the top of a volume: one for each name at the top of the live
//! tree, through `..data`.

use std::collections::HashSet;
use std::ffi::CStr;

use anyhow::{Result, bail};
use published_tree::tree::Tree;
use published_tree::volume::{LinkState, LiveVersion, Volume};

/// The names at the top of a tree that have no link on the volume yet.
#[derive(Default)]
pub struct TopNames {
    /// Names without an entry on the volume.
    pub missing: Vec<Vec<u8>>,
    /// Names of plain files, directories or foreign links.
    pub plain: Vec<Vec<u8>>,
}

impl TopNames {
    /// Looks up the names at the top of `tree` on the volume.
    ///
    /// # Errors
    /// Fails if an entry cannot be read.
    pub fn of(volume: &Volume, tree: &Tree) -> Result<Self> {
        let mut names = Self::default();
        for (name, _) in tree.directories().take(1).flat_map(|root| root.entries()) {
            match volume.link_state(name)? {
                LinkState::Ours => {}
                LinkState::Missing => names.missing.push(name.to_vec()),
                LinkState::Foreign => names.plain.push(name.to_vec()),
            }
        }
        Ok(names)
    }

    /// How many links a publication adds.
    pub fn links_to_add(&self) -> usize {
        self.missing.len() + self.plain.len()
    }
}

/// Makes the links match the live tree. Returns whether any link was wrong; `before_change` is called
/// before the first change.
///
/// # Errors
/// Fails if a link cannot be added or removed, another entry is at its name, or `before_change` fails.
pub fn relink(
    volume: &Volume,
    tree: &Tree,
    before_change: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let names = TopNames::of(volume, tree)?;
    if let Some(name) = names.plain.first() {
        bail!("`{}` is not a link to the live version", volume.dir().display_path(name).display());
    }
    if !names.missing.is_empty() || !stale(volume, tree)?.is_empty() {
        before_change()?;
    }
    repair(volume, tree, &names.missing)
}

/// Adds the `missing` links, and removes stale ones. Returns whether there were any.
///
/// # Errors
/// Fails if a link cannot be added or removed.
pub fn repair(volume: &Volume, tree: &Tree, missing: &[Vec<u8>]) -> Result<bool> {
    missing.iter().try_for_each(|name| volume.add_link(name))?;
    let names = top_names(tree);
    let has_removed = volume.remove_stale_links(|name| names.contains(name))?;
    Ok(has_removed || !missing.is_empty())
}

/// The links on a volume whose names the tree does not have.
///
/// # Errors
/// Fails if the volume cannot be read.
pub fn stale(volume: &Volume, tree: &Tree) -> Result<Vec<Box<CStr>>> {
    let names = top_names(tree);
    volume.stale_links(|name| names.contains(name))
}

fn top_names(tree: &Tree) -> HashSet<&[u8]> {
    let top = tree.directories().take(1).flat_map(|root| root.entries());
    top.map(|(name, _)| name).collect()
}

/// Repairs the links again if another writer has made its version live since ours, `version`. On a
/// volume without locks, each of the two may have removed links that the other one needs. Returns
/// whether there was another version.
///
/// # Errors
/// Fails if the volume cannot be read or a link not repaired.
pub fn repair_after_race(volume: &Volume, version: &str) -> Result<bool> {
    let mut repaired = version.to_owned();
    while volume.live_name()?.is_some_and(|live| live != repaired) {
        let Some(LiveVersion { name, published: Some(published) }) = volume.live()? else { break };
        let names = TopNames::of(volume, &published.tree)?;
        repair(volume, &published.tree, &names.missing)?;
        repaired = name;
    }
    Ok(repaired != version)
}
