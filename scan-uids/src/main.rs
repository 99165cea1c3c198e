//! `scan-uids DIR...`: `{"path": uid}` for directories, on stdout.

use std::process::ExitCode;

use diagnostics::exit::{conclude, parse};
use scan_uids::cli::Cli;

fn main() -> ExitCode {
    match parse::<Cli>() {
        Ok(cli) => conclude("scan-uids", scan_uids::run(&cli)),
        Err(code) => code,
    }
}
