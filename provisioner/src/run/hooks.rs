//! Implements [`Hooks`] for a run: frees space by removing old versions, runs checks, records
//! notifications, and adds warnings to the report.

use std::time::Duration;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::tree::Hash;
use published_tree::volume::Volume;

use crate::archive::retire::remove_oldest;
use crate::atomic::hooks::Hooks;
use crate::check::{Checks, Staged};
use crate::shutdown::Shutdown;
use crate::then::{Counts, Notifications};

/// The hooks of one run.
pub struct RunHooks<'r> {
    /// The volume.
    pub volume: &'r Volume,
    /// How long the directory of an old version stays for its readers.
    pub grace: Duration,
    /// The version whose archive must stay, since it is about to be restored.
    pub needed: Option<Hash>,
    /// What must accept a tree before it goes live.
    pub checks: &'r Checks,
    /// Ends a check.
    pub shutdown: &'r Shutdown,
    /// Who is notified when the run is done.
    pub notifications: &'r mut Notifications,
    /// Where warnings go.
    pub report: &'r mut Report,
}

impl Hooks for RunHooks<'_> {
    fn free_space(&mut self) -> Result<bool> {
        remove_oldest(self.volume, self.grace, self.needed, self.report)
    }

    fn has_checks(&self) -> bool {
        !self.checks.is_empty()
    }

    fn check(&mut self, staged: Staged<'_>) -> Result<()> {
        self.checks.run(staged, self.shutdown)
    }

    fn before_change(&mut self, digest: &Hash, counts: &[(&'static str, u64)]) -> Result<()> {
        self.notifications.record(self.volume, digest, &owned_counts(counts));
        Ok(())
    }

    fn warn(&mut self, message: String) {
        self.report.warn(message);
    }
}

/// Counts with owned names, for notifications.
pub fn owned_counts(counts: &[(&'static str, u64)]) -> Counts {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
