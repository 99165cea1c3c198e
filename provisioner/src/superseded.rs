//! Versions that are not live any more, and what runs that were killed have left.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::stop::Stop;
use crate::volume::{DATA, Volume};

/// Removes what runs that were killed have left, and versions that have been superseded for longer
/// than `grace`.
///
/// # Errors
/// Something cannot be looked at, or removed.
pub fn clean(volume: &Volume, grace: Duration) -> Result<()> {
    volume.remove_unused_links()?;
    let live = volume.live()?;
    // Without anything live, nobody has read anything.
    let is_over = live.is_none() || age(volume).is_some_and(|age| age >= grace);
    for (name, is_complete) in volume.others(live.as_ref().map(|live| &live.name[..]))? {
        if is_over || !is_complete {
            volume.remove(&name)?;
        }
    }
    Ok(())
}

/// How long the live version has been live; `None` by a clock that was set back.
fn age(volume: &Volume) -> Option<Duration> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(volume, DATA, flags, StatxFlags::CTIME).ok()?;
    let since = Duration::from_secs(u64::try_from(stat.stx_ctime.tv_sec).ok()?);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
}

/// The versions that are superseded now.
///
/// # Errors
/// The volume cannot be read.
pub fn versions(volume: &Volume) -> Result<Vec<String>> {
    let live = volume.live()?;
    let others = volume.others(live.as_ref().map(|live| &live.name[..]))?;
    Ok(others.into_iter().map(|(name, _)| name).collect())
}

/// Waits for readers, and removes versions; who is told to end leaves that to the next run.
///
/// # Errors
/// One cannot be removed.
pub fn remove_after(volume: &Volume, names: &[String], grace: Duration, stop: &Stop) -> Result<()> {
    if names.is_empty() || !stop.wait(grace) {
        return Ok(());
    }
    names.iter().try_for_each(|name| volume.remove(name))?;
    volume.sync()
}
