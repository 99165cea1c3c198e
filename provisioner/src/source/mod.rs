//! Reads the tree to publish from its source.
//!
//! 1. Scan it ([`mod@scan`]), and refuse what must not be published.
//! 2. Apply the [`modes`] of the options. [`owner`] is applied to the copies.
//! 3. Read its [`checksums`]. They are verified before anything goes live.

pub mod checksums;
pub mod link_targets;
pub mod modes;
pub mod owner;
pub mod scan;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use published_tree::dir::Dir;
use published_tree::tree::Tree;

use checksums::Checksums;
use modes::Modes;
use owner::Owner;
use scan::scan;

/// What the command line asks of a publication.
#[derive(Clone, Copy, Default)]
pub struct PublishOptions {
    /// Accept a source without any entry.
    pub allow_empty: bool,
    /// Refuse files that `SHA256SUMS` does not list.
    pub require_checksums: bool,
    /// Accept that names are missing for a moment when plain files become links.
    pub allow_gap: bool,
    /// Modes other than those of the source.
    pub modes: Modes,
    /// The owner of the published files, if not the user of this process.
    pub owner: Option<Owner>,
}

/// Scans a source, applies the modes, and reads its checksums. The files are not read yet.
///
/// # Errors
/// Fails if the source cannot be read, must not be published, or is empty without permission.
pub fn read(source: &Dir, options: &PublishOptions) -> Result<(Tree, Checksums)> {
    let mut tree = scan(source)?;
    options.modes.apply(&mut tree);
    if tree.is_empty() && !options.allow_empty {
        let path = source.display_path(b"");
        return Err(misconfigured(format_args!(
            "`{}` is empty: --allow-empty publishes it all the same",
            path.display()
        )));
    }
    let checksums = Checksums::read(&tree, source, options.require_checksums)?;
    Ok((tree, checksums))
}
