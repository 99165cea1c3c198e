//! Publishes one tree as plain files. [`prepare`](Publication::prepare) only reads: a dry run shows
//! what it found. [`publish`](Publication::publish) writes.

use std::io;

use anyhow::{Context, Result, bail};
use diagnostics::wording::one_line;
use published_tree::dir::Dir;
use published_tree::manifest;
use published_tree::progress::Progress;
use published_tree::reader::OpenTree;
use published_tree::tree::{Content, Hash, Node, Tree, join};
use published_tree::volume::{DATA, Volume};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::apply::Applier;
use super::changes::{ChangeFinder, Changes};
use super::claims::{self, Claims, FixedModes};
use super::staging::Staging;
use crate::atomic::hooks::Hooks;
use crate::atomic::publish::{Outcome, counts};
use crate::check::Staged;
use crate::copy::compare::{Comparison, compare_files};
use crate::copy::destination::Destination;
use crate::copy::durable::Durability;
use crate::copy::stage::{Origin, stage};
use crate::copy::wrong_owner::find_wrong_owners;
use crate::source::checksums::Checksums;
use crate::source::owner::Owner;
use crate::source::scan::check_targets;
use crate::source::{self, PublishOptions};

/// The source, and the volume before the publication.
#[derive(Clone, Copy)]
pub struct Inputs<'i> {
    /// The source.
    pub source: &'i Dir,
    /// The volume.
    pub volume: &'i Volume,
    /// Which of its files may be replaced.
    pub claims: &'i Claims,
    /// The live version of the atomic layout, if the volume has one.
    pub atomic_version: Option<&'i str>,
    /// The modes that the volume gives to every entry, as far as they are known.
    pub fixed_modes: Option<FixedModes>,
    /// Whether unchanged files are staged too, so that a check finds the whole tree.
    pub stage_all: bool,
}

/// A publication whose changes are known.
pub struct Publication<'p> {
    /// The source and the volume.
    pub inputs: Inputs<'p>,
    /// The tree.
    pub tree: Tree,
    /// How it differs from the published tree.
    pub comparison: Comparison,
    /// What has to change on the volume.
    pub changes: Changes,
    /// The part of the tree that has to be staged.
    pub staged: Tree,
    /// The whole tree, if unchanged files are to be staged too, for a check.
    whole: Option<Tree>,
    /// For each entry of `staged`, its index in `tree`.
    staged_indices: Vec<usize>,
    /// The owner of the published files.
    pub owner: Option<Owner>,
    progress: &'p Progress,
}

impl<'p> Publication<'p> {
    /// Scans the source, compares it with the published tree, and finds the changes (steps 1 to 3).
    /// Obstacles are no errors here.
    ///
    /// # Errors
    /// Fails if the source must not be published or cannot be read, or the volume cannot be read.
    pub fn prepare(
        inputs: Inputs<'p>,
        options: &PublishOptions,
        progress: &'p Progress,
    ) -> Result<(Self, Checksums)> {
        let Inputs { source, volume, claims, .. } = inputs;
        let (mut tree, checksums) = source::read(source, options)?;
        if let Some(FixedModes { file, directory }) = inputs.fixed_modes {
            tree.change_modes(|_, is_directory| if is_directory { directory } else { file });
        }
        check_targets(source, &tree)?;
        let mut comparison = compare_files(
            OpenTree { tree: &tree, dir: source },
            OpenTree {
                tree: claims.published_tree().unwrap_or(&Tree::default()),
                dir: volume.dir(),
            },
            None,
            progress,
        )?;
        let owner = options.owner;
        let wrong_owner = find_wrong_owners(&tree, &mut comparison, volume.dir(), owner, false);
        let finder = ChangeFinder {
            volume,
            claims,
            tree: &tree,
            is_same: &|index| comparison.copy_of(index).is_some(),
            wrong_owner: &wrong_owner,
            owner,
        };
        let changes = finder.find()?;
        comparison.damaged += changes.damaged_links;
        comparison.unchanged = comparison.unchanged.saturating_sub(changes.damaged_links);
        let (mut staged, staged_indices) = tree.subset(|index| changes.is_staged[index]);
        let mut whole = inputs.stage_all.then(|| tree.subset(|_| true).0);
        for copied in [Some(&mut staged), whole.as_mut()].into_iter().flatten() {
            // Entries cannot be moved out of a directory without write permission.
            copied.change_modes(|mode, is_directory| mode | if is_directory { 0o700 } else { 0 });
        }
        let publication = Self {
            inputs,
            tree,
            comparison,
            changes,
            staged,
            whole,
            staged_indices,
            owner,
            progress,
        };
        Ok((publication, checksums))
    }

    /// What is copied to the volume before the first file is put in place.
    pub fn copied(&self) -> &Tree {
        self.whole.as_ref().unwrap_or(&self.staged)
    }

    /// The digest of the published tree if the volume needs no change; `None` if it does.
    pub fn unchanged_digest(&self) -> Option<Hash> {
        let Inputs { claims, atomic_version, .. } = self.inputs;
        let is_complete = claims.stale_records.is_empty() && atomic_version.is_none();
        let is_same = self.changes.is_empty() && self.comparison.is_same();
        let published = claims.published.as_ref().filter(|_| is_complete && is_same);
        published.map(|record| record.digest)
    }

    /// The result of the publication.
    pub fn outcome(self, is_published: bool, bytes: u64, digest: Hash) -> Outcome {
        let (comparison, totals) = (self.comparison, self.tree.totals());
        let before = self.inputs.atomic_version.map(str::to_owned);
        Outcome { is_published, comparison, bytes, digest, totals, before }
    }

    /// The hash of a file that equals its published copy.
    pub fn known_hash(&self, index: usize) -> Option<Hash> {
        let published = self.comparison.copy_of(index)?;
        match self.inputs.claims.published_tree()?.entry(published).1 {
            Node::File { hash, .. } => Some(*hash),
            _ => None,
        }
    }

    /// Stages new files, and puts them in place (steps 5 to 9). The names of the publication end
    /// with `suffix`.
    ///
    /// # Errors
    /// Fails if a step does. Before step 7, the published files are unchanged.
    pub fn publish(
        mut self,
        staging: &Staging,
        suffix: &str,
        checksums: &Checksums,
        hooks: &mut dyn Hooks,
    ) -> Result<Outcome> {
        let Inputs { source, volume, claims, fixed_modes, .. } = self.inputs;
        // Step 5.
        let disk = Durability::start(volume.dir())?;
        let to = Destination {
            dir: &staging.tree,
            disk: &disk,
            owner: self.owner,
            progress: self.progress,
        };
        let origin = Origin { source, live: None };
        stage(self.whole.as_mut().unwrap_or(&mut self.staged), &origin, &to)?;
        let bytes = self.staged.totals().bytes;
        self.store_contents()?;
        checksums.verify_copied(&self.tree)?;
        disk.sync().map_err(|errno| staging.tree.error("sync", b"", errno))?;
        self.check(staging, hooks)?;

        // Step 6.
        let digest = claims::write_pending(&staging.claims, suffix, &self.tree, fixed_modes)?;
        hooks.before_change(&digest, &counts(&self.comparison, bytes))?;

        // Steps 7 to 9.
        self.apply(staging, &disk)
            .and_then(|()| claims::complete(&staging.claims, suffix, &claims.stale_records))
            .context("some files may be new already: the next run completes the publication")?;
        Ok(self.outcome(true, bytes, digest))
    }

    /// Lets the checks of the run look at the whole tree.
    fn check(&self, staging: &Staging, hooks: &mut dyn Hooks) -> Result<()> {
        let Some(tree) = &self.whole else { return Ok(()) };
        let digest = manifest::write(&self.tree, io::sink())?;
        hooks.check(Staged { dir: &staging.tree, tree, digest: &digest })
    }

    /// Makes the volume equal to the tree, and syncs it (steps 7 and 8).
    fn apply(&self, staging: &Staging, disk: &Durability) -> Result<()> {
        let mut applier = Applier::new(self.inputs.volume, disk);
        applier.put(&self.staged, &self.changes, staging)?;
        self.remove_stale(&mut applier)?;
        applier.finish_directories(&self.tree, &self.changes, self.owner)?;
        applier.sync()
    }

    /// Stores size and hash of all files in the tree, of staged ones and of those that stay.
    ///
    /// # Errors
    /// Fails if a file that stays was staged for a check with other content than before.
    fn store_contents(&mut self) -> Result<()> {
        for index in 0..self.tree.len() {
            if let (Some(hash), Node::File { size, .. }) =
                (self.known_hash(index), self.tree.entry(index).1)
            {
                self.tree.set_content(index, Content { size, hash });
            }
        }
        let Some(whole) = &self.whole else {
            self.tree.set_contents(&self.staged, &self.staged_indices);
            return Ok(());
        };
        for index in 0..self.tree.len() {
            let (name, node) = self.tree.entry(index);
            let copied = whole.entry(index).1;
            let (Node::File { hash, .. }, Node::File { size, hash: new, .. }) = (node, copied)
            else {
                continue;
            };
            if self.changes.is_staged[index] {
                self.tree.set_content(index, Content { size, hash: *new });
            } else if hash != new {
                let path = join(self.tree.directory_of(index).path(), name);
                let path = self.inputs.source.display_path(&path);
                let shown = one_line(path.as_os_str().as_encoded_bytes());
                bail!("`{shown}` has changed while it was read");
            }
        }
        Ok(())
    }

    /// Removes stale files and the links of the atomic layout, after all new files are on the disk.
    fn remove_stale(&self, applier: &mut Applier<'_>) -> Result<()> {
        let Inputs { volume, claims, atomic_version, .. } = self.inputs;
        if claims.is_empty() && atomic_version.is_none() {
            return Ok(());
        }
        applier.sync()?;
        applier.remove_stale(claims, |path| self.tree.find(path).is_some())?;
        if atomic_version.is_some() {
            volume.remove_stale_links(|name| self.tree.find(name).is_some())?;
            match unlinkat(volume, DATA, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(volume.dir().error("remove", DATA.as_bytes(), errno)),
            }
        }
        Ok(())
    }
}
