//! Versions that are not live any more, and what runs that were killed have left.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::lock::Lock;
use crate::stop::Stop;
use crate::volume::{DATA, Volume};

/// How long a version of another writer may be in the making, where it cannot be locked out.
const MAKING: Duration = Duration::from_secs(6 * 3600);

/// Removes what runs that were killed have left, and versions that have been superseded for longer
/// than `grace`. Where others cannot be locked out, what is young may be theirs.
///
/// # Errors
/// Something cannot be looked at, or removed.
pub fn clean(volume: &Volume, grace: Duration, lock: &Lock) -> Result<()> {
    volume.remove_unused_links()?;
    let live = volume.live_name()?;
    // Without anything live, nobody has read anything.
    let is_over = live.is_none() || age(volume, DATA).is_some_and(|age| age >= grace);
    for (name, is_complete) in volume.others(live.as_deref())? {
        let is_ours = || lock.is_held() || age(volume, &name).is_some_and(|age| age >= MAKING);
        if (is_over || !is_complete) && is_ours() {
            volume.remove(&name)?;
        }
    }
    Ok(())
}

/// How long ago a name was changed; `None` by a clock that was set back.
fn age(volume: &Volume, name: &str) -> Option<Duration> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(volume, name, flags, StatxFlags::CTIME).ok()?;
    let seconds = u64::try_from(stat.stx_ctime.tv_sec).ok()?;
    let since = Duration::new(seconds, stat.stx_ctime.tv_nsec);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
}

/// The versions that are superseded now: all but the live one, or, where others may be making
/// one, the one that was live `before`.
///
/// # Errors
/// The volume cannot be read.
pub fn versions(volume: &Volume, before: Option<String>, lock: &Lock) -> Result<Vec<String>> {
    let live = volume.live_name()?;
    if !lock.is_held() {
        return Ok(before.into_iter().filter(|name| live.as_ref() != Some(name)).collect());
    }
    let others = volume.others(live.as_deref())?;
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
    // What a crash brings back is removed again.
    names.iter().try_for_each(|name| volume.remove(name))
}
