//! `resolver`: turns UIDs into e-mail addresses.
//!
//! [`mod@resolve`] is the stream, [`answers`] the memory of what was asked, [`owner`] the rule that
//! chooses among entries; [`directory`] and [`ldap`] are the sources; [`config`] checks what
//! flags and environment say before anything is opened.

pub mod cli;
mod config;
mod directory;
mod ldap;
mod ldif;
mod pipeline;
mod small_file;

#[doc(hidden)]
pub use ldap::protocol::validator::{Guard, Violation};

use std::io;
use std::time::Instant;

use anyhow::Result;
use diagnostics::exit::DONE;
use diagnostics::metrics::Metrics;
use diagnostics::report::Report;
use owner_json::{OutputClosed, unbuffered_stdout};

use cli::Cli;
use config::{Config, Source};
use directory::Directory;
use ldap::Server;
use ldif::Export;
use pipeline::Done;
use pipeline::answers::Answers;

/// Runs the command and returns its exit code.
///
/// # Errors
/// As the exit codes say: configuration, an unanswered question, bad input, unwritable output.
pub fn run(cli: &Cli) -> Result<u8> {
    let start = Instant::now();
    let mut report = Report::new(cli.summary.is_none());
    let mut metrics = Metrics::default();
    let streamed = stream(cli, &mut report, &mut metrics);
    let is_done = streamed.is_ok();
    let mut outcome = match streamed {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        streamed => streamed.map(|()| DONE),
    };
    if let Some(file) = &cli.metrics_file {
        // What a reader did not want to its end is no success to build on.
        metrics.run("resolver", start.elapsed(), is_done, file);
        let written = metrics.write(file);
        // What went wrong before is the more important.
        outcome = outcome.and_then(|code| written.map(|()| code));
    }
    report.finish(outcome, cli.summary.as_deref())
}

fn stream(cli: &Cli, report: &mut Report, metrics: &mut Metrics) -> Result<()> {
    let password = std::env::var_os("LDAP_BIND_PASS");
    let Config { source, attributes, base, filter } = Config::new(&cli.options, password, report)?;
    let (base, filter) = (base.as_deref(), filter.as_ref());
    let directory: Box<dyn Directory> = match source {
        Source::Ldif(file) => {
            Box::new(Export::open(&file, &attributes, base, filter.map(|(_, filter)| filter))?)
        }
        Source::Ldap(access) => {
            let filter = filter.map(|(text, _)| &text[..]);
            Box::new(Server::connect(access, attributes, base, filter, report)?)
        }
    };
    let mut answers = Answers::new(cli.options.format, report);
    let mut done = Done::default();
    let outcome =
        pipeline::resolve(io::stdin(), unbuffered_stdout()?, directory, &mut answers, &mut done);
    measure(metrics, &done, answers.counts());
    answers.conclude(&done.remarks, done.paths, outcome.is_ok());
    outcome
}

fn measure(metrics: &mut Metrics, done: &Done, (owners, unresolved): (u64, u64)) {
    let searches = &done.remarks.searches;
    let results = [
        ("answered", searches.answered),
        ("too_large", searches.too_large),
        ("failed", searches.failed),
    ];
    let help = "Searches by what came of them.";
    metrics.counter("resolver_ldap_queries_total", help, "result", &results);
    let help = "How long the answered searches took.";
    metrics.histogram("resolver_ldap_query_duration_seconds", help, &searches.durations);
    metrics.count("resolver_paths_total", "Paths that were resolved.", done.paths);
    metrics.count("resolver_owners_total", "Distinct UIDs.", owners);
    let help = "Distinct UIDs without an address.";
    metrics.count("resolver_unresolved_owners_total", help, unresolved);
}
