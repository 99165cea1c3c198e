//! `scan-uids`: prints which UID owns each directory, as JSON.
//!
//! [`roots`] yields the directories to scan, [`walk`] finds what is below them, [`listing`] writes
//! the results. This file connects them, and turns the totals into the summary, the metrics and
//! the exit code.

pub mod cli;
mod listing;
mod roots;
mod walk;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED, conclude, exit_on_signals_as_pid_1, misconfigured, parse};
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::{OutputClosed, unbuffered_stdout};

use cli::{Cli, ScanOptions, TrustNlink};
use listing::format::Format;
use listing::{Counts, Listing};
use walk::exclude::Exclude;
use walk::root::Root;
use walk::{TrustLinkCounts, Walk};

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    let outcome =
        exit_on_signals_as_pid_1().and_then(|()| parse::<Cli>()?.map_or(Ok(DONE), |cli| run(&cli)));
    conclude("scan-uids", outcome)
}

/// Runs the program and returns its exit code.
///
/// # Errors
/// Fails if an option is invalid, or if stdout, the summary or the metrics cannot be written.
fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let mut report = Report::new(cli.summary.is_none());
    let mut totals = Totals::default();
    let scanned = scan(cli, &mut report, &mut totals);
    totals.add_to_summary(&mut report, cli.options.entries);
    let is_complete = scanned.is_ok() && report.partial_failures() == 0;
    let mut outcome = match scanned {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        Err(error) => Err(error),
        Ok(()) if is_complete => Ok(DONE),
        Ok(()) => Ok(FAILED),
    };
    if let Some(file) = &cli.metrics_file {
        let mut metrics = totals.metrics(report.partial_failures(), cli.options.entries);
        // A scan whose reader left early (exit code 0) does not count as a success here.
        metrics.run("scan_uids", start.elapsed(), is_complete, file);
        // An earlier error is more important than one in writing the metrics.
        let written = metrics.write(file);
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

/// The totals of a run.
#[derive(Default)]
struct Totals {
    counts: Counts,
    skipped: u64,
}

impl Totals {
    fn add_to_summary(&self, report: &mut Report, entries: bool) {
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
        let help = "Directories by result; unreadable and vanished count other entries as well.";
        metrics.counter("scan_uids_directories_scanned_total", help, "result", &results);
        if entries {
            let results = [("listed", self.counts.listed())];
            let help = "Entries of all kinds, directories included.";
            metrics.counter("scan_uids_entries_scanned_total", help, "result", &results);
        }
        metrics
    }
}

/// Checks options that depend on each other.
///
/// # Errors
/// Fails with an error of configuration if an option needs another one, or a glob is malformed.
pub fn check(options: &ScanOptions) -> Result<()> {
    walk_options(options).map(|_| ())
}

fn walk_options(options: &ScanOptions) -> Result<walk::Options> {
    let exclude = Exclude::new(&options.exclude)
        .map_err(|error| misconfigured(format_args!("bad value for --exclude: {error}")))?;
    let needs_recursive = [
        ("--max-depth", options.max_depth.is_some()),
        ("--one-file-system", options.one_file_system),
        ("--exclude", !options.exclude.is_empty()),
    ];
    if !is_recursive(options)
        && let Some((flag, _)) = needs_recursive.iter().find(|(_, is_given)| *is_given)
    {
        return Err(misconfigured(format_args!("{flag} needs --recursive")));
    }
    Ok(walk::Options {
        entries: options.entries,
        max_depth: options.max_depth,
        one_file_system: options.one_file_system,
        exclude,
        snapshots: options.snapshots,
        trust_link_counts: match options.trust_nlink {
            TrustNlink::Auto => TrustLinkCounts::WhereKnown,
            TrustNlink::Always => TrustLinkCounts::Always,
            TrustNlink::Never => TrustLinkCounts::Never,
        },
        dont_sync: options.dont_sync,
        max_rate: options.max_rate,
        threads: options.threads.into(),
    })
}

fn is_recursive(options: &ScanOptions) -> bool {
    options.recursive || options.entries
}

fn scan(cli: &Cli, report: &mut Report, totals: &mut Totals) -> Result<()> {
    let walk = Walk::new(walk_options(&cli.options)?);
    let format = if cli.print0 { Format::Nul } else { cli.format };
    let listing = Listing::new(unbuffered_stdout()?, format, cli.options.sort, report);
    let recursive = is_recursive(&cli.options);
    let scanned = roots::for_each(
        &cli.dirs,
        cli.files0_from.as_deref(),
        || listing.flush(),
        |dir: &OsStr| scan_root(dir, &walk, &listing, recursive, &mut totals.skipped),
    );
    let outcome;
    (totals.counts, outcome) = listing.finish(scanned);
    outcome
}

fn scan_root(
    path: &OsStr,
    walk: &Walk,
    listing: &Listing<'_>,
    recursive: bool,
    skipped: &mut u64,
) -> Result<()> {
    walk.wait_for_rate_limit(|| listing.flush())?;
    match walk.stat_root(Path::new(path)) {
        Ok(Root::Directory { uid, dir }) => {
            listing.add_root(path.as_bytes(), uid)?;
            if recursive {
                walk.descend(&dir, &|| listing.visitor())?;
            }
        }
        Ok(Root::NotADirectory) => {
            *skipped += 1;
            let name = one_line(path.as_bytes());
            listing.warn(format!("{name} is not a directory, skipping"));
        }
        Err(error) => listing.fail(&error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn checked(args: &[&str]) -> Result<()> {
        check(&Cli::try_parse_from([&["scan-uids"], args].concat()).unwrap().options)
    }

    #[test]
    fn options_for_what_is_below_need_recursive_or_entries() {
        for option in ["--max-depth=1", "--one-file-system", "--exclude=x"] {
            let flag = option.split('=').next().unwrap();
            let error = checked(&[option, "/"]).unwrap_err().to_string();
            assert_eq!(error, format!("{flag} needs --recursive"));
            assert!(checked(&["--recursive", option, "/"]).is_ok(), "{option}");
            assert!(checked(&["--entries", option, "/"]).is_ok(), "{option}");
        }
    }

    #[test]
    fn a_malformed_glob_is_an_error_of_configuration() {
        let error = checked(&["-r", "--exclude=a[", "/"]).unwrap_err();
        assert!(error.to_string().starts_with("bad value for --exclude: "), "{error}");
        assert_eq!(diagnostics::exit::code_of(&error), diagnostics::exit::MISCONFIGURED);
    }
}
