//! `provisioner`: publishes a directory tree to a volume.

use std::process::ExitCode;

use diagnostics::exit::{DONE, conclude, parse};

use provisioner::cli::Cli;

fn main() -> ExitCode {
    let outcome = parse::<Cli>().and_then(|cli| cli.map_or(Ok(DONE), |cli| provisioner::run(&cli)));
    conclude("provisioner", outcome)
}
