//! Makes a complete version live. Publications and rollbacks share these steps:
//!
//! 1. Add the links of names that have no entry on the volume. They lead nowhere yet, if the name is
//!    new, or already to the live version.
//! 2. Rename the link `..data`: readers see the new tree. Sync.
//! 3. Move plain files away where `--allow-gap` permits it, and add their links.
//! 4. Repair the links: remove stale ones, and add those that another writer has removed.

use anyhow::Result;
use published_tree::progress::Progress;
use published_tree::tree::Tree;
use published_tree::volume::{LiveVersion, Volume};

use crate::atomic::hooks::{Hooks, ensure_space};
use crate::atomic::links::{self, TopNames};
use crate::atomic::migrate::{Migration, replace_with_gap};
use crate::atomic::version::VersionName;

/// The state of a volume before a version goes live.
pub struct VolumeState {
    /// The names at the top of the tree that have no link yet.
    pub names: TopNames,
    /// The live version; `None` before the first publication.
    pub live: Option<LiveVersion>,
}

impl VolumeState {
    /// Prepares a volume for a rollback to `tree`: ensures the space for it, and replaces plain
    /// names by links.
    ///
    /// # Errors
    /// Fails if there is not enough space, or a plain name cannot be replaced.
    pub fn prepare(
        volume: &Volume,
        tree: &Tree,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Self> {
        let mut state = Self { names: TopNames::of(volume, tree)?, live: volume.live()? };
        ensure_space(volume, &[tree], state.names.links_to_add(), hooks)?;
        if !state.names.plain.is_empty() {
            state.migrate(volume, tree, hooks, progress)?;
        }
        Ok(state)
    }

    /// Replaces plain names by links to copies, without a gap, and reads the state again.
    ///
    /// # Errors
    /// Fails if a name cannot be copied or exchanged.
    pub fn migrate(
        &mut self,
        volume: &Volume,
        tree: &Tree,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<()> {
        let migration = Migration {
            volume,
            names: &self.names.plain,
            live: self.live.as_ref(),
            next: tree,
            links: self.names.links_to_add(),
        };
        migration.run(hooks, progress)?;
        self.names.plain.clear();
        self.live = volume.live()?;
        Ok(())
    }

    /// The name of the live version's directory.
    pub fn live_name(&self) -> Option<&str> {
        self.live.as_ref().map(|live| &live.name[..])
    }
}

/// Makes a complete version with `tree` live (steps 1 to 4). The caller undoes it on an error.
///
/// # Errors
/// Fails if a step does.
pub fn activate(
    volume: &Volume,
    state: &VolumeState,
    version: &VersionName,
    tree: &Tree,
) -> Result<()> {
    state.names.missing.iter().try_for_each(|name| volume.add_link(name))?;
    volume.switch(&version.name, &version.suffix)?;
    replace_with_gap(volume, &state.names.plain, &version.suffix)?;
    let missing = TopNames::of(volume, tree)?.missing;
    let has_repaired = links::repair(volume, tree, &missing)?;
    if links::repair_after_race(volume, &version.name)? || has_repaired {
        volume.sync()?;
    }
    Ok(())
}
