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
pub mod inbox;
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
    let (paths, remarks) =
        resolve::resolve(io::stdin(), unbuffered_stdout()?, directory, &mut answers)?;
    answers.conclude(&remarks);
    report.count("paths", paths);
    Ok(())
}
