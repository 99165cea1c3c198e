//! `provisioner`: publishes a directory tree to a volume, whole and durably or not at all.
//!
//! [`mod@publish`] is the course of a run; [`tree`] is what is published, [`compare`] tells what is
//! different, [`stage`] copies, [`durable`] brings it to the disk, [`volume`] is the layout that
//! makes it live.

pub mod cli;
pub mod compare;
pub mod durable;
pub mod lock;
pub mod migrate;
pub mod modes;
pub mod parallel;
pub mod place;
pub mod publish;
pub mod space;
pub mod stage;
pub mod state;
pub mod stop;
pub mod sums;
pub mod superseded;
pub mod tree;
pub mod volume;

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::exit::DONE;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::termination;

use cli::Cli;
use lock::lock;
use modes::Modes;
use place::Place;
use publish::{Allow, Outcome, publish};
use stop::Stop;
use tree::manifest::hex;
use volume::Volume;

/// Runs the command and returns its exit code.
///
/// # Errors
/// As the exit codes say; what was live is live.
pub fn run(cli: &Cli) -> Result<u8> {
    let (start, grace) = (Instant::now(), Duration::from_secs(cli.grace));
    let mut report = Report::new(cli.summary.is_none());
    let mut metrics = Metrics::default();
    let stop = Stop::listen()?;
    let published = provision(cli, start, &stop, &mut report, &mut metrics);
    let (mut outcome, rest) = match published {
        Ok((volume, old)) => (Ok(DONE), Some((volume, old))),
        Err(error) => (Err(error), None),
    };
    if let Some(file) = &cli.metrics_file {
        metrics.run("provisioner", start.elapsed(), outcome.is_ok(), file);
        let written = metrics.write(file);
        // What went wrong before is the more important.
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    let written = termination::write(&cli.termination_log, report.sum_up(&outcome));
    outcome = outcome.and_then(|code| written.map(|()| code));
    // Everything is told by now: readers of the old version may take their time.
    if let Some((volume, old)) = rest {
        let removed = superseded::remove_after(&volume, &old, grace, &stop);
        outcome = outcome.and_then(|code| removed.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

/// Publishes; the volume, and the versions on it that are not live any more.
fn provision(
    cli: &Cli,
    start: Instant,
    stop: &Stop,
    report: &mut Report,
    metrics: &mut Metrics,
) -> Result<(Volume, Vec<String>)> {
    let volume = Volume::open(&cli.target)?;
    let source = Place::open(&cli.source)?;
    let allow = Allow {
        empty: cli.allow_empty,
        only_listed: cli.require_checksums,
        gap: cli.allow_gap,
        modes: Modes { all: cli.mode, are_readable: cli.readable },
    };
    let held = lock(volume.place(), Duration::from_secs(cli.lock_timeout))?;
    superseded::clean(&volume, Duration::from_secs(cli.grace), held.is_exclusive())?;
    let mut outcome = publish(&source, &volume, allow, &mut || Ok(false))?;
    let before = outcome.before.take();
    let old = if outcome.is_published {
        superseded::versions(&volume, before, held.is_exclusive())?
    } else {
        Vec::new()
    };
    stop.defer();
    // The next writer need not wait for the readers.
    drop(held);
    tell(&outcome, start.elapsed(), report, metrics);
    Ok((volume, old))
}

/// Says what was done, in one line and in figures.
fn tell(outcome: &Outcome, took: Duration, report: &mut Report, metrics: &mut Metrics) {
    let found = &outcome.comparison;
    let files = [
        ("added", found.added),
        ("changed", found.changed),
        ("removed", found.removed),
        ("unchanged", found.unchanged),
        ("repaired", found.damaged),
    ];
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
    let line = format!(
        "{word}: {counts}, {} bytes, sha256:{}, {:.2} s\n",
        outcome.bytes,
        hex(&outcome.digest),
        took.as_secs_f64()
    );
    // It is done, whether or not anybody hears of it.
    let _ = stdout().write_all(line.as_bytes());
}
