//! `--layout files`: plain files on the volume itself, for consumers that cannot follow links.
//!
//! All that is new is staged first, where nobody looks, and brought to the disk; then each file takes
//! its place by one rename, a directory that was not there with all that is in it, and what is not
//! in the tree any more is removed. Readers never see a part of a file, but they may see files of
//! both trees beside each other meanwhile.
//!
//! [`claims`] knows what is ours, [`plan`] what has to be done, [`staging`] is where new files wait,
//! [`work`] puts them in place.

pub mod claims;
pub mod plan;
pub mod staging;
pub mod work;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use diagnostics::exit::misconfigured;
use diagnostics::report::Report;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx, unlinkat};
use rustix::io::Errno;

use crate::compare::{Comparison, compare_files};
use crate::durable::Durability;
use crate::lock::Lock;
use crate::owner::strangers;
use crate::place::Place;
use crate::publish::{Allow, Announce, Outcome, check_space, tag, take_up};
use crate::stage::{Origin, stage};
use crate::sums::Sums;
use crate::superseded::give_up;
use crate::tree::scan::check_targets;
use crate::tree::{Hash, Node, Tree};
use crate::volume::{DATA, Volume};
use claims::{Claims, FixedModes};
use plan::{Meeting, Plan};
use staging::Staging;
use work::Work;

/// How often a publication begins anew since the volume gives other modes than it did.
const TRIES: usize = 3;

/// What is published from where to where.
#[derive(Clone, Copy)]
struct Ground<'g> {
    source: &'g Place,
    volume: &'g Volume,
    claims: &'g Claims,
    /// The version that is live by links, if that is how the volume was published to.
    linked: Option<&'g str>,
}

/// A publication that is known in all its parts, before anything is written.
struct Publication<'p> {
    ground: Ground<'p>,
    tree: Tree,
    comparison: Comparison,
    plan: Plan,
    /// What has to be made of the tree, and where that stands in it.
    part: Tree,
    places: Vec<usize>,
}

/// Publishes what is at `source` as plain files, unless just that is there. Before it returns, all
/// of it is on the disk; if it fails before everything is staged, what was there is there.
///
/// # Errors
/// The source must not be published, or cannot be read; something on the volume is in the way, or
/// it cannot be written.
pub fn publish(
    source: &Place,
    volume: &Volume,
    allow: Allow,
    (lock, grace): (&Lock, Duration),
    report: &mut Report,
    announce: Announce<'_>,
) -> Result<Outcome> {
    staging::clean(volume, lock)?;
    let linked = volume.live_name()?;
    let claims = Claims::of(volume, report)?;
    let mut fixed_modes = claims.published.as_ref().and_then(|record| record.fixed_modes);
    for _ in 0..TRIES {
        let (mut tree, sums) = take_up(source, allow)?;
        if let Some(FixedModes { file, directory }) = fixed_modes {
            tree.change_modes(|_, is_directory| if is_directory { directory } else { file });
        }
        let ground = Ground { source, volume, claims: &claims, linked: linked.as_deref() };
        let publication = Publication::prepare(ground, tree)?;
        if let Some(digest) = publication.live() {
            // The run that published it may have died before that was on the disk.
            claims::find(volume)?.map_or(Ok(()), |place| claims::sync(&place))?;
            return Ok(publication.outcome(false, 0, digest));
        }
        let known = |index| publication.known(index).copied();
        sums.check(&publication.tree, source, known)?;
        let mut make_room = || give_up(volume, grace, None, report);
        check_space(volume, &[&publication.part], 0, &mut make_room)?;
        let done = publish_staged(publication, &sums, fixed_modes, announce);
        if done.is_err() {
            claims::tidy(volume);
        }
        match done? {
            Staged::Published(outcome) => {
                if fixed_modes.is_some() {
                    report.warn("the volume keeps no permission bits: all are its own".into());
                }
                return Ok(outcome);
            }
            Staged::With(modes) => fixed_modes = modes,
        }
    }
    bail!("`{}` gives other permission bits each time", volume.place().shown(b"").display())
}

/// What came of a publication.
enum Staged {
    Published(Outcome),
    /// Nothing, since the modes are others on the volume.
    With(Option<FixedModes>),
}

fn publish_staged(
    publication: Publication<'_>,
    sums: &Sums,
    fixed_modes: Option<FixedModes>,
    announce: Announce<'_>,
) -> Result<Staged> {
    let tag = tag();
    let staging = Staging::make(publication.ground.volume, &tag)?;
    let done = staging.fixed_modes().and_then(|found| {
        if found != fixed_modes {
            return Ok(Staged::With(found));
        }
        publication.publish(&staging, &tag, sums, fixed_modes, announce).map(Staged::Published)
    });
    let removed = staging.remove();
    done.and_then(|done| removed.map(|()| done))
}

impl<'p> Publication<'p> {
    fn prepare(ground: Ground<'p>, tree: Tree) -> Result<Self> {
        let Ground { source, volume, claims, .. } = ground;
        check_targets(source, &tree)?;
        let nothing = Tree::default();
        let published = claims.published.as_ref().map_or(&nothing, |record| &record.tree);
        let mut comparison = compare_files((&tree, source), (published, volume.place()), None)?;
        let strangers = strangers((&tree, &mut comparison), volume.place(), false);
        let is_same = |index| comparison.copy_of(index).is_some();
        let meeting =
            Meeting { volume, claims, tree: &tree, is_same: &is_same, strangers: &strangers };
        let plan = Plan::of(&meeting)?;
        comparison.damaged += plan.damaged_links;
        comparison.unchanged = comparison.unchanged.saturating_sub(plan.damaged_links);
        let (mut part, places) = tree.part(|index| plan.is_wanted[index]);
        // What is in a directory that must not be written could not be moved.
        part.change_modes(|mode, is_directory| if is_directory { mode | 0o700 } else { mode });
        Ok(Self { ground, tree, comparison, plan, part, places })
    }

    /// The digest of what was published before, if there is nothing to do.
    fn live(&self) -> Option<Hash> {
        let Ground { claims, linked, .. } = self.ground;
        let is_settled = claims.unsettled.is_empty() && linked.is_none();
        let is_same = self.plan.is_empty() && self.comparison.is_same();
        claims.published.as_ref().filter(|_| is_settled && is_same).map(|record| record.digest)
    }

    fn outcome(self, is_published: bool, bytes: u64, digest: Hash) -> Outcome {
        let (comparison, totals) = (self.comparison, self.tree.totals());
        let before = self.ground.linked.map(str::to_owned);
        Outcome { is_published, comparison, bytes, digest, totals, before }
    }

    /// What a file holds, if it has been looked at.
    fn known(&self, index: usize) -> Option<&Hash> {
        let published = &self.ground.claims.published.as_ref()?.tree;
        match published.entry(self.comparison.copy_of(index)?).1 {
            Node::File { hash, .. } => Some(hash),
            _ => None,
        }
    }

    /// Stages what is new, and puts it in place.
    fn publish(
        mut self,
        staging: &Staging,
        tag: &str,
        sums: &Sums,
        fixed_modes: Option<FixedModes>,
        announce: Announce<'_>,
    ) -> Result<Outcome> {
        let Ground { source, volume, claims, .. } = self.ground;
        let disk = Durability::watch(volume.place())?;
        let origin = Origin { source, live: None };
        let bytes = stage(&mut self.part, &origin, &staging.tree, &disk)?;
        self.note();
        sums.check_copied(&self.tree)?;
        disk.sync().map_err(|errno| staging.tree.failure("sync", b"", errno))?;
        let digest = claims::claim(&staging.claims, tag, &self.tree, fixed_modes)?;
        announce(&digest, &self.comparison, bytes);
        self.put_in_place(staging, &disk)
            .and_then(|()| claims::settle(&staging.claims, tag, &claims.unsettled))
            .context("some files may be new already, the next run makes it whole")?;
        Ok(self.outcome(true, bytes, digest))
    }

    /// Makes the volume what the tree is, and brings it to the disk.
    fn put_in_place(&self, staging: &Staging, disk: &Durability) -> Result<()> {
        let mut work = Work::on(self.ground.volume, disk);
        work.put(&self.part, &self.plan, staging)?;
        self.remove_stale(&mut work)?;
        work.finish(&self.tree, &self.plan)?;
        work.sync()
    }

    /// Notes what all files hold, those that are new and those that are there.
    fn note(&mut self) {
        for index in 0..self.tree.len() {
            if let (Some(hash), Node::File { size, .. }) =
                (self.known(index).copied(), self.tree.entry(index).1)
            {
                self.tree.set_content(index, (size, hash));
            }
        }
        self.tree.set_contents(&self.part, &self.places);
    }

    /// Removes what is not in the tree any more, when all that is new is on the disk.
    fn remove_stale(&self, work: &mut Work<'_>) -> Result<()> {
        let Ground { volume, claims, linked, .. } = self.ground;
        if !claims.are_any() && linked.is_none() {
            return Ok(());
        }
        work.sync()?;
        work.remove(claims, |path| self.tree.find(path).is_some())?;
        if linked.is_some() {
            volume.remove_stale_links(|name| self.tree.find(name).is_some())?;
            match unlinkat(volume, DATA, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(volume.place().failure("remove", DATA.as_bytes(), errno)),
            }
        }
        Ok(())
    }
}

/// Gives up what was published as plain files, after a tree went live by links.
///
/// # Errors
/// Something cannot be removed.
pub fn leave(volume: &Volume, report: &mut Report) -> Result<()> {
    // What cannot be read must not keep a tree from going live: then nothing is known to be ours.
    if !matches!(claims::find(volume), Ok(Some(_))) {
        return Ok(());
    }
    let disk = Durability::watch(volume.place())?;
    let mut work = Work::on(volume, &disk);
    work.remove(&Claims::of(volume, report)?, |_| false)?;
    work.sync()?;
    staging::forget(volume)
}

/// Refuses to go back on a volume of plain files.
///
/// # Errors
/// It is one.
pub fn refuse(volume: &Volume) -> Result<()> {
    if claims::are_any(volume)? {
        return Err(misconfigured(format_args!(
            "`{}` holds plain files (--layout files): earlier versions are not kept of them",
            volume.place().shown(b"").display()
        )));
    }
    Ok(())
}

/// What stands at a name.
struct Found {
    kind: FileType,
    mode: u16,
    size: u64,
}

/// What stands at a name in an open directory, if anything does.
fn look(directory: impl AsFd, name: &[u8]) -> Result<Option<Found>, Errno> {
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
