//! One tree that is published as plain files: known in all its parts before anything is written, and
//! then staged and put in place.

use anyhow::{Context, Result};
use published_tree::dir::Dir;
use published_tree::progress::Progress;
use published_tree::reader::OpenTree;
use published_tree::tree::{Content, Hash, Node, Tree};
use published_tree::volume::{DATA, Volume};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::claims::{self, Claims, FixedModes};
use super::plan::{Meeting, Plan};
use super::staging::Staging;
use super::work::Work;
use crate::atomic::hooks::Hooks;
use crate::atomic::publish::{Outcome, counts};
use crate::copy::compare::{Comparison, compare_files};
use crate::copy::durable::Durability;
use crate::copy::stage::{Destination, Origin, stage};
use crate::copy::wrong_owner::find_wrong_owners;
use crate::source::checksums::Checksums;
use crate::source::owner::Owner;
use crate::source::scan::check_targets;
use crate::source::{self, PublishOptions};

/// What is published from where to where.
#[derive(Clone, Copy)]
pub struct Ground<'g> {
    /// The source.
    pub source: &'g Dir,
    /// The volume.
    pub volume: &'g Volume,
    /// What is ours there.
    pub claims: &'g Claims,
    /// The version that is live by links, if that is how the volume was published to.
    pub linked: Option<&'g str>,
}

/// A publication that is known in all its parts, before anything is written.
pub struct Publication<'p> {
    /// From where to where.
    pub ground: Ground<'p>,
    /// The tree.
    pub tree: Tree,
    /// How it differs from what was published.
    pub comparison: Comparison,
    /// What has to be done.
    pub plan: Plan,
    /// What has to be made of the tree,
    pub part: Tree,
    /// and where that stands in it.
    places: Vec<usize>,
    /// The owner of the published files.
    pub owner: Option<Owner>,
    progress: &'p Progress,
}

impl<'p> Publication<'p> {
    /// Reads the source, with the modes that the volume gives if it keeps no others, and looks at
    /// what it meets. What is in the way is noted in the plan.
    ///
    /// # Errors
    /// The source must not be published, or cannot be read, or the volume cannot.
    pub fn prepare(
        ground: Ground<'p>,
        options: &PublishOptions,
        fixed_modes: Option<FixedModes>,
        progress: &'p Progress,
    ) -> Result<(Self, Checksums)> {
        let Ground { source, volume, claims, .. } = ground;
        let (mut tree, checksums) = source::read(source, options)?;
        if let Some(FixedModes { file, directory }) = fixed_modes {
            tree.change_modes(|_, is_directory| if is_directory { directory } else { file });
        }
        check_targets(source, &tree)?;
        let nothing = Tree::default();
        let published = claims.published.as_ref().map_or(&nothing, |record| &record.tree);
        let mut comparison = compare_files(
            OpenTree { tree: &tree, dir: source },
            OpenTree { tree: published, dir: volume.dir() },
            None,
            progress,
        )?;
        let owner = options.owner;
        let wrong = find_wrong_owners(&tree, &mut comparison, volume.dir(), owner, false);
        let is_same = |index| comparison.copy_of(index).is_some();
        let meeting =
            Meeting { volume, claims, tree: &tree, is_same: &is_same, wrong_owner: &wrong, owner };
        let plan = Plan::of(&meeting)?;
        comparison.damaged += plan.damaged_links;
        comparison.unchanged = comparison.unchanged.saturating_sub(plan.damaged_links);
        let (mut part, places) = tree.part(|index| plan.is_wanted[index]);
        // What is in a directory that must not be written could not be moved.
        part.change_modes(|mode, is_directory| if is_directory { mode | 0o700 } else { mode });
        Ok((Self { ground, tree, comparison, plan, part, places, owner, progress }, checksums))
    }

    /// The digest of what was published before, if there is nothing to do.
    pub fn live(&self) -> Option<Hash> {
        let Ground { claims, linked, .. } = self.ground;
        let is_settled = claims.unsettled.is_empty() && linked.is_none();
        let is_same = self.plan.is_empty() && self.comparison.is_same();
        claims.published.as_ref().filter(|_| is_settled && is_same).map(|record| record.digest)
    }

    /// What came of it.
    pub fn outcome(self, is_published: bool, bytes: u64, digest: Hash) -> Outcome {
        let (comparison, totals) = (self.comparison, self.tree.totals());
        let before = self.ground.linked.map(str::to_owned);
        Outcome { is_published, comparison, bytes, digest, totals, before }
    }

    /// What a file holds, if it has been looked at.
    pub fn known(&self, index: usize) -> Option<&Hash> {
        let published = &self.ground.claims.published.as_ref()?.tree;
        match published.entry(self.comparison.copy_of(index)?).1 {
            Node::File { hash, .. } => Some(hash),
            _ => None,
        }
    }

    /// Stages what is new, and puts it in place; `announce` comes in between.
    ///
    /// # Errors
    /// As [`publish`](super::publish).
    pub fn publish(
        mut self,
        staging: &Staging,
        tag: &str,
        checksums: &Checksums,
        fixed_modes: Option<FixedModes>,
        hooks: &mut dyn Hooks,
    ) -> Result<Outcome> {
        let Ground { source, volume, claims, .. } = self.ground;
        let disk = Durability::start(volume.dir())?;
        let origin = Origin { source, live: None };
        let to = Destination {
            dir: &staging.tree,
            disk: &disk,
            owner: self.owner,
            progress: self.progress,
        };
        let bytes = stage(&mut self.part, &origin, &to)?;
        self.store_contents();
        checksums.verify_copied(&self.tree)?;
        disk.sync().map_err(|errno| staging.tree.error("sync", b"", errno))?;
        let digest = claims::claim(&staging.claims, tag, &self.tree, fixed_modes)?;
        hooks.before_change(&digest, &counts(&self.comparison, bytes))?;
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
        work.finish(&self.tree, &self.plan, self.owner)?;
        work.sync()
    }

    /// Notes what all files hold, those that are new and those that are there.
    fn store_contents(&mut self) {
        for index in 0..self.tree.len() {
            if let (Some(hash), Node::File { size, .. }) =
                (self.known(index).copied(), self.tree.entry(index).1)
            {
                self.tree.set_content(index, Content { size, hash });
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
                Err(errno) => return Err(volume.dir().error("remove", DATA.as_bytes(), errno)),
            }
        }
        Ok(())
    }
}
