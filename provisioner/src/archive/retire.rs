//! Retires versions that are no longer live: archives them, and removes their directories.
//!
//! 1. Take the lock of the archives, so that one run at a time packs. Remove incomplete archives.
//! 2. Pack the newest `keep` of the versions.
//! 3. Take the lock of the volume, so that no rollback begins. Remove archives beyond `keep`.
//! 4. Wait for the rest of the grace period, for readers inside the versions.
//! 5. Remove the directories of the versions.
//!
//! A signal ends steps 2 and 4; the next run does what is left.

use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::manifest::hex;
use published_tree::tree::Hash;
use published_tree::volume::{DATA, MANIFEST, Volume};

use crate::archive::Archives;
use crate::archive::change_time::{ChangeTime, age};
use crate::archive::pin::Pin;
use crate::cli::ChangeOptions;
use crate::shutdown::Shutdown;
use crate::state::lock::{Lock, lock};

/// How long earlier versions are kept.
#[derive(Clone, Copy)]
pub struct Retention {
    /// How many earlier versions are archived.
    pub keep: usize,
    /// How long the directory of the version before stays for its readers.
    pub grace: Duration,
    /// How long to wait for another run that packs versions.
    pub lock_timeout: Duration,
}

impl Retention {
    /// Takes the retention from the command line.
    pub fn of(change: &ChangeOptions) -> Self {
        Self {
            keep: change.keep,
            grace: Duration::from_secs(change.grace),
            lock_timeout: Duration::from_secs(change.lock_timeout),
        }
    }
}

/// Whether the live version has been live for the grace period.
pub fn is_grace_over(volume: &Volume, grace: Duration) -> bool {
    age(volume, DATA).is_some_and(|age| age >= grace)
}

/// The names of the versions that were live before the live one, the oldest first.
///
/// # Errors
/// Fails if the volume cannot be read.
pub fn previous_versions(volume: &Volume) -> Result<Vec<String>> {
    // Without a live version, none has been live.
    let Some(live) = volume.live_name()? else { return Ok(Vec::new()) };
    let others = volume.old_versions(Some(&live))?.into_iter().filter(|old| old.is_complete);
    let dated =
        others.map(|old| Dated { changed: ChangeTime::of(volume, &old.name), name: old.name });
    Ok(in_live_order(dated.collect(), ChangeTime::of(volume, DATA)))
}

/// A directory entry and its change time. The order is by time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dated {
    changed: Option<ChangeTime>,
    name: String,
}

/// Sorts complete versions, and names of plain files, by the time at which they were live. Drops versions
/// that were completed after the last switch: they have never been live.
fn in_live_order(mut others: Vec<Dated>, last_switch: Option<ChangeTime>) -> Vec<String> {
    others.retain(|old| old.changed <= last_switch || !Volume::is_version(&old.name));
    others.sort();
    others.into_iter().map(|old| old.name).collect()
}

/// The versions to retire after a run: all previous versions. On a volume without locks, or without a
/// live version, only the one that was live `before` the run, because another run may retire
/// the rest.
///
/// # Errors
/// Fails if the volume cannot be read.
pub fn versions_to_retire(
    volume: &Volume,
    before: Option<String>,
    lock: &Lock,
) -> Result<Vec<String>> {
    let live = volume.live_name()?;
    if lock.is_exclusive() && live.is_some() {
        return previous_versions(volume);
    }
    Ok(before.into_iter().filter(|name| live.as_ref() != Some(name)).collect())
}

/// Archives and removes versions (steps 1 to 5). `names` has the oldest first.
///
/// # Errors
/// Fails if a directory cannot be removed. A version that cannot be archived only causes a warning.
pub fn retire(
    volume: &Volume,
    names: &[String],
    retention: Retention,
    shutdown: &Shutdown,
    report: &mut Report,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let archived = archive(volume, names, retention, shutdown, report);
    report.warn_on_error(archived, "failed to archive earlier versions");
    if !shutdown.wait(retention.grace.saturating_sub(start.elapsed())) {
        return Ok(());
    }
    // The removals are not synced: if a crash undoes them, the next run repeats them.
    names.iter().try_for_each(|name| volume.remove(name))
}

/// Archives versions (steps 1 to 3).
fn archive(
    volume: &Volume,
    names: &[String],
    retention: Retention,
    shutdown: &Shutdown,
    report: &mut Report,
) -> Result<()> {
    // Step 1.
    let archives = match Archives::find(volume)? {
        None if retention.keep == 0 => return Ok(()),
        None => Archives::find_or_create(volume)?,
        Some(archives) => archives,
    };
    let _archives_lock = lock(archives.dir(), retention.lock_timeout)?;
    archives.remove_incomplete()?;

    // Step 2.
    let live = live_digest(volume)?;
    for name in &names[names.len().saturating_sub(retention.keep)..] {
        let packed = pack(volume, live, &archives, name, shutdown);
        // After a signal, packing fails; and another run may have removed the version meanwhile.
        if ChangeTime::of(volume, name).is_some() && !shutdown.has_come() {
            report.warn_on_error(packed, &format!("{name} is not kept"));
        }
    }

    // Step 3.
    let _volume_lock = lock(volume.dir(), retention.lock_timeout)?;
    let pinned = Pin::of(volume).ok().flatten().map(|pin| pin.digest);
    archives.prune(retention.keep, live_digest(volume)?, pinned)
}

fn live_digest(volume: &Volume) -> Result<Option<Hash>> {
    let published = volume.live()?.and_then(|live| live.published);
    Ok(published.map(|published| published.digest))
}

/// Packs a version, unless it has no manifest or the live version has the same content.
fn pack(
    volume: &Volume,
    live: Option<Hash>,
    archives: &Archives,
    name: &str,
    shutdown: &Shutdown,
) -> Result<()> {
    if ChangeTime::of(volume, &format!("{name}/{MANIFEST}")).is_none() {
        // It was never published: it holds copies of plain files, for example.
        return Ok(());
    }
    let published = volume.published(name)?;
    // The same content is live again if this version was damaged.
    if Some(published.digest) == live { Ok(()) } else { archives.pack(&published, shutdown) }
}

/// Frees space for a new version: removes the oldest version whose readers have had the grace period;
/// if there is none, the oldest archive except that of `needed`. Returns whether there was one.
///
/// # Errors
/// Fails if the volume cannot be read, or the version or archive cannot be removed.
pub fn remove_oldest(
    volume: &Volume,
    grace: Duration,
    needed: Option<Hash>,
    report: &mut Report,
) -> Result<bool> {
    let old = if is_grace_over(volume, grace) { previous_versions(volume)? } else { Vec::new() };
    if let Some(name) = old.first() {
        volume.remove(name)?;
        report.warn(format!("{name} is removed: its space is needed"));
        return Ok(true);
    }
    let Some(archives) = Archives::find(volume)? else { return Ok(false) };
    let listed = archives.list()?;
    let Some(oldest) = listed.iter().rfind(|archive| Some(archive.digest) != needed) else {
        return Ok(false);
    };
    archives.remove(&oldest.digest)?;
    let digest = hex(&oldest.digest);
    report.warn(format!("version {digest} is no longer kept: its space is needed"));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Option<ChangeTime> {
        Some(ChangeTime { seconds, nanoseconds })
    }

    fn names(
        others: &[(&str, Option<ChangeTime>)],
        last_switch: Option<ChangeTime>,
    ) -> Vec<String> {
        let dated = |&(name, changed): &(&str, _)| Dated { changed, name: name.to_owned() };
        in_live_order(others.iter().map(dated).collect(), last_switch)
    }

    #[test]
    fn versions_are_sorted_by_the_time_at_which_they_were_complete() {
        let (b, a) = ("..version-b", "..version-a");
        assert_eq!(names(&[(b, at(2, 0)), (a, at(1, 9))], at(3, 0)), [a, b]);
        assert_eq!(names(&[(b, at(1, 8)), (a, at(1, 9))], at(3, 0)), [b, a]);
    }

    #[test]
    fn a_version_that_was_complete_after_the_last_switch_has_never_been_live() {
        let (before, after) = ("..version-before", "..version-after");
        let others = [(after, at(3, 1)), (before, at(3, 0))];
        assert_eq!(names(&others, at(3, 0)), [before]);
        // Moved plain files are changed by the move, after the switch.
        let moved = Volume::old_name("suffix", 0);
        assert_eq!(names(&[(&moved, at(4, 0)), (before, at(2, 0))], at(3, 0)), [before, &moved]);
    }
}
