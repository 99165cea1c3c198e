//! The command without a subcommand: publishes a source, unless the volume is pinned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use published_tree::dir::Dir;
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::tree::Totals;
use published_tree::volume::Volume;

use super::hooks::{RunHooks, owned_counts};
use super::release::Released;
use super::{forget_on_failure, print, record_history};
use crate::archive::history::Action;
use crate::archive::leftovers::remove_leftovers;
use crate::archive::pin::{Pin, effective_pin};
use crate::archive::retire::Retention;
use crate::archive::rollback::{Pinned, Restorer, counts as totals_counts};
use crate::atomic::publish::{self, Outcome};
use crate::check::Checks;
use crate::cli::{Cli, Layout};
use crate::copy::progress_line::ProgressLine;
use crate::files;
use crate::shutdown::Shutdown;
use crate::source::PublishOptions;
use crate::source::modes::Modes;
use crate::state::lock::{Lock, lock};
use crate::then::{Listeners, LiveId, Notifications, RunOutcome};

/// Publishes, or keeps the pinned version live.
///
/// # Errors
/// Fails if the source must not be published, or the volume cannot be written or is locked.
pub fn run(
    cli: &Cli,
    start: Instant,
    shutdown: &Shutdown,
    report: &mut Report,
    metrics: &mut Metrics,
) -> Result<Released> {
    let checks = Checks::of(&cli.change.check, &cli.common.target)?;
    let listeners = Listeners::of(&cli.change.then)?;
    let (volume, retention) = (Volume::open(&cli.common.target)?, Retention::of(&cli.change));
    let lock = lock(volume.dir(), retention.lock_timeout)?;
    remove_leftovers(&volume, &lock, report)?;
    let before = LiveId::of(&volume)?;
    let mut notifications = Notifications::find(listeners, &cli.common.target, &volume, report);
    if let Some(pin) = effective_pin(cli.unpin, &volume, report) {
        let outcome = keep_pinned(cli, &volume, &pin, shutdown, &mut notifications, report)?;
        shutdown.defer();
        return Released::new(volume, lock, before.name, outcome, notifications, retention);
    }
    let grace = Duration::from_secs(cli.change.grace);
    let mut hooks = RunHooks {
        volume: &volume,
        grace,
        needed: None,
        checks: &checks,
        shutdown,
        notifications: &mut notifications,
        report,
    };
    let publication = publish(cli, &volume, &lock, &mut hooks);
    let mut publication = forget_on_failure(publication, &notifications, &volume, &before)?;
    record_history(&volume, Action::Published, &publication.digest, publication.totals, report);
    shutdown.defer();
    let outcome = RunOutcome {
        live_id: None,
        digest: publication.digest,
        is_new: publication.is_published,
        counts: owned_counts(&publish::counts(&publication.comparison, publication.bytes)),
    };
    let before = publication.before.take();
    let released = Released::new(volume, lock, before, Some(outcome), notifications, retention);
    // The version is live, even if the old ones cannot be listed.
    print_outcome(&publication, start.elapsed(), report, metrics);
    released
}

/// What the command line asks of a publication.
pub fn publish_options(cli: &Cli) -> PublishOptions {
    PublishOptions {
        allow_empty: cli.allow_empty,
        require_checksums: cli.require_checksums,
        allow_gap: cli.allow_gap,
        modes: Modes { all: cli.mode, readable: cli.readable },
        owner: cli.change.owner,
    }
}

fn publish(cli: &Cli, volume: &Volume, lock: &Lock, hooks: &mut RunHooks<'_>) -> Result<Outcome> {
    let (source, options) = (Dir::open(&cli.source)?, publish_options(cli));
    let progress = Arc::new(Progress::default());
    let _line = ProgressLine::start(hooks.report.progress(), &progress);
    match cli.layout {
        Layout::Atomic => {
            let mut outcome = publish::publish(&source, volume, &options, hooks, &progress)?;
            // A run that was killed may have published the tree, and left the plain files.
            outcome.is_published |= files::remove_all(volume, hooks.report)?;
            Ok(outcome)
        }
        Layout::Files => {
            let claims = files::claims::Claims::of(volume, hooks.report)?;
            files::publish(&source, volume, lock, &claims, &options, hooks, &progress)
        }
    }
}

/// Keeps the pinned version live. Returns `None` if it cannot be restored. It is not checked: the
/// rollback that pinned it was.
fn keep_pinned(
    cli: &Cli,
    volume: &Volume,
    pin: &Pin,
    shutdown: &Shutdown,
    notifications: &mut Notifications,
    report: &mut Report,
) -> Result<Option<RunOutcome>> {
    let (digest, before) = (hex(&pin.digest), LiveId::of(volume)?);
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let restorer = Restorer { volume, owner: cli.change.owner, progress: &progress };
    let grace = Duration::from_secs(cli.change.grace);
    let (needed, checks) = (Some(pin.digest), &Checks::default());
    let mut hooks = RunHooks { volume, grace, needed, checks, shutdown, notifications, report };
    let pinned = restorer.keep_pinned(pin, &mut hooks);
    drop(line);
    let pinned = forget_on_failure(pinned, notifications, volume, &before)?;
    let outcome = |totals: Option<Totals>| {
        let counts = totals.map(|totals| owned_counts(&totals_counts(totals))).unwrap_or_default();
        Some(RunOutcome { live_id: None, digest: pin.digest, is_new: totals.is_some(), counts })
    };
    let (outcome, more) = match pinned {
        Pinned::Live => (outcome(None), ""),
        Pinned::Relinked(totals) => (outcome(Some(totals)), ""),
        Pinned::Restored(totals) => {
            record_history(volume, Action::RolledBack, &pin.digest, totals, report);
            (outcome(Some(totals)), ", but restored")
        }
        Pinned::Lost(error) => {
            report.warn(format!("version {digest} is pinned, but missing or damaged: {error:#}"));
            notifications.forget(volume);
            (None, "")
        }
    };
    print(&format!("pinned to sha256:{digest}: not published{more}\n"));
    Ok(outcome)
}

/// Prints the outcome in one line, and adds it to the report and the metrics.
fn print_outcome(outcome: &Outcome, took: Duration, report: &mut Report, metrics: &mut Metrics) {
    let files = outcome.comparison.counts();
    files.iter().for_each(|(name, count)| report.count(name, *count));
    report.count("bytes", outcome.bytes);
    metrics.counter(
        "provisioner_files_total",
        "Files by what became of them.",
        "op",
        &files.map(|(name, count)| (name, count)),
    );
    metrics.count("provisioner_bytes_total", "Bytes copied from the source.", outcome.bytes);
    let word = if outcome.is_published { "published" } else { "unchanged" };
    let counts = files.map(|(name, count)| format!("{count} {name}")).join(", ");
    print(&format!(
        "{word}: {counts}, {} bytes, sha256:{}, {:.2} s\n",
        outcome.bytes,
        hex(&outcome.digest),
        took.as_secs_f64()
    ));
}
