//! What a publication or rollback needs of its run: free space on a full volume, check the new tree,
//! record notifications right before the switch, and collect warnings. [`Hooks`] keeps this layer free of the archive.

use anyhow::Result;
use published_tree::tree::{Hash, Tree};
use published_tree::volume::Volume;

use crate::check::Staged;
use crate::copy::space;

/// Called by publications and rollbacks.
pub trait Hooks {
    /// Removes an old version or archive to free space on the volume. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if it cannot be removed.
    fn free_space(&mut self) -> Result<bool>;

    /// Whether [`check`](Self::check) looks at the tree.
    fn has_checks(&self) -> bool;

    /// Called when a tree is complete and on the disk, before it can go live.
    ///
    /// # Errors
    /// Fails if the tree is refused, or could not be checked. The publication is undone.
    fn check(&mut self, staged: Staged<'_>) -> Result<()>;

    /// Called when version `digest` is complete, right before the first change that readers see.
    /// `counts` are named numbers for notifications, such as `("added", 3)`.
    ///
    /// # Errors
    /// The publication is undone.
    fn before_change(&mut self, digest: &Hash, counts: &[(&'static str, u64)]) -> Result<()>;

    /// Adds a warning to the report.
    fn warn(&mut self, message: String);
}

/// Ensures that the volume has space for `trees` and `links`, freeing as much as it takes.
///
/// # Errors
/// Says how much space is missing.
pub fn ensure_space(
    volume: &Volume,
    trees: &[&Tree],
    links: usize,
    hooks: &mut dyn Hooks,
) -> Result<()> {
    while let Err(error) = space::check(volume.dir(), trees, links) {
        if !hooks.free_space()? {
            return Err(error);
        }
    }
    Ok(())
}
