//! The names at the top of a volume, which are links to what is live.

use std::collections::HashSet;
use std::ffi::CStr;

use anyhow::{Result, bail};

use crate::tree::Tree;
use crate::volume::{Link, Live, Volume};

/// The names at the top of the tree that have no link on the volume yet.
#[derive(Default)]
pub struct Names {
    /// Those of nothing.
    pub missing: Vec<Vec<u8>>,
    /// Those of something else.
    pub plain: Vec<Vec<u8>>,
}

impl Names {
    /// How many links are to be made.
    pub fn links(&self) -> usize {
        self.missing.len() + self.plain.len()
    }

    /// Looks at the volume for those of a tree.
    ///
    /// # Errors
    /// One cannot be looked at.
    pub fn of(volume: &Volume, tree: &Tree) -> Result<Self> {
        let mut names = Self::default();
        for (name, _) in tree.directories().take(1).flat_map(|root| root.entries()) {
            match volume.link(name)? {
                Link::Ours => {}
                Link::Missing => names.missing.push(name.to_vec()),
                Link::Foreign => names.plain.push(name.to_vec()),
            }
        }
        Ok(names)
    }
}

/// Makes the links of a tree that is live; whether there was anything to do. `ready` comes right
/// before that.
///
/// # Errors
/// One cannot be made or removed, or something else is in its place.
pub fn relink(volume: &Volume, tree: &Tree, ready: impl FnOnce()) -> Result<bool> {
    let names = Names::of(volume, tree)?;
    if let Some(name) = names.plain.first() {
        bail!("`{}` is not a link to what is live", volume.place().shown(name).display());
    }
    if !names.missing.is_empty() || !stale(volume, tree)?.is_empty() {
        ready();
    }
    repair(volume, tree, &names.missing)
}

/// Makes the links at the top what they should be; whether there was anything to do.
///
/// # Errors
/// One cannot be made or removed.
pub fn repair(volume: &Volume, tree: &Tree, missing: &[Vec<u8>]) -> Result<bool> {
    missing.iter().try_for_each(|name| volume.add_link(name))?;
    let names = top_names(tree);
    let has_removed = volume.remove_stale_links(|name| names.contains(name))?;
    Ok(has_removed || !missing.is_empty())
}

/// Our links on a volume that the tree has no name for.
///
/// # Errors
/// The volume cannot be read.
pub fn stale(volume: &Volume, tree: &Tree) -> Result<Vec<Box<CStr>>> {
    let names = top_names(tree);
    volume.stale_links(|name| names.contains(name))
}

fn top_names(tree: &Tree) -> HashSet<&[u8]> {
    let top = tree.directories().take(1).flat_map(|root| root.entries());
    top.map(|(name, _)| name).collect()
}

/// Without a lock, another writer may have made its own tree live since that of `settled` was: what
/// was removed here may be missing there, and is put back. Whether that was so.
///
/// # Errors
/// That cannot be done.
pub fn settle(volume: &Volume, settled: &str) -> Result<bool> {
    let mut live = settled.to_owned();
    while volume.live_name()?.is_some_and(|now| now != live) {
        let Some(Live { name, published: Some(published) }) = volume.live()? else { break };
        repair(volume, &published.tree, &Names::of(volume, &published.tree)?.missing)?;
        live = name;
    }
    Ok(live != settled)
}
