//! Releases the lock of a volume after its change. [`Released`] is what is left to do without the lock:
//! notify the listeners, and retire old versions.

use std::time::Duration;

use anyhow::Result;
use published_tree::volume::Volume;

use crate::archive::retire::{Retention, is_grace_over, versions_to_retire};
use crate::state::lock::Lock;
use crate::then::{LiveId, Notifications, RunOutcome};

/// What is left to do after the lock is released.
pub struct Released {
    /// The volume.
    pub volume: Volume,
    /// The live version after the run; `None` if it is not known.
    pub outcome: Option<RunOutcome>,
    /// Who is to be notified.
    pub notifications: Notifications,
    /// Old versions to retire.
    pub old: Vec<String>,
    /// How long they are kept.
    pub retention: Retention,
}

impl Released {
    /// Releases `lock`. `before` is the version that was live before the run.
    ///
    /// # Errors
    /// Fails if the volume cannot be read.
    pub fn new(
        volume: Volume,
        lock: Lock,
        before: Option<String>,
        mut outcome: Option<RunOutcome>,
        notifications: Notifications,
        mut retention: Retention,
    ) -> Result<Self> {
        let mut old = versions_to_retire(&volume, before, &lock)?;
        let live_id = LiveId::of(&volume)?;
        drop(lock);
        if let Some(outcome) = &mut outcome {
            outcome.live_id = Some(live_id);
        }
        if !outcome.as_ref().is_some_and(|outcome| outcome.is_new) {
            // Nothing has changed: readers of old versions have had their time, or the run that
            // replaced those versions still waits for them.
            if !is_grace_over(&volume, retention.grace) {
                old.clear();
            }
            retention.grace = Duration::ZERO;
        }
        Ok(Self { volume, outcome, notifications, old, retention })
    }
}
