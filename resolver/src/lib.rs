//! `resolver` turns the UIDs of an ownership listing into e-mail addresses.
//!
//! The way of the data, one module for each step:
//!
//! 1. [`config`] checks options and environment before anything is opened.
//! 2. [`ldif`] or [`ldap`] opens the source of owners, a [`Directory`].
//! 3. [`pipeline`] reads pairs, looks their UIDs up and writes the result.

pub mod cli;
mod config;
mod directory;
mod ldap;
mod ldif;
mod pipeline;

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use diagnostics::exit::{DONE, conclude, exit_on_signals_as_pid_1, parse};
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use owner_json::{OutputClosed, unbuffered_stdout};

use cli::Cli;
use config::{Config, Source};
use directory::{Directory, Searches};
use ldap::LdapDirectory;
use ldif::Export;
use pipeline::answers::AnswerCache;

// For the property test and the fuzz target, which cannot reach private modules.
#[doc(hidden)]
pub use ldap::protocol::validator::{Validator, Violation};

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    let outcome =
        exit_on_signals_as_pid_1().and_then(|()| parse::<Cli>()?.map_or(Ok(DONE), |cli| run(&cli)));
    conclude("resolver", outcome)
}

/// Runs the command and returns its exit code.
///
/// # Errors
/// Fails if an option or the configuration of a server is wrong (exit code 2), or if the input, a
/// lookup or the output failed (exit code 1).
fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let mut report = Report::new(cli.summary.is_none());
    let mut metrics = Metrics::default();
    let resolved = resolve(cli, &mut report, &mut metrics);
    let is_complete = resolved.is_ok();
    let mut outcome = match resolved {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        resolved => resolved.map(|()| DONE),
    };
    if let Some(file) = &cli.metrics_file {
        // A result whose reader went away is incomplete, so it is no success for the metrics.
        metrics.run("resolver", start.elapsed(), is_complete, file);
        let written = metrics.write(file);
        // An earlier error is the more important one.
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

fn resolve(cli: &Cli, report: &mut Report, metrics: &mut Metrics) -> Result<()> {
    let password = std::env::var_os("LDAP_BIND_PASS");
    let config = Config::new(&cli.options, password, report)?;
    let directory: Box<dyn Directory> = match config.source {
        Source::Ldif(export) => Box::new(Export::open(&export, &config.attributes)?),
        Source::Ldap(options) => {
            Box::new(LdapDirectory::connect(options, config.attributes, report)?)
        }
    };
    let mut answers = AnswerCache::new(cli.options.format, report);
    let finished = pipeline::resolve(io::stdin(), unbuffered_stdout()?, directory, &mut answers);
    add_search_metrics(metrics, &finished.stats.searches);
    metrics.count("resolver_paths_total", "Paths that were resolved.", finished.paths);
    metrics.count("resolver_owners_total", "Distinct UIDs.", answers.owners());
    let help = "Distinct UIDs without an address.";
    metrics.count("resolver_unresolved_owners_total", help, answers.unresolved());
    answers.report_totals(&finished.stats, finished.paths, finished.result.is_ok());
    finished.result
}

fn add_search_metrics(metrics: &mut Metrics, searches: &Searches) {
    let results = [
        ("answered", searches.answered),
        ("too_large", searches.too_large),
        ("failed", searches.failed),
    ];
    let help = "Searches by result.";
    metrics.counter("resolver_ldap_queries_total", help, "result", &results);
    let help = "How long the answered searches took.";
    metrics.histogram("resolver_ldap_query_duration_seconds", help, &searches.durations);
}
