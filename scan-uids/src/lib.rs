//! `scan-uids`: prints which UID owns each directory. [`mod@walk`] finds them; this file turns
//! arguments into walks and findings into JSON, warnings and counts.

pub mod cli;
pub mod listing;
pub mod walk;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED, misconfigured};
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::{OutputClosed, unbuffered_stdout};

use cli::{Cli, ScanOptions};
use listing::Listing;
use walk::exclude::Exclude;
use walk::{Below, Root};

/// Runs the command and returns its exit code.
///
/// # Errors
/// A bad option, or stdout or the summary cannot be written.
pub fn run(cli: &Cli) -> Result<u8> {
    let mut report = Report::new(cli.summary.is_none());
    let outcome = match list(cli, &mut report) {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        Err(error) => Err(error),
        Ok(()) if report.partial_failures() > 0 => Ok(FAILED),
        Ok(()) => Ok(DONE),
    };
    report.finish(outcome, cli.summary.as_deref())
}

/// Checks options that depend on each other, without doing anything.
///
/// # Errors
/// What is wrong with them, as an error of configuration.
pub fn check(options: &ScanOptions) -> Result<()> {
    below(options).map(|_| ())
}

fn below(options: &ScanOptions) -> Result<Option<Below>> {
    let exclude = Exclude::new(&options.exclude)
        .map_err(|error| misconfigured(format_args!("bad value for --exclude: {error}")))?;
    if options.recursive || options.entries {
        return Ok(Some(Below {
            entries: options.entries,
            max_depth: options.max_depth,
            one_file_system: options.one_file_system,
            exclude,
            trust_link_counts: options.trust_nlink,
            threads: options.threads,
        }));
    }
    let needs_recursive = [
        ("--max-depth", options.max_depth.is_some()),
        ("--one-file-system", options.one_file_system),
        ("--exclude", !options.exclude.is_empty()),
    ];
    match needs_recursive.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(misconfigured(format_args!("{flag} needs --recursive"))),
        None => Ok(None),
    }
}

fn list(cli: &Cli, report: &mut Report) -> Result<()> {
    let below = below(&cli.options)?;
    let listing = Listing::new(unbuffered_stdout()?, report);
    let mut skipped = 0;
    for dir in &cli.dirs {
        match walk::look(Path::new(dir)) {
            Ok(Root::Directory(uid, start)) => {
                listing.add_root(dir.as_bytes(), uid)?;
                if let Some(below) = &below {
                    walk::walk(&start, below, &|| listing.visitor())?;
                }
            }
            Ok(Root::NotADirectory) => {
                skipped += 1;
                let name = one_line(dir.as_bytes());
                listing.warn(format!("{name} is not a directory, skipping"));
            }
            Err(error) => listing.fail(&error),
        }
    }
    let count = listing.finish()?;
    report.count("directories", count);
    report.count("skipped", skipped);
    report.count("unreadable", report.partial_failures());
    Ok(())
}
