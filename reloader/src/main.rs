//! `reloader`: makes an application use newly published data, and proves that it does.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use diagnostics::exit::{DONE, conclude, parse_command};
use reloader::cli::Cli;

fn main() -> ExitCode {
    let outcome = parse_command(Cli::command()).and_then(|matches| match matches {
        Some(matches) => reloader::run(&Cli::from_arg_matches(&matches)?, &matches),
        None => Ok(DONE),
    });
    conclude("reloader", outcome)
}
