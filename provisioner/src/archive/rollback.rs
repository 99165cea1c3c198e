//! Makes an archived version live again, without its source, and keeps a pinned version live.
//!
//! A rollback restores the version as a publication does, from its archive or from its directory if
//! that is still on the volume. It pins the volume right before the version goes live.

use anyhow::{Context, Result, bail};
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::tree::{Hash, Totals, Tree};
use published_tree::verify::verify;
use published_tree::volume::{Published, Volume};

use crate::archive::archived::archived;
use crate::archive::pin::{self, Pin};
use crate::archive::unpack::unpack;
use crate::archive::{Archives, Content};
use crate::atomic::activate::{VolumeState, activate};
use crate::atomic::hooks::Hooks;
use crate::atomic::links::relink;
use crate::atomic::undo::{Attempt, undo};
use crate::atomic::version::{NewVersion, VersionName};
use crate::copy::destination::Destination;
use crate::copy::stage::{Origin, stage};
use crate::copy::wrong_owner::owns_all;
use crate::source::owner::Owner;

/// The result of a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The version that is pinned now.
    pub digest: Hash,
    /// The size of its tree; `None` if it was live already.
    pub totals: Option<Totals>,
}

/// The state of a pinned volume.
#[derive(Debug)]
pub enum Pinned {
    /// The pinned version is live and undamaged.
    Live,
    /// It was live, but links were missing or stale. They are repaired.
    Relinked(Totals),
    /// It was not live, or damaged. It is restored.
    Restored(Totals),
    /// It is not live, or damaged, and cannot be restored.
    Lost(anyhow::Error),
}

/// A volume on which versions are restored.
pub struct Restorer<'r> {
    /// The volume.
    pub volume: &'r Volume,
    /// The owner of restored files, if not the user of this process.
    pub owner: Option<Owner>,
    /// Counts the files.
    pub progress: &'r Progress,
}

impl Restorer<'_> {
    /// Makes the version `digest` live, and pins the volume.
    ///
    /// # Errors
    /// Fails if the version is not archived or damaged, or the volume cannot be written. The live
    /// version and the pin are then unchanged.
    pub fn rollback(&self, digest: Hash, hooks: &mut dyn Hooks) -> Result<RolledBack> {
        let live = self.volume.live()?.and_then(|live| live.published);
        let live = live.map(|published| published.digest);
        let pin = Pin::now(digest);
        if Some(digest) == live {
            pin.set(self.volume)?;
            return Ok(RolledBack { digest, totals: None });
        }
        // A pin that cannot be parsed has no effect.
        let before = Pin::of(self.volume).ok().flatten();
        let restored = self.restore(&digest, Some(&pin), hooks);
        if restored.is_err() && Pin::of(self.volume).ok().flatten() != before {
            let live = self.volume.live()?.and_then(|live| live.published);
            // The pin was set before the switch. Keep it only if the version is live.
            if live.is_none_or(|live| live.digest != digest) {
                before.map_or_else(|| pin::remove(self.volume), |pin| pin.set(self.volume))?;
            }
        }
        Ok(RolledBack { digest, totals: Some(restored?) })
    }

    /// Ensures that the pinned version is live, undamaged, and has the right owner.
    ///
    /// # Errors
    /// Fails if the live version cannot be read.
    pub fn keep_pinned(&self, pin: &Pin, hooks: &mut dyn Hooks) -> Result<Pinned> {
        let published = self.volume.live()?.and_then(|live| live.published);
        let published = published.filter(|published| published.digest == pin.digest);
        if let Some(published) = published
            && verify(&published, self.progress).is_ok()
            && owns_all(&published.tree, &published.dir, self.owner)
        {
            let totals = published.tree.totals();
            let relinked = relink(self.volume, &published.tree, || {
                hooks.before_change(&pin.digest, &counts(totals))
            });
            return Ok(match relinked {
                Ok(true) => Pinned::Relinked(totals),
                Ok(false) => Pinned::Live,
                Err(error) => Pinned::Lost(error),
            });
        }
        let restored = self.restore(&pin.digest, None, hooks);
        Ok(restored.map_or_else(Pinned::Lost, Pinned::Restored))
    }

    /// Makes a version live from its directory or its archive. Sets `pin` right before that.
    fn restore(&self, digest: &Hash, pin: Option<&Pin>, hooks: &mut dyn Hooks) -> Result<Totals> {
        let spelt = hex(digest);
        let archived = archived(self.volume)?;
        let found = archived.iter().find(|archived| archived.digest == *digest);
        let found = found.with_context(|| format!("version {spelt} is not kept"))?;
        if let (None, Some(name)) = (&found.archive, &found.name) {
            let made =
                self.volume.published(name).and_then(|Published { mut tree, dir, .. }| {
                    let content = Source::Directory(&Origin { source: &dir, live: None });
                    self.publish(&mut tree, content, digest, pin, hooks)
                });
            // Another run may have archived the version and removed its directory meanwhile.
            let is_archived = || {
                Archives::find(self.volume)
                    .is_ok_and(|archives| archives.is_some_and(|a| a.header(digest).is_ok()))
            };
            if made.is_ok() || !is_archived() {
                return made;
            }
        }
        let archives = Archives::find(self.volume)?;
        let archives = archives.with_context(|| format!("version {spelt} is no longer kept"))?;
        let opened = archives.open(digest);
        let (mut tree, mut content) =
            opened.with_context(|| format!("the archive of version {spelt} cannot be used"))?;
        self.publish(&mut tree, Source::Archive(&mut content), digest, pin, hooks)
    }

    /// Creates a new version with the content of an earlier one, and makes it live.
    fn publish(
        &self,
        tree: &mut Tree,
        content: Source<'_>,
        digest: &Hash,
        pin: Option<&Pin>,
        hooks: &mut dyn Hooks,
    ) -> Result<Totals> {
        let state = VolumeState::prepare(self.volume, tree, hooks, self.progress)?;
        let totals = tree.totals();
        let version = VersionName::unique();
        let create_and_activate = || {
            let new = NewVersion::create(self.volume, &version)?;
            content.copy(tree, &new.destination(self.owner, self.progress))?;
            if new.seal(tree, self.progress)? != *digest {
                bail!("the kept copy of version {} is damaged", hex(digest));
            }
            new.complete(tree, digest, self.volume, hooks)?;
            hooks.before_change(digest, &counts(totals))?;
            pin.map_or(Ok(()), |pin| pin.set(self.volume))?;
            activate(self.volume, &state, &version, tree)
        };
        if let Err(error) = create_and_activate() {
            let attempt = Attempt {
                version: &version,
                trees: &[tree],
                before: state.live_name(),
                added: &state.names.missing,
                replaced: &state.names.plain,
            };
            return Err(undo(self.volume, &attempt, error));
        }
        Ok(totals)
    }
}

/// Where the files of an earlier version come from.
enum Source<'s> {
    /// Its directory on the volume.
    Directory(&'s Origin<'s>),
    /// Its archive.
    Archive(&'s mut Content),
}

impl Source<'_> {
    fn copy(self, tree: &mut Tree, to: &Destination<'_>) -> Result<u64> {
        match self {
            Self::Directory(origin) => stage(tree, origin, to),
            Self::Archive(content) => unpack(tree, content, to),
        }
    }
}

/// The numbers of a rollback, for notifications.
pub fn counts(totals: Totals) -> [(&'static str, u64); 2] {
    [("files", totals.files), ("bytes", totals.bytes)]
}
