//! The subcommand `rollback`: makes an earlier version live and pins the volume to it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::volume::Volume;

use super::hooks::{RunHooks, owned_counts};

use super::release::Released;
use super::{forget_on_failure, print, record_history};
use crate::archive::archived::choose;
use crate::archive::history::Action;
use crate::archive::leftovers::remove_leftovers;
use crate::archive::retire::Retention;
use crate::archive::rollback::{Restorer, RolledBack, counts};
use crate::check::Checks;
use crate::cli::Rollback;
use crate::copy::progress_line::ProgressLine;
use crate::files;
use crate::shutdown::Shutdown;
use crate::state::lock::lock;
use crate::then::{Listeners, LiveId, Notifications, RunOutcome};

/// Rolls back.
///
/// # Errors
/// Fails as [`Restorer::rollback`] does, or if the volume is locked or holds plain files.
pub fn run(
    options: &Rollback,
    start: Instant,
    shutdown: &Shutdown,
    report: &mut Report,
) -> Result<Released> {
    let target = &options.common.target;
    let checks = Checks::of(&options.change.check, target)?;
    let listeners = Listeners::of(&options.change.then)?;
    let (volume, retention) = (Volume::open(target)?, Retention::of(&options.change));
    let lock = lock(volume.dir(), retention.lock_timeout)?;
    remove_leftovers(&volume, &lock, report)?;
    files::refuse_rollback(&volume)?;
    let before = LiveId::of(&volume)?;
    let mut notifications = Notifications::find(listeners, target, &volume, report);
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let restorer = Restorer { volume: &volume, owner: options.change.owner, progress: &progress };
    let digest = choose(&volume, options.digest.as_deref())?;
    let (grace, needed) = (retention.grace, Some(digest));
    let mut hooks = RunHooks {
        volume: &volume,
        grace,
        needed,
        checks: &checks,
        shutdown,
        notifications: &mut notifications,
        report,
    };
    let done = restorer.rollback(digest, &mut hooks);
    drop(line);
    let RolledBack { digest, totals } = forget_on_failure(done, &notifications, &volume, &before)?;
    if let Some(totals) = totals {
        record_history(&volume, Action::RolledBack, &digest, totals, report);
    }
    shutdown.defer();
    let counts = totals.map(|totals| owned_counts(&counts(totals))).unwrap_or_default();
    let outcome = RunOutcome { live_id: None, digest, is_new: totals.is_some(), counts };
    let (before, outcome) = (before.name, Some(outcome));
    let released = Released::new(volume, lock, before, outcome, notifications, retention);
    let spelt = hex(&digest);
    if let Some(totals) = totals {
        report.count("files", totals.files);
        report.count("bytes", totals.bytes);
        let took = start.elapsed().as_secs_f64();
        print(&format!(
            "rolled back: {} files, {} bytes, sha256:{spelt}, pinned, {took:.2} s\n",
            totals.files, totals.bytes
        ));
    } else {
        print(&format!("pinned: sha256:{spelt}, which was live already\n"));
    }
    released
}
