//! `resolver`: `{"path": uid}` on stdin, `{"path": {"uid": "email"}}` on stdout.

use std::process::ExitCode;

use anyhow::Result;
use diagnostics::exit::{DONE, conclude, end_on_signals_as_first_process, parse};
use resolver::cli::Cli;

fn main() -> ExitCode {
    conclude("resolver", run())
}

fn run() -> Result<u8> {
    end_on_signals_as_first_process()?;
    parse::<Cli>()?.map_or(Ok(DONE), |cli| resolver::run(&cli))
}
