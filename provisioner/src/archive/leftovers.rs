//! Removes what killed runs have left on a volume.
//!
//! Versions that have been live are no leftovers: [`retire`](super::retire) archives and removes them,
//! once a new version is live. On a volume without locks, another run may still write entries that
//! look like leftovers, so only those older than a day are removed.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::records::remove_incomplete;
use published_tree::volume::{OldVersion, Volume};

use crate::archive::change_time::age;
use crate::archive::retire::previous_versions;
use crate::state::State;
use crate::state::lock::Lock;

/// Longer than any run takes.
const MAX_RUN_TIME: Duration = Duration::from_secs(24 * 3600);

/// Removes links, versions and state files that killed runs have left.
///
/// # Errors
/// Fails if the volume cannot be read, or a link or version cannot be removed. State files that
/// cannot be removed only cause a warning.
pub fn remove_leftovers(volume: &Volume, lock: &Lock, report: &mut Report) -> Result<()> {
    let is_leftover = |name: &str| is_leftover(volume, name, lock);
    volume.remove_next_links(is_leftover)?;
    let live = volume.live_name()?;
    let previous = previous_versions(volume)?;
    for OldVersion { name, .. } in volume.old_versions(live.as_deref())? {
        if !previous.contains(&name) && is_leftover(&name) {
            volume.remove(&name)?;
        }
    }
    let cleaned = State::find(volume)
        .and_then(|state| state.map_or(Ok(()), |state| remove_incomplete(state.dir())));
    report.warn_on_error(cleaned, "failed to remove what killed runs have left");
    Ok(())
}

/// Whether an incomplete entry was left by a killed run: no other run can be writing it.
pub fn is_leftover(directory: impl AsFd, name: &str, lock: &Lock) -> bool {
    lock.is_exclusive() || age(directory, name).is_some_and(|age| age >= MAX_RUN_TIME)
}
