//! `scan-uids`: prints which UID owns each directory. [`mod@walk`] finds them, [`listing`] prints
//! them; this file turns arguments into walks, and what came of them into counts and an exit code.

pub mod cli;
pub mod listing;
pub mod roots;
pub mod walk;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED, misconfigured};
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::{OutputClosed, unbuffered_stdout};

use cli::{Cli, ScanOptions, TrustNlink};
use listing::format::Format;
use listing::{Counts, Listing};
use walk::exclude::Exclude;
use walk::root::Root;
use walk::{Below, LinkCounts, Walk};

/// Runs the command and returns its exit code.
///
/// # Errors
/// A bad option, or stdout, the summary or the metrics cannot be written.
pub fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let mut report = Report::new(cli.summary.is_none());
    let mut found = Found::default();
    let listed = list(cli, &mut report, &mut found);
    found.tell(&mut report, cli.options.entries);
    let is_done = listed.is_ok() && report.partial_failures() == 0;
    let mut outcome = match listed {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        Err(error) => Err(error),
        Ok(()) if is_done => Ok(DONE),
        Ok(()) => Ok(FAILED),
    };
    if let Some(file) = &cli.metrics_file {
        let mut metrics = found.metrics(report.partial_failures(), cli.options.entries);
        // What a reader did not want to its end is no success to build on.
        metrics.run("scan_uids", start.elapsed(), is_done, file);
        // What went wrong before is the more important.
        let written = metrics.write(file);
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

/// What a run came upon.
#[derive(Default)]
struct Found {
    counts: Counts,
    skipped: u64,
}

impl Found {
    fn tell(&self, report: &mut Report, entries: bool) {
        report.count("directories", self.counts.directories);
        if entries {
            report.count("entries", self.counts.listed());
        }
        report.count("skipped", self.skipped);
        report.count("vanished", self.counts.vanished);
        report.count("unreadable", report.partial_failures());
    }

    fn metrics(&self, unreadable: u64, entries: bool) -> Metrics {
        let mut metrics = Metrics::default();
        let results = [
            ("listed", self.counts.directories),
            ("skipped", self.skipped),
            ("unreadable", unreadable),
            ("vanished", self.counts.vanished),
        ];
        let help = "Directories by what came of them; of the last two, other entries as well.";
        metrics.counter("scan_uids_directories_scanned_total", help, "result", &results);
        if entries {
            let results = [("listed", self.counts.listed())];
            metrics.counter(
                "scan_uids_entries_scanned_total",
                "Directories and others.",
                "result",
                &results,
            );
        }
        metrics
    }
}

/// Checks options that depend on each other, without doing anything.
///
/// # Errors
/// What is wrong with them, as an error of configuration.
pub fn check(options: &ScanOptions) -> Result<()> {
    below(options).map(|_| ())
}

fn below(options: &ScanOptions) -> Result<Below> {
    let exclude = Exclude::new(&options.exclude)
        .map_err(|error| misconfigured(format_args!("bad value for --exclude: {error}")))?;
    let needs_recursive = [
        ("--max-depth", options.max_depth.is_some()),
        ("--one-file-system", options.one_file_system),
        ("--exclude", !options.exclude.is_empty()),
    ];
    if !descends(options)
        && let Some((flag, _)) = needs_recursive.iter().find(|(_, given)| *given)
    {
        return Err(misconfigured(format_args!("{flag} needs --recursive")));
    }
    Ok(Below {
        entries: options.entries,
        max_depth: options.max_depth,
        one_file_system: options.one_file_system,
        exclude,
        snapshots: options.snapshots,
        link_counts: match options.trust_nlink {
            TrustNlink::Auto => LinkCounts::WhereKnown,
            TrustNlink::Always => LinkCounts::Always,
            TrustNlink::Never => LinkCounts::Never,
        },
        dont_sync: options.dont_sync,
        max_rate: options.max_rate,
        threads: options.threads.into(),
    })
}

fn descends(options: &ScanOptions) -> bool {
    options.recursive || options.entries
}

fn list(cli: &Cli, report: &mut Report, found: &mut Found) -> Result<()> {
    let walk = Walk::new(below(&cli.options)?);
    let format = if cli.print0 { Format::Nul } else { cli.format };
    let listing = Listing::new(unbuffered_stdout()?, format, cli.options.sort, report);
    let listed = roots::for_each(
        &cli.dirs,
        cli.files0_from.as_deref(),
        || listing.flush(),
        |dir: &OsStr| list_root(dir, &walk, &listing, descends(&cli.options), &mut found.skipped),
    );
    let outcome;
    (found.counts, outcome) = listing.finish(listed);
    outcome
}

fn list_root(
    dir: &OsStr,
    walk: &Walk,
    listing: &Listing<'_>,
    descends: bool,
    skipped: &mut u64,
) -> Result<()> {
    walk.keep_to_the_rate(|| listing.flush())?;
    match walk.look(Path::new(dir)) {
        Ok(Root::Directory(uid, start)) => {
            listing.add_root(dir.as_bytes(), uid)?;
            if descends {
                walk.descend(&start, &|| listing.visitor())?;
            }
        }
        Ok(Root::NotADirectory) => {
            *skipped += 1;
            let name = one_line(dir.as_bytes());
            listing.warn(format!("{name} is not a directory, skipping"));
        }
        Err(error) => listing.fail(&error),
    }
    Ok(())
}
