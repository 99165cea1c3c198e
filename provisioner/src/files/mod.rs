//! `--layout files`: plain files on the volume itself, for consumers that cannot follow links.
//!
//! All that is new is staged first, where nobody looks, and brought to the disk; then each file takes
//! its place by one rename, a directory that was not there with all that is in it, and what is not
//! in the tree any more is removed. Readers never see a part of a file, but they may see files of
//! both trees beside each other meanwhile.
//!
//! [`claims`] knows what is ours, [`plan`] what has to be done, [`stale`] what has to go,
//! [`publication`] is all of it for one tree; [`staging`] is where new files wait, [`work`] puts them
//! in place.

pub mod claims;
pub mod plan;
pub mod publication;
pub mod staging;
pub mod stale;
pub mod work;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use diagnostics::exit::misconfigured;
use diagnostics::report::Report;
use published_tree::dir::Dir;
use published_tree::dir::unique_suffix;
use published_tree::progress::Progress;
use published_tree::volume::Volume;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use rustix::io::Errno;

use crate::atomic::hooks::{Hooks, ensure_space};
use crate::atomic::publish::Outcome;
use crate::copy::durable::Durability;
use crate::source::PublishOptions;
use crate::source::checksums::Checksums;
use crate::state::lock::Lock;
use claims::{Claims, FixedModes};
use publication::{Ground, Publication};
use staging::Staging;
use work::Work;

/// How often a publication begins anew since the volume gives other modes than it did.
const TRIES: usize = 3;
/// What a run says of a volume with modes of its own.
pub const OWN_MODES: &str = "the volume keeps no permission bits: all are its own";

/// Publishes what is at `source` as plain files, unless just that is there. Before it returns, all
/// of it is on the disk; if it fails before everything is staged, what was there is there.
///
/// # Errors
/// The source must not be published, or cannot be read; something on the volume is in the way, or
/// it cannot be written.
pub fn publish(
    source: &Dir,
    volume: &Volume,
    lock: &Lock,
    claims: &Claims,
    options: &PublishOptions,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Outcome> {
    staging::clean(volume, lock)?;
    let linked = volume.live_name()?;
    let mut fixed_modes = claims.fixed_modes();
    for _ in 0..TRIES {
        let ground = Ground { source, volume, claims, linked: linked.as_deref() };
        let (publication, checksums) =
            Publication::prepare(ground, options, fixed_modes, progress)?;
        publication.plan.check(volume)?;
        if let Some(digest) = publication.live() {
            // The run that published it may have died before that was on the disk.
            claims::find(volume)?.map_or(Ok(()), |dir| claims::sync(&dir))?;
            return Ok(publication.outcome(false, 0, digest));
        }
        let known = |index| publication.known(index).copied();
        checksums.verify(&publication.tree, source, known, progress)?;
        ensure_space(volume, &[&publication.part], 0, hooks)?;
        let done = publish_staged(publication, &checksums, fixed_modes, hooks);
        if done.is_err() {
            claims::tidy(volume);
        }
        match done? {
            Staged::Published(outcome) => {
                if fixed_modes.is_some() {
                    hooks.warn(OWN_MODES.into());
                }
                return Ok(outcome);
            }
            Staged::With(modes) => fixed_modes = modes,
        }
    }
    bail!("`{}` gives other permission bits each time", volume.dir().display_path(b"").display())
}

/// What came of a publication.
enum Staged {
    Published(Outcome),
    /// Nothing, since the modes are others on the volume.
    With(Option<FixedModes>),
}

fn publish_staged(
    publication: Publication<'_>,
    checksums: &Checksums,
    fixed_modes: Option<FixedModes>,
    hooks: &mut dyn Hooks,
) -> Result<Staged> {
    let tag = unique_suffix();
    let staging = Staging::make(publication.ground.volume, &tag)?;
    let done = staging.fixed_modes().and_then(|found| {
        if found != fixed_modes {
            return Ok(Staged::With(found));
        }
        publication.publish(&staging, &tag, checksums, fixed_modes, hooks).map(Staged::Published)
    });
    let removed = staging.remove();
    done.and_then(|done| removed.map(|()| done))
}

/// Gives up what was published as plain files, after a tree went live by links; whether anything of
/// it was still to be seen.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_all(volume: &Volume, report: &mut Report) -> Result<bool> {
    // What cannot be read must not keep a tree from going live: then nothing is known to be ours.
    if !matches!(claims::find(volume), Ok(Some(_))) {
        return Ok(false);
    }
    let disk = Durability::start(volume.dir())?;
    let mut work = Work::on(volume, &disk);
    work.remove(&Claims::of(volume, report)?, |_| false)?;
    work.sync()?;
    staging::forget(volume)?;
    Ok(work.has_removed)
}

/// Refuses to go back on a volume of plain files.
///
/// # Errors
/// It is one.
pub fn refuse_rollback(volume: &Volume) -> Result<()> {
    if claims::are_any(volume)? {
        return Err(misconfigured(format_args!(
            "`{}` holds plain files (--layout files): earlier versions are not kept of them",
            volume.dir().display_path(b"").display()
        )));
    }
    Ok(())
}

/// What stands at a name.
pub struct Found {
    /// What it is.
    pub kind: FileType,
    /// Its permission bits.
    pub mode: u16,
    /// In bytes.
    pub size: u64,
}

/// What stands at a name in an open directory, if anything does.
///
/// # Errors
/// Those of the system.
pub fn look(directory: impl AsFd, name: &[u8]) -> Result<Option<Found>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::SIZE;
    match statx(directory, OsStr::from_bytes(name), flags, wanted) {
        Ok(stat) => Ok(Some(Found {
            kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
            mode: stat.stx_mode & 0o7777,
            size: stat.stx_size,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
