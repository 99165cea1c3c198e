//! `resolver`: turns UIDs into e-mail addresses.
//!
//! [`mod@resolve`] is the stream, [`answers`] the memory of what was asked, [`owner`] the rule that
//! chooses among entries; [`directory`] and [`ldap`] are the sources; [`config`] checks what
//! flags and environment say before anything is opened.

pub mod answers;
pub mod cli;
pub mod config;
pub mod directory;
pub mod dn;
pub mod filter;
pub mod ldap;
pub mod ldif;
pub mod owner;
pub mod resolve;

use std::io;

use anyhow::Result;
use diagnostics::exit::DONE;
use diagnostics::report::Report;
use owner_json::{OutputClosed, unbuffered_stdout};

use answers::Answers;
use cli::Cli;
use config::{Config, Source};
use directory::{Directory, Export};
use ldap::Server;

/// Runs the command and returns its exit code.
///
/// # Errors
/// As the exit codes say: configuration, an unanswered question, bad input, unwritable output.
pub fn run(cli: &Cli) -> Result<u8> {
    let mut report = Report::new(cli.summary.is_none());
    let outcome = match stream(cli, &mut report) {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        Err(error) => Err(error),
        Ok(()) => Ok(DONE),
    };
    report.finish(outcome, cli.summary.as_deref())
}

fn stream(cli: &Cli, report: &mut Report) -> Result<()> {
    let password = std::env::var_os("LDAP_BIND_PASS");
    let config = Config::new(&cli.options, password, report)?;
    let mut directory: Box<dyn Directory> = match &config.source {
        Source::Ldif(file) => Box::new(Export::open(
            file,
            &config.attributes,
            config.base.as_deref(),
            config.filter.as_ref().map(|(_, filter)| filter),
        )?),
        Source::Ldap(access) => Box::new(Server::connect(&config, access, report)?),
    };
    let mut answers = Answers::new(&mut *directory, report);
    let paths = resolve::resolve(
        io::stdin().lock(),
        unbuffered_stdout()?,
        &mut answers,
        cli.options.format,
    )?;
    answers.conclude();
    report.count("paths", paths);
    Ok(())
}
