//! Publishes plain files (`--layout files`), for consumers that cannot follow links. Each file changes
//! by one rename, so that readers never see a part of it. While a run puts files in place, readers
//! may see files of the old and of the new tree beside each other.
//!
//! 1. Remove what killed runs have staged, and scan the source.
//! 2. Compare it with the tree that was published last, and read the volume ([`claims`]).
//! 3. Find the changes and [`obstacles`] ([`changes`]). If the volume needs no change, end here.
//! 4. Verify the checksums of the source, and ensure that the volume has space.
//! 5. Copy new and changed files into a staging directory, and sync them ([`staging`]). If the tree is
//!    to be checked, copy all files, and check them.
//! 6. Claim the files of the new tree, so that the next run knows them if this one is killed.
//! 7. Move each staged file, and each new directory with its entries, to its name ([`apply`]).
//! 8. Sync, and remove the files that the new tree does not have ([`stale`]).
//! 9. Set the modes and owners of directories, sync, and turn the claim into the published one.
//!
//! If a step before 7 fails, the published files are unchanged. After that, the next run completes the
//! publication. If the volume gives other modes to a test file than step 2 assumed, the run starts
//! again at step 1 with those modes.

mod apply;
mod changes;
pub mod claims;
pub mod entry;
mod obstacles;
pub mod publication;
pub mod staging;
pub mod stale;

use anyhow::{Result, bail};
use diagnostics::exit::misconfigured;
use diagnostics::report::Report;
use published_tree::dir::{Dir, unique_suffix};
use published_tree::progress::Progress;
use published_tree::volume::Volume;

use crate::atomic::hooks::{Hooks, ensure_space};
use crate::atomic::publish::Outcome;
use crate::copy::durable::Durability;
use crate::source::PublishOptions;
use crate::source::checksums::Checksums;
use crate::state::lock::Lock;
use apply::Applier;
use claims::{Claims, FixedModes};
use publication::{Inputs, Publication};
use staging::Staging;

/// How often a publication starts again because the volume gives other modes than before.
const MAX_ATTEMPTS: usize = 3;
/// The warning about a volume with [`FixedModes`].
pub const FIXED_MODES_WARNING: &str =
    "the volume keeps no permission bits: all files have the modes that it gives";

/// Publishes `source` as plain files, unless they are published already. When this returns,
/// everything is on the disk.
///
/// # Errors
/// Fails if the source must not be published or cannot be read, something on the volume is in the
/// way, or the volume cannot be written.
pub fn publish(
    source: &Dir,
    volume: &Volume,
    lock: &Lock,
    claims: &Claims,
    options: &PublishOptions,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Outcome> {
    // Step 1.
    staging::remove_leftovers(volume, lock)?;
    let live = volume.live_name()?;
    let mut fixed_modes = claims.fixed_modes();
    for _ in 0..MAX_ATTEMPTS {
        // Steps 1 to 3.
        let atomic_version = live.as_deref();
        let stage_all = hooks.has_checks();
        let inputs = Inputs { source, volume, claims, atomic_version, fixed_modes, stage_all };
        let (publication, checksums) = Publication::prepare(inputs, options, progress)?;
        publication.changes.obstacles.check(volume)?;
        if let Some(digest) = publication.unchanged_digest() {
            // A run that was killed may not have synced its record.
            claims::find_dir(volume)?.map_or(Ok(()), |dir| claims::sync(&dir))?;
            return Ok(publication.outcome(false, 0, digest));
        }

        // Step 4.
        let known_hash = |index| publication.known_hash(index);
        checksums.verify(&publication.tree, source, known_hash, progress)?;
        ensure_space(volume, &[publication.copied()], 0, hooks)?;

        // Steps 5 to 9.
        let attempt = publish_staged(publication, &checksums, hooks);
        if attempt.is_err() {
            claims::remove_empty_dirs(volume);
        }
        match attempt? {
            Attempt::Published(outcome) => {
                if fixed_modes.is_some() {
                    hooks.warn(FIXED_MODES_WARNING.to_owned());
                }
                return Ok(outcome);
            }
            Attempt::OtherModes(modes) => fixed_modes = modes,
        }
    }
    let path = volume.dir().display_path(b"");
    bail!("`{}` gives other permission bits each time", path.display())
}

/// The result of one attempt to publish.
enum Attempt {
    Published(Outcome),
    /// The volume is unchanged, since it gives other modes than the publication was prepared for.
    OtherModes(Option<FixedModes>),
}

fn publish_staged(
    publication: Publication<'_>,
    checksums: &Checksums,
    hooks: &mut dyn Hooks,
) -> Result<Attempt> {
    let suffix = unique_suffix();
    let staging = Staging::create(publication.inputs.volume, &suffix)?;
    let attempt = staging.fixed_modes().and_then(|found| {
        if found != publication.inputs.fixed_modes {
            return Ok(Attempt::OtherModes(found));
        }
        publication.publish(&staging, &suffix, checksums, hooks).map(Attempt::Published)
    });
    let removed = staging.remove();
    attempt.and_then(|attempt| removed.map(|()| attempt))
}

/// Removes all claimed plain files, after a version of the atomic layout has become live. Returns
/// whether a file was removed.
///
/// # Errors
/// Fails if a file cannot be removed.
pub fn remove_all(volume: &Volume, report: &mut Report) -> Result<bool> {
    // A directory of claims that cannot be read must not fail the publication: its files stay.
    if !matches!(claims::find_dir(volume), Ok(Some(_))) {
        return Ok(false);
    }
    let disk = Durability::start(volume.dir())?;
    let mut applier = Applier::new(volume, &disk);
    applier.remove_stale(&Claims::of(volume, report)?, |_| false)?;
    applier.sync()?;
    claims::remove_all(volume)?;
    Ok(applier.has_removed)
}

/// Refuses a rollback on a volume of plain files, which has no earlier versions.
///
/// # Errors
/// Fails with a configuration error if the volume holds published plain files.
pub fn refuse_rollback(volume: &Volume) -> Result<()> {
    if !claims::record_names(volume)?.is_empty() {
        return Err(misconfigured(format_args!(
            "`{}` holds plain files (--layout files): no earlier versions are kept",
            volume.dir().display_path(b"").display()
        )));
    }
    Ok(())
}
