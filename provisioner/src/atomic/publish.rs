//! Publishes a source to a volume in the atomic layout.
//!
//! 1. Scan the source, and read the manifest of the live version at the same time.
//! 2. Compare both by content, and look up the names at the top of the source on the volume.
//! 3. Decide: `Unchanged`, `Relink`, `Migrate` or `NewVersion`.
//! 4. `Unchanged` and `Relink` repair the links, sync the volume, and end here.
//! 5. Verify the checksums of the source, and ensure that the volume has space.
//! 6. `Migrate` replaces plain files at the top of the volume by links to copies of them.
//! 7. Copy the tree into a new version, write its manifest, sync everything to the disk, and check it.
//! 8. Make the new version live ([`activate`](super::activate)).
//!
//! If step 7 or 8 fails, [`undo`](super::undo) makes the version before live again.

use anyhow::Result;
use published_tree::dir::{Dir, unique_suffix};
use published_tree::parallel::both;
use published_tree::progress::Progress;
use published_tree::reader::OpenTree;
use published_tree::tree::{Hash, Node, Totals, Tree};
use published_tree::volume::{Published, Volume};

use crate::atomic::activate::{VolumeState, activate};
use crate::atomic::hooks::{Hooks, ensure_space};
use crate::atomic::links::{self, TopNames};
use crate::atomic::migrate::replace_with_gap;
use crate::atomic::undo::{Attempt, undo};
use crate::atomic::version::{NewVersion, VersionName};
use crate::copy::compare::{Comparison, compare, compare_with_nothing};
use crate::copy::stage::{Origin, stage};
use crate::copy::wrong_owner::find_wrong_owners;
use crate::source::checksums::Checksums;
use crate::source::{self, PublishOptions};

/// The result of a publication.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the volume was changed.
    pub is_published: bool,
    /// How the source differed from the live tree.
    pub comparison: Comparison,
    /// Bytes copied from the source.
    pub bytes: u64,
    /// The digest of the live version.
    pub digest: Hash,
    /// The size of its tree.
    pub totals: Totals,
    /// The version that it has replaced.
    pub before: Option<String>,
}

/// How a publication goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The live version equals the source, and its links are complete.
    Unchanged,
    /// The live version equals the source, but its links do not match.
    Relink,
    /// A new version is needed.
    NewVersion,
    /// Plain files must become links first, without a gap. Then a new version is needed.
    Migrate,
}

/// What a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Whether a live version equals the source.
    pub is_live: bool,
    /// Whether links are missing or stale.
    pub has_wrong_links: bool,
    /// Whether plain files stand where links belong.
    pub has_plain_files: bool,
    /// Whether names may be missing for a moment when plain files become links.
    pub allow_gap: bool,
}

/// Decides how a publication goes on.
pub fn decide(facts: Facts) -> Decision {
    match facts {
        Facts { has_plain_files: true, allow_gap: false, .. } => Decision::Migrate,
        Facts { is_live: false, .. } => Decision::NewVersion,
        Facts { has_plain_files: false, has_wrong_links: false, .. } => Decision::Unchanged,
        Facts { .. } => Decision::Relink,
    }
}

/// Publishes `source`, unless it is live already. When this returns, everything is on the disk. If it
/// fails, the version before is live.
///
/// # Errors
/// Fails if the source must not be published or cannot be read, or the volume cannot be written.
pub fn publish(
    source: &Dir,
    volume: &Volume,
    options: &PublishOptions,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Outcome> {
    // Steps 1 and 2.
    let (read, live) = both(|| source::read(source, options), || volume.live());
    let ((tree, checksums), live) = (read?, live?);
    let state = VolumeState { names: TopNames::of(volume, &tree)?, live };
    let published = state.live.as_ref().and_then(|live| live.published.as_ref());
    let opened = OpenTree { tree: &tree, dir: source };
    let comparison = compare_with_live(opened, published, options, progress)?;

    // Step 3.
    let decision = decide(Facts {
        is_live: published.is_some() && comparison.is_same(),
        has_wrong_links: !state.names.missing.is_empty()
            || !links::stale(volume, &tree)?.is_empty(),
        has_plain_files: !state.names.plain.is_empty(),
        allow_gap: options.allow_gap,
    });
    let publication = Publication { volume, options, progress, checksums, comparison, state };
    match decision {
        Decision::Unchanged | Decision::Relink => publication.relink(&tree, decision, hooks),
        Decision::NewVersion | Decision::Migrate => {
            publication.publish_version(source, tree, decision, hooks)
        }
    }
}

/// Compares the source with the live version, including the owner that was asked for.
///
/// # Errors
/// Fails if the source cannot be read.
pub fn compare_with_live(
    source: OpenTree<'_>,
    published: Option<&Published>,
    options: &PublishOptions,
    progress: &Progress,
) -> Result<Comparison> {
    let Some(Published { tree, dir, publish_time, .. }) = published else {
        return Ok(compare_with_nothing(source.tree));
    };
    let mut comparison = compare(source, OpenTree { tree, dir }, *publish_time, progress)?;
    find_wrong_owners(source.tree, &mut comparison, dir, options.owner, true);
    Ok(comparison)
}

/// A publication after the decision.
struct Publication<'p> {
    volume: &'p Volume,
    options: &'p PublishOptions,
    progress: &'p Progress,
    checksums: Checksums,
    comparison: Comparison,
    state: VolumeState,
}

impl Publication<'_> {
    /// Makes the links match the live version (step 4).
    fn relink(self, tree: &Tree, decision: Decision, hooks: &mut dyn Hooks) -> Result<Outcome> {
        let (volume, names) = (self.volume, &self.state.names);
        let published = self.published().expect("a live version equals the source");
        if decision == Decision::Relink {
            hooks.before_change(&published.digest, &counts(&self.comparison, 0))?;
        }
        replace_with_gap(volume, &names.plain, &unique_suffix())?;
        let has_repaired = links::repair(volume, tree, &names.missing)?;
        links::repair_after_race(volume, self.state.live_name().unwrap_or_default())?;
        // A run that was killed after the switch may not have synced it.
        volume.sync()?;
        let (is_published, digest) = (has_repaired || !names.plain.is_empty(), published.digest);
        let (comparison, totals) = (self.comparison, tree.totals());
        Ok(Outcome { is_published, comparison, bytes: 0, digest, totals, before: None })
    }

    /// Publishes a new version (steps 5 to 8).
    fn publish_version(
        mut self,
        source: &Dir,
        mut tree: Tree,
        decision: Decision,
        hooks: &mut dyn Hooks,
    ) -> Result<Outcome> {
        let volume = self.volume;
        // Step 5.
        let known_hash = |index| self.known_hash(index);
        self.checksums.verify(&tree, source, known_hash, self.progress)?;
        ensure_space(volume, &[&tree], self.state.names.links_to_add(), hooks)?;

        // Step 6.
        if decision == Decision::Migrate {
            self.state.migrate(volume, &tree, hooks, self.progress)?;
            // The copies of plain files are no publication to compare with.
            self.comparison = compare_with_nothing(&tree);
        }

        // Steps 7 and 8.
        let version = VersionName::unique();
        let done = self.create_and_activate(source, &mut tree, &version, hooks);
        let (bytes, digest) = done.map_err(|error| {
            let attempt = Attempt {
                version: &version,
                trees: &[&tree],
                before: self.state.live_name(),
                added: &self.state.names.missing,
                replaced: &self.state.names.plain,
            };
            undo(volume, &attempt, error)
        })?;
        Ok(Outcome {
            is_published: true,
            bytes,
            digest,
            totals: tree.totals(),
            before: self.state.live_name().map(str::to_owned),
            comparison: self.comparison,
        })
    }

    /// Returns the number of bytes copied from the source, and the digest.
    fn create_and_activate(
        &self,
        source: &Dir,
        tree: &mut Tree,
        version: &VersionName,
        hooks: &mut dyn Hooks,
    ) -> Result<(u64, Hash)> {
        let live = self.published().map(|published| {
            (OpenTree { tree: &published.tree, dir: &published.dir }, &self.comparison)
        });
        let new_bytes = self.comparison.new_bytes(tree);
        let new = NewVersion::create(self.volume, version)?;
        let to = new.destination(self.options.owner, self.progress);
        let bytes = stage(tree, &Origin { source, live }, &to)?;
        self.checksums.verify_copied(tree)?;
        let digest = new.seal(tree, self.progress)?;
        new.complete(tree, &digest, self.volume, hooks)?;
        hooks.before_change(&digest, &counts(&self.comparison, new_bytes))?;
        activate(self.volume, &self.state, version, tree)?;
        Ok((bytes, digest))
    }

    fn published(&self) -> Option<&Published> {
        self.state.live.as_ref()?.published.as_ref()
    }

    /// The hash of a file that equals its live copy.
    fn known_hash(&self, index: usize) -> Option<Hash> {
        let live = self.comparison.copy_of(index)?;
        match self.published()?.tree.entry(live).1 {
            Node::File { hash, .. } => Some(*hash),
            _ => None,
        }
    }
}

/// The numbers of a publication, for notifications.
pub fn counts(comparison: &Comparison, bytes: u64) -> Vec<(&'static str, u64)> {
    comparison.counts().into_iter().chain([("bytes", bytes)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(is_live: bool, wrong_links: bool, plain_files: bool, allow_gap: bool) -> Decision {
        decide(Facts {
            is_live,
            has_wrong_links: wrong_links,
            has_plain_files: plain_files,
            allow_gap,
        })
    }

    #[test]
    fn equal_content_needs_no_new_version() {
        assert_eq!(decision(true, false, false, false), Decision::Unchanged);
        assert_eq!(decision(true, false, false, true), Decision::Unchanged);
        assert_eq!(decision(true, true, false, false), Decision::Relink);
        assert_eq!(decision(true, false, true, true), Decision::Relink);
    }

    #[test]
    fn new_content_needs_a_new_version() {
        for wrong_links in [false, true] {
            assert_eq!(decision(false, wrong_links, false, false), Decision::NewVersion);
            assert_eq!(decision(false, wrong_links, true, true), Decision::NewVersion);
        }
    }

    #[test]
    fn plain_files_become_links_first_unless_a_gap_is_allowed() {
        for is_live in [false, true] {
            for wrong_links in [false, true] {
                assert_eq!(decision(is_live, wrong_links, true, false), Decision::Migrate);
            }
        }
    }
}
