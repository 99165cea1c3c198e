//! `resolver`: `{"path": uid}` on stdin, `{"path": {"uid": "email"}}` on stdout.

use std::process::ExitCode;

use diagnostics::exit::{DONE, conclude, parse};
use resolver::cli::Cli;

fn main() -> ExitCode {
    let outcome = parse::<Cli>().and_then(|cli| cli.map_or(Ok(DONE), |cli| resolver::run(&cli)));
    conclude("resolver", outcome)
}
