//! `provisioner`: publishes a directory tree to a volume, whole and durably or not at all.
//!
//! [`mod@publish`] is the course of a run; [`tree`] is what is published, [`compare`] tells what is
//! different, [`stage`] copies, [`durable`] brings it to the disk, [`volume`] is the layout that
//! makes it live, [`files`] one without links. [`superseded`] is what becomes of versions before, which [`archive`] packs and
//! [`mod@rollback`] makes live again.

pub mod archive;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod durable;
pub mod files;
pub mod history;
pub mod kept;
pub mod lock;
pub mod migrate;
pub mod modes;
pub mod owner;
pub mod parallel;
pub mod pin;
pub mod place;
pub mod publish;
pub mod rollback;
pub mod seal;
pub mod sound;
pub mod space;
pub mod stage;
pub mod state;
pub mod status;
pub mod stop;
pub mod sums;
pub mod superseded;
pub mod time;
pub mod tree;
pub mod unpack;
pub mod volume;
pub mod withdraw;

use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::exit::DONE;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::termination;

use cli::{Cli, Command, Layout};
use commands::{
    Rest, let_go, note, pin_of, roll_back, say, show_history, show_status, stay, terms,
};
use history::Action;
use lock::lock;
use modes::Modes;
use place::Place;
use publish::{Allow, Outcome, publish};
use stop::Stop;
use superseded::{give_up, retire};
use tree::manifest::hex;
use volume::Volume;

/// Runs the command and returns its exit code.
///
/// # Errors
/// As the exit codes say; what was live is live.
pub fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let mut report = Report::new(cli.summary.is_none());
    let mut metrics = Metrics::default();
    let stop = Stop::listen()?;
    let done = match &cli.command {
        None => provision(cli, start, &stop, &mut report, &mut metrics),
        Some(Command::Rollback { digest }) => {
            roll_back(cli, digest.as_deref(), start, &stop, &mut report)
        }
        Some(Command::Status { json }) => {
            let outcome = show_status(cli, *json, &mut report);
            return report.finish(outcome, cli.summary.as_deref());
        }
        Some(Command::History { json }) => {
            let outcome = show_history(cli, *json, &mut report);
            return report.finish(outcome, cli.summary.as_deref());
        }
    };
    let (mut outcome, rest) = match done {
        Ok(rest) => (Ok(DONE), Some(rest)),
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
    if let Some(Rest { volume, old, terms }) = rest {
        let retired = retire(&volume, &old, terms, &stop, &mut report);
        outcome = outcome.and_then(|code| retired.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

/// Publishes, unless the volume is pinned.
fn provision(
    cli: &Cli,
    start: Instant,
    stop: &Stop,
    report: &mut Report,
    metrics: &mut Metrics,
) -> Result<Rest> {
    let (volume, terms) = (Volume::open(&cli.target)?, terms(cli));
    let held = lock(volume.place(), terms.lock_timeout)?;
    superseded::clean(&volume, &held, report)?;
    if let Some(pin) = pin_of(cli, &volume, report) {
        let before = volume.live_name()?;
        let is_new = stay(&volume, &pin, terms, cli.owner, report)?;
        stop.defer();
        return let_go(volume, held, before, is_new, terms);
    }
    let source = Place::open(&cli.source)?;
    let allow = Allow {
        empty: cli.allow_empty,
        only_listed: cli.require_checksums,
        gap: cli.allow_gap,
        modes: Modes { all: cli.mode, are_readable: cli.readable },
        owner: cli.owner,
    };
    let mut outcome = match cli.layout {
        Layout::Atomic => {
            let mut make_room = || give_up(&volume, terms.grace, None, report);
            let outcome = publish(&source, &volume, allow, &mut make_room)?;
            files::leave(&volume, report)?;
            outcome
        }
        Layout::Files => files::publish(&source, &volume, allow, (&held, terms.grace), report)?,
    };
    note(&volume, Action::Published, &outcome.digest, outcome.totals, report);
    stop.defer();
    let rest = let_go(volume, held, outcome.before.take(), outcome.is_published, terms)?;
    tell(&outcome, start.elapsed(), report, metrics);
    Ok(rest)
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
    say(&line);
}
