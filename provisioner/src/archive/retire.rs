//! Versions that are not live any more, and what runs that were killed have left.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::manifest::hex;
use published_tree::records::remove_incomplete;
use published_tree::tree::Hash;
use published_tree::volume::{DATA, MANIFEST, OldVersion, Volume};
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::archive::Archives;
use crate::archive::pin::Pin;
use crate::cli::ChangeOptions;
use crate::shutdown::Shutdown;
use crate::state::State;
use crate::state::lock::{Lock, lock};

/// No run takes so long.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is kept of versions that are superseded.
#[derive(Clone, Copy)]
pub struct Retention {
    /// How many earlier versions are kept, packed.
    pub keep: usize,
    /// How long the version before stays as it is.
    pub grace: Duration,
    /// How long to wait for somebody else who packs versions.
    pub lock_timeout: Duration,
}

impl Retention {
    /// As the command line asks.
    pub fn of(change: &ChangeOptions) -> Self {
        Self {
            keep: change.keep,
            grace: Duration::from_secs(change.grace),
            lock_timeout: Duration::from_secs(change.lock_timeout),
        }
    }
}

/// Removes what runs that were killed have left, but for versions that were live: they are the
/// business of [`retire`], after what is new went live. Where others cannot be locked out, what is
/// young may be theirs.
///
/// # Errors
/// Something cannot be looked at, or removed.
pub fn remove_leftovers(volume: &Volume, lock: &Lock, report: &mut Report) -> Result<()> {
    let is_leftover = |name: &str| is_leftover(volume, name, lock);
    volume.remove_next_links(is_leftover)?;
    let live = volume.live_name()?;
    let were_live = old_versions(volume)?;
    for OldVersion { name, .. } in volume.old_versions(live.as_deref())? {
        if !were_live.contains(&name) && is_leftover(&name) {
            volume.remove(&name)?;
        }
    }
    let cleaned = State::find(volume)
        .and_then(|state| state.map_or(Ok(()), |state| remove_incomplete(state.dir())));
    report.warn_on_error(cleaned, "what was left cannot be removed");
    Ok(())
}

/// Whether what is not complete was left by a run that was killed, as far as that can be told.
pub fn is_leftover(directory: impl AsFd, name: &str, lock: &Lock) -> bool {
    lock.is_exclusive() || age(directory, name).is_some_and(|age| age >= DAY)
}

/// When a name was changed last, in seconds and nanoseconds since 1970.
fn changed(directory: impl AsFd, name: &str) -> Option<(i64, u32)> {
    let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::CTIME).ok()?;
    Some((stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec))
}

/// How long ago a name was changed; `None` by a clock that was set back.
fn age(directory: impl AsFd, name: &str) -> Option<Duration> {
    let (seconds, nanoseconds) = changed(directory, name)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, nanoseconds);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
}

/// Whether the live version has been live for the time that readers are given.
pub fn is_grace_over(volume: &Volume, grace: Duration) -> bool {
    age(volume, DATA).is_some_and(|age| age >= grace)
}

/// The versions that were live before, in the order in which they were.
///
/// # Errors
/// The volume cannot be read.
pub fn old_versions(volume: &Volume) -> Result<Vec<String>> {
    // Without anything live, nothing ever was.
    let Some(live) = volume.live_name()? else { return Ok(Vec::new()) };
    let since = changed(volume, DATA);
    let others = volume.old_versions(Some(&live))?.into_iter().filter(|old| old.is_complete);
    let mut dated: Vec<_> = others.map(|old| (changed(volume, &old.name), old.name)).collect();
    // A version that was complete only after what is live went live never got that far.
    dated.retain(|(at, name)| *at <= since || !Volume::is_version(name));
    dated.sort();
    Ok(dated.into_iter().map(|(_, name)| name).collect())
}

/// The versions that are superseded now: all that were live, or, where others may be looking after
/// theirs, or nothing is live any more, the one that was live `before`.
///
/// # Errors
/// The volume cannot be read.
pub fn versions_to_retire(
    volume: &Volume,
    before: Option<String>,
    lock: &Lock,
) -> Result<Vec<String>> {
    let live = volume.live_name()?;
    if lock.is_exclusive() && live.is_some() {
        return old_versions(volume);
    }
    Ok(before.into_iter().filter(|name| live.as_ref() != Some(name)).collect())
}

/// Packs versions, and removes them when their readers had their time; who is told to end leaves
/// that to the next run.
///
/// # Errors
/// One cannot be removed. One that cannot be packed is told of.
pub fn retire(
    volume: &Volume,
    names: &[String],
    retention: Retention,
    stop: &Shutdown,
    report: &mut Report,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let packed = pack(volume, names, retention, stop, report);
    report.warn_on_error(packed, "earlier versions cannot be kept");
    if !stop.wait(retention.grace.saturating_sub(start.elapsed())) {
        return Ok(());
    }
    // What a crash brings back is removed again.
    names.iter().try_for_each(|name| volume.remove(name))
}

fn pack(
    volume: &Volume,
    names: &[String],
    retention: Retention,
    stop: &Shutdown,
    report: &mut Report,
) -> Result<()> {
    let archives = match Archives::find(volume)? {
        None if retention.keep == 0 => return Ok(()),
        None => Archives::make(volume)?,
        Some(archives) => archives,
    };
    // One at a time: so what is not complete here was left by somebody who was killed.
    let _held = lock(archives.dir(), retention.lock_timeout)?;
    archives.remove_incomplete()?;
    let live = volume.live()?.and_then(|live| live.published).map(|published| published.digest);
    for name in &names[names.len().saturating_sub(retention.keep)..] {
        let packed = pack_one(volume, live, &archives, name, stop);
        // Another run may have been faster, and somebody who is told to end gives up.
        if changed(volume, name).is_some() && !stop.has_come() {
            report.warn_on_error(packed, &format!("{name} is not kept"));
        }
    }
    // Nobody shall go back to what is removed here.
    let _alone = lock(volume.dir(), retention.lock_timeout)?;
    let live = volume.live()?.and_then(|live| live.published).map(|published| published.digest);
    let pinned = Pin::of(volume).ok().flatten().map(|pin| pin.digest);
    archives.prune(retention.keep, live, pinned)
}

fn pack_one(
    volume: &Volume,
    live: Option<Hash>,
    archives: &Archives,
    name: &str,
    stop: &Shutdown,
) -> Result<()> {
    let manifest = format!("{name}/{MANIFEST}");
    if changed(volume, &manifest).is_none() {
        // Nothing that was published: plain files that became links, say.
        return Ok(());
    }
    let published = volume.published(name)?;
    // What is live was published again, since it was damaged.
    if Some(published.digest) == live { Ok(()) } else { archives.pack(&published, stop) }
}

/// Gives something up for a tree that there is no room for: versions whose readers had their time,
/// and then the oldest archive but that of `spared`. Whether there was anything.
///
/// # Errors
/// Something cannot be looked at, or removed.
pub fn remove_oldest(
    volume: &Volume,
    grace: Duration,
    spared: Option<Hash>,
    report: &mut Report,
) -> Result<bool> {
    let old = if is_grace_over(volume, grace) { old_versions(volume)? } else { Vec::new() };
    if let Some(name) = old.first() {
        volume.remove(name)?;
        report.warn(format!("{name} is not kept: its room is needed"));
        return Ok(true);
    }
    let Some(archives) = Archives::find(volume)? else { return Ok(false) };
    let listed = archives.list()?;
    let Some(oldest) = listed.iter().rfind(|archive| Some(archive.digest) != spared) else {
        return Ok(false);
    };
    archives.remove(&oldest.digest)?;
    report.warn(format!("version {} is kept no more: its room is needed", hex(&oldest.digest)));
    Ok(true)
}
