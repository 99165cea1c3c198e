//! `provisioner`: publishes a directory tree to a volume, whole and durably or not at all.
//!
//! [`mod@publish`] is the course of a run, [`plan`] what it would be; [`tree`] is what is published,
//! [`compare`] tells what is different, [`stage`] copies, [`durable`] brings it to the disk,
//! [`volume`], with [`version`] and [`names`], is the layout that makes it live, [`files`] one
//! without links, [`mod@withdraw`] takes back what fails, [`then`] tells others. [`superseded`] is
//! what becomes of versions before, which [`archive`] packs and [`mod@rollback`] makes live again.

pub mod archive;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod durable;
pub mod files;
pub mod full;
pub mod history;
pub mod kept;
pub mod lock;
pub mod migrate;
pub mod modes;
pub mod names;
pub mod owner;
pub mod parallel;
pub mod pin;
pub mod place;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod records;
pub mod rollback;
pub mod seal;
pub mod sound;
pub mod space;
pub mod stage;
pub mod state;
pub mod status;
pub mod stop;
pub mod strangers;
pub mod sums;
pub mod superseded;
pub mod then;
pub mod time;
pub mod tree;
pub mod unpack;
pub mod version;
pub mod volume;
pub mod withdraw;

use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::exit::DONE;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::termination;

use cli::{Cli, Command, Layout, Look};
use commands::{
    Rest, let_go, note, or_withdraw, pin_of, roll_back, say, show_history, show_status, stay, terms,
};
use compare::Comparison;
use history::Action;
use lock::lock;
use modes::Modes;
use place::Place;
use plan::{show_publication, show_rollback};
use progress::Shown;
use publish::{Allow, Outcome, publish};
use stop::Stop;
use superseded::{give_up, retire};
use then::{Counts, Listeners, Live, Mark, News};
use tree::Hash;
use tree::manifest::hex;
use volume::Volume;

/// Runs the command and returns its exit code.
///
/// # Errors
/// As the exit codes say; what was live is live.
pub fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let (at, change) = match &cli.command {
        None => (&cli.at, &cli.change),
        Some(Command::Rollback(options)) => (&options.at, &options.change),
        Some(Command::Status(options)) => return look(options, show_status),
        Some(Command::History(options)) => return look(options, show_history),
    };
    let mut report = Report::before_output(at.summary.is_none());
    let mut metrics = Metrics::default();
    let stop = Stop::listen()?;
    let done = match &cli.command {
        None if change.dry_run => {
            show_publication(cli, allow(cli), start, &mut report).map(|()| None)
        }
        Some(Command::Rollback(options)) if change.dry_run => {
            show_rollback(options, &mut report).map(|()| None)
        }
        Some(Command::Rollback(options)) => roll_back(options, start, &stop, &mut report).map(Some),
        _ => provision(cli, start, &stop, &mut report, &mut metrics).map(Some),
    };
    let (mut outcome, mut rest) = match done {
        Ok(rest) => (Ok(DONE), rest),
        Err(error) => (Err(error), None),
    };
    if let Some(Rest { volume, live: Some(live), news, terms, .. }) = &mut rest {
        let told = news.tell(volume, live, terms.lock_timeout, &stop, &mut report);
        outcome = outcome.and_then(|code| told.map(|()| code));
    }
    // Of what a run would do there are no metrics: they tell of the last one that did.
    if let Some(file) = change.metrics_file.as_ref().filter(|_| !change.dry_run) {
        metrics.run("provisioner", start.elapsed(), outcome.is_ok(), file);
        let written = metrics.write(file);
        // What went wrong before is the more important.
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    let written = termination::write(&change.termination_log, report.sum_up(&outcome));
    outcome = outcome.and_then(|code| written.map(|()| code));
    // Everything is told by now: readers of the old version may take their time.
    if let Some(Rest { volume, old, terms, .. }) = rest {
        let retired = retire(&volume, &old, terms, &stop, &mut report);
        outcome = outcome.and_then(|code| retired.map(|()| code));
    }
    report.finish(outcome, at.summary.as_deref())
}

/// Shows something of a volume.
fn look(options: &Look, show: impl FnOnce(&Look, &mut Report) -> Result<u8>) -> Result<u8> {
    let mut report = Report::new(options.at.summary.is_none());
    let shown = show(options, &mut report);
    report.finish(shown, options.at.summary.as_deref())
}

/// Publishes, unless the volume is pinned.
fn provision(
    cli: &Cli,
    start: Instant,
    stop: &Stop,
    report: &mut Report,
    metrics: &mut Metrics,
) -> Result<Rest> {
    let listeners = Listeners::of(&cli.change.then)?;
    let (volume, terms) = (Volume::open(&cli.at.target)?, terms(&cli.change));
    let held = lock(volume.place(), terms.lock_timeout)?;
    superseded::clean(&volume, &held, report)?;
    let before = Mark::of(&volume)?;
    let mut news = News::find(listeners, &cli.at.target, &volume, report);
    if let Some(pin) = pin_of(cli.unpin, &volume, report) {
        let live = stay(&volume, &pin, terms, cli.change.owner, &mut news, report)?;
        stop.defer();
        return let_go(volume, held, before.name, (live, news), terms);
    }
    let source = Place::open(&cli.source)?;
    let mut announce = |digest: &Hash, found: &Comparison, bytes| {
        news.note(&volume, digest, &counts(found, bytes));
    };
    let shown = Shown::on(report.progress());
    let outcome = match cli.layout {
        Layout::Atomic => {
            let mut make_room = || give_up(&volume, terms.grace, None, report);
            publish(&source, &volume, allow(cli), &mut make_room, &mut announce)
                .and_then(|outcome| left_files(outcome, &volume, report))
        }
        Layout::Files => {
            let writer = (&held, terms.grace);
            files::publish(&source, &volume, allow(cli), writer, report, &mut announce)
        }
    };
    drop(shown);
    let mut outcome = or_withdraw(outcome, &news, &volume, &before)?;
    note(&volume, Action::Published, &outcome.digest, outcome.totals, report);
    stop.defer();
    let live = Live {
        mark: None,
        digest: outcome.digest,
        is_new: outcome.is_published,
        counts: counts(&outcome.comparison, outcome.bytes),
    };
    let rest = let_go(volume, held, outcome.before.take(), (Some(live), news), terms);
    // It is live, whatever became of the version before.
    tell(&outcome, start.elapsed(), report, metrics);
    rest
}

/// What a publication behind links has come to, when what was plain files before is gone.
fn left_files(mut outcome: Outcome, volume: &Volume, report: &mut Report) -> Result<Outcome> {
    // A run that was killed may have published the tree already, and have left them.
    outcome.is_published |= files::leave(volume, report)?;
    Ok(outcome)
}

/// What the command line allows.
fn allow(cli: &Cli) -> Allow {
    Allow {
        empty: cli.allow_empty,
        only_listed: cli.require_checksums,
        gap: cli.allow_gap,
        modes: Modes { all: cli.mode, are_readable: cli.readable },
        owner: cli.change.owner,
    }
}

/// Figures of a publication, by name.
fn counts(found: &Comparison, bytes: u64) -> Counts {
    let files = found.counts().into_iter();
    files.chain([("bytes", bytes)]).map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Says what was done, in one line and in figures.
fn tell(outcome: &Outcome, took: Duration, report: &mut Report, metrics: &mut Metrics) {
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
    let line = format!(
        "{word}: {counts}, {} bytes, sha256:{}, {:.2} s\n",
        outcome.bytes,
        hex(&outcome.digest),
        took.as_secs_f64()
    );
    say(&line);
}
