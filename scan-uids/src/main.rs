//! `scan-uids DIR...`: `{"path": uid}` for directories, on stdout.

use std::process::ExitCode;

use anyhow::Result;
use diagnostics::exit::{DONE, conclude, end_on_signals_as_first_process, parse};
use scan_uids::cli::Cli;

fn main() -> ExitCode {
    conclude("scan-uids", run())
}

fn run() -> Result<u8> {
    end_on_signals_as_first_process()?;
    parse::<Cli>()?.map_or(Ok(DONE), |cli| scan_uids::run(&cli))
}
