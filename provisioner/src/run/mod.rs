//! Runs a command. Runs that change a volume have these steps in common:
//!
//! 1. Take the lock of the volume, and remove what killed runs have left.
//! 2. Publish or roll back. A signal ends the process, anywhere.
//! 3. Release the lock, so that the next writer can start. From here on, a signal only ends waiting.
//! 4. Notify the command and the server that the options name.
//! 5. Write the metrics, the termination log and the summary.
//! 6. Retire old versions: archive them, wait for their readers, and remove them.

mod hooks;
mod publish;
mod release;
mod rollback;
mod status;

use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::{Result, anyhow};
use diagnostics::exit::DONE;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::termination;
use published_tree::tree::{Hash, Totals};
use published_tree::volume::Volume;

use crate::archive::history::{Action, record};
use crate::archive::retire::retire;
use crate::cli::{Cli, Command, Show};
use crate::plan::{show_publication, show_rollback};
use crate::shutdown::Shutdown;
use crate::then::{LiveId, Notifications};
use publish::publish_options;
use release::Released;

/// Runs the command, and returns its exit code.
///
/// # Errors
/// If a publication or rollback fails, the live version is unchanged, unless the error says so.
pub fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let (common, change) = match &cli.command {
        None => (&cli.common, &cli.change),
        Some(Command::Rollback(options)) => (&options.common, &options.change),
        Some(Command::Status(options)) => return show(options, status::show_status),
        Some(Command::History(options)) => return show(options, status::show_history),
    };
    let mut report = Report::before_output(common.summary.is_none());
    let mut metrics = Metrics::default();
    let shutdown = Shutdown::listen()?;
    let done = match &cli.command {
        None if change.dry_run => {
            show_publication(cli, &publish_options(cli), start, &mut report).map(|()| None)
        }
        Some(Command::Rollback(options)) if change.dry_run => {
            show_rollback(options, &mut report).map(|()| None)
        }
        Some(Command::Rollback(options)) => {
            rollback::run(options, start, &shutdown, &mut report).map(Some)
        }
        _ => publish::run(cli, start, &shutdown, &mut report, &mut metrics).map(Some),
    };
    let (mut result, mut released) = match done {
        Ok(released) => (Ok(DONE), released),
        Err(error) => (Err(error), None),
    };
    if let Some(Released { volume, outcome: Some(outcome), notifications, retention, .. }) =
        &mut released
    {
        let timeout = retention.lock_timeout;
        let sent = notifications.send(volume, outcome, timeout, &shutdown, &mut report);
        result = result.and_then(|code| sent.map(|()| code));
    }
    // A dry run leaves the metrics of the last real run.
    if let Some(file) = change.metrics_file.as_ref().filter(|_| !change.dry_run) {
        metrics.run("provisioner", start.elapsed(), result.is_ok(), file);
        let written = metrics.write(file);
        // An earlier error is the more important one.
        result = result.and_then(|code| written.map(|()| code));
    }
    let written = termination::write(&change.termination_log, report.summarize(&result));
    result = result.and_then(|code| written.map(|()| code));
    // This may wait for the grace period, so it comes last.
    if let Some(Released { volume, old, retention, .. }) = released {
        let retired = retire(&volume, &old, retention, &shutdown, &mut report);
        result = result.and_then(|code| retired.map(|()| code));
    }
    report.finish(result, common.summary.as_deref())
}

/// Runs a command that only reads a volume.
fn show(options: &Show, command: impl FnOnce(&Show, &mut Report) -> Result<u8>) -> Result<u8> {
    let mut report = Report::new(options.common.summary.is_none());
    let shown = command(options, &mut report);
    report.finish(shown, options.common.summary.as_deref())
}

/// Removes the pending notifications of a failed run, if the version `before` is still live.
fn forget_on_failure<T>(
    outcome: Result<T>,
    notifications: &Notifications,
    volume: &Volume,
    before: &LiveId,
) -> Result<T> {
    if outcome.is_err() && LiveId::of(volume).is_ok_and(|live| live == *before) {
        notifications.forget(volume);
    }
    outcome
}

/// Adds the live version to the history.
fn record_history(
    volume: &Volume,
    action: Action,
    digest: &Hash,
    totals: Totals,
    report: &mut Report,
) {
    let recorded = record(volume, action, digest, totals).and_then(|broken| match broken {
        0 => Ok(()),
        _ => Err(anyhow!("{broken} lines could not be parsed, and were dropped")),
    });
    report.warn_on_error(recorded, "the history is not complete");
}

/// Prints to stdout. A closed stdout is no error: the volume has changed already.
fn print(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}
