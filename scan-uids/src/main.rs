//! `scan-uids DIR...`: `{"path": uid}` for directories, on stdout.

use std::process::ExitCode;

use diagnostics::exit::{DONE, conclude, parse};
use scan_uids::cli::Cli;

fn main() -> ExitCode {
    let outcome = parse::<Cli>().and_then(|cli| cli.map_or(Ok(DONE), |cli| scan_uids::run(&cli)));
    conclude("scan-uids", outcome)
}
