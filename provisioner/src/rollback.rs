//! Goes back to a version that was kept, without the source, and keeps the volume there.

use anyhow::{Context, Result, bail};
use diagnostics::report::Report;

use crate::archive::Archives;
use crate::kept::{Kept, choose, kept};
use crate::names::relink;
use crate::owner::Owner;
use crate::pin::{self, Pin};
use crate::publish::{Ground, Steps, go_live};
use crate::sound;
use crate::stage::{Origin, stage};
use crate::strangers::has_all;
use crate::superseded::{Terms, give_up};
use crate::tree::manifest::hex;
use crate::tree::{Hash, Tree};
use crate::unpack::unpack;
use crate::version::Fill;
use crate::volume::{Published, Volume};

/// Is told of a version right before it goes live: its digest, and its files and bytes.
pub type Announce<'a> = &'a mut dyn FnMut(&Hash, (u64, u64));

/// What a rollback came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The version that is pinned now.
    pub digest: Hash,
    /// Its files and bytes, if it was not live already.
    pub totals: Option<(u64, u64)>,
}

/// Makes the version that `wanted` names live, or without that the one before the live one, and
/// pins the volume to it.
///
/// # Errors
/// There is no such version, it is damaged, or the volume cannot be written: what was live is live,
/// and pinned if it was.
pub fn rollback(
    volume: &Volume,
    wanted: Option<&str>,
    terms: Terms,
    owner: Option<Owner>,
    report: &mut Report,
    announce: Announce<'_>,
) -> Result<RolledBack> {
    let live = volume.live()?.and_then(|live| live.published).map(|published| published.digest);
    let kept = kept(volume)?;
    let digest = choose(wanted, live, &kept)?;
    let pin = Pin::now(digest);
    if Some(digest) == live {
        pin.set(volume)?;
        return Ok(RolledBack { digest, totals: None });
    }
    // One that cannot be understood does not hold either.
    let before = Pin::of(volume).ok().flatten();
    let mut ready = |totals| {
        announce(&digest, totals);
        pin.set(volume)
    };
    let target = Target { digest: &digest, owner };
    let restored = restore(volume, target, &kept, terms, report, &mut ready);
    if restored.is_err() && Pin::of(volume).ok().flatten() != before {
        let live = volume.live()?.and_then(|live| live.published);
        // The pin was set right before the version went live, if it did.
        if live.is_none_or(|live| live.digest != digest) {
            before.map_or_else(|| pin::remove(volume), |pin| pin.set(volume))?;
        }
    }
    Ok(RolledBack { digest, totals: Some(restored?) })
}

/// What became of a volume that is pinned.
#[derive(Debug)]
pub enum Held {
    /// The pinned version is live and sound.
    Sound,
    /// It was, but some of its links were not there; with these files and bytes.
    Relinked((u64, u64)),
    /// It was not, and is now, with these files and bytes.
    Restored((u64, u64)),
    /// It is not, and cannot be.
    Lost(anyhow::Error),
}

/// Makes sure that the pinned version is live, what was published, and its owner's.
///
/// # Errors
/// The volume cannot be looked at.
pub fn hold(
    volume: &Volume,
    pin: &Pin,
    terms: Terms,
    owner: Option<Owner>,
    report: &mut Report,
    announce: Announce<'_>,
) -> Result<Held> {
    let published = volume.live()?.and_then(|live| live.published);
    let published = published.filter(|published| published.digest == pin.digest);
    if let Some(published) = published
        && sound::check(&published).is_ok()
        && has_all(&published.tree, &published.place, owner)
    {
        let ready = || announce(&pin.digest, published.tree.totals());
        return Ok(match relink(volume, &published.tree, ready) {
            Ok(true) => Held::Relinked(published.tree.totals()),
            Ok(false) => Held::Sound,
            Err(error) => Held::Lost(error),
        });
    }
    let mut ready = |totals| {
        announce(&pin.digest, totals);
        Ok(())
    };
    let target = Target { digest: &pin.digest, owner };
    let restored =
        kept(volume).and_then(|kept| restore(volume, target, &kept, terms, report, &mut ready));
    Ok(restored.map_or_else(Held::Lost, Held::Restored))
}

/// What a volume goes back to.
#[derive(Clone, Copy)]
struct Target<'t> {
    digest: &'t Hash,
    owner: Option<Owner>,
}

/// Makes a version live from what is kept of it: its files and bytes. `ready` comes right before.
fn restore(
    volume: &Volume,
    Target { digest, owner }: Target<'_>,
    kept: &[Kept],
    terms: Terms,
    report: &mut Report,
    ready: &mut dyn FnMut((u64, u64)) -> Result<()>,
) -> Result<(u64, u64)> {
    let spelt = hex(digest);
    let found = kept.iter().find(|kept| kept.digest == *digest);
    let kept = found.with_context(|| format!("version {spelt} is not kept"))?;
    let mut make_room = || give_up(volume, terms.grace, Some(*digest), report);
    let mut live = |tree: &mut Tree, fill: Fill<'_>| {
        tree.set_owner(owner);
        let ground = Ground::prepare(volume, tree, &mut make_room)?;
        let totals = tree.totals();
        let mut ready = |made: &Hash| {
            if made != digest {
                bail!("version {spelt} is kept damaged");
            }
            ready(totals)
        };
        go_live(volume, &ground, tree, &mut Steps { fill, ready: &mut ready })?;
        Ok(totals)
    };
    if let (None, Some(name)) = (&kept.archive, &kept.name) {
        let made = volume.published(name).and_then(|Published { mut tree, place, .. }| {
            let origin = Origin { source: &place, live: None };
            live(&mut tree, &mut |tree, to, disk| stage(tree, &origin, to, disk))
        });
        // Whoever looks after it may have packed and removed it meanwhile.
        let is_packed =
            || Archives::find(volume).is_ok_and(|a| a.is_some_and(|a| a.header(digest).is_ok()));
        if made.is_ok() || !is_packed() {
            return made;
        }
    }
    let archives = Archives::find(volume)?.with_context(|| format!("version {spelt} is gone"))?;
    let opened = archives.open(digest);
    let (mut tree, mut content) =
        opened.with_context(|| format!("the archive of version {spelt} cannot be used"))?;
    live(&mut tree, &mut |tree, to, disk| unpack(tree, &mut content, to, disk))
}
