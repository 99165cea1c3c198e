//! Versions that are not live any more, and what runs that were killed have left.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::stop::Stop;
use crate::volume::{DATA, Volume};

/// No run takes so long.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes what runs that were killed have left, and versions that have been superseded for longer
/// than `grace`. Without a lock, what is there may be another writer's at work: then only what is
/// a day old.
///
/// # Errors
/// Something cannot be looked at, or removed.
pub fn clean(volume: &Volume, grace: Duration, is_exclusive: bool) -> Result<()> {
    let is_left = |name: &str| is_exclusive || age(volume, name).is_some_and(|age| age >= DAY);
    volume.remove_unused_links(is_left)?;
    let live = volume.live_name()?;
    // Without anything live, nobody has read anything.
    let is_over = live.is_none() || age(volume, DATA).is_some_and(|age| age >= grace);
    for (name, is_complete) in volume.others(live.as_deref())? {
        if (is_over || !is_complete) && is_left(&name) {
            volume.remove(&name)?;
        }
    }
    Ok(())
}

/// How long ago a name on the volume was last changed, so of [`DATA`], since when it is live; `None`
/// by a clock that was set back.
fn age(volume: &Volume, name: &str) -> Option<Duration> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(volume, name, flags, StatxFlags::CTIME).ok()?;
    let seconds = u64::try_from(stat.stx_ctime.tv_sec).ok()?;
    let since = Duration::new(seconds, stat.stx_ctime.tv_nsec);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
}

/// The versions that are superseded now: `before`, and without other writers all but the live one.
///
/// # Errors
/// The volume cannot be read.
pub fn versions(
    volume: &Volume,
    before: Option<String>,
    is_exclusive: bool,
) -> Result<Vec<String>> {
    if !is_exclusive {
        return Ok(before.into_iter().collect());
    }
    let others = volume.others(volume.live_name()?.as_deref())?;
    Ok(others.into_iter().map(|(name, _)| name).collect())
}

/// Waits for readers, and removes versions, unless one has become live again; who is told to end
/// leaves that to the next run.
///
/// # Errors
/// One cannot be removed.
pub fn remove_after(volume: &Volume, names: &[String], grace: Duration, stop: &Stop) -> Result<()> {
    if names.is_empty() || !stop.wait(grace) {
        return Ok(());
    }
    let live = volume.live_name()?;
    let mut superseded = names.iter().filter(|&name| live.as_ref() != Some(name));
    // What a crash brings back is removed again.
    superseded.try_for_each(|name| volume.remove(name))
}
