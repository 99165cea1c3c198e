//! `resolver`: `{"path": uid}` on stdin, `{"path": {"uid": "email"}}` on stdout.

use std::process::ExitCode;

use diagnostics::exit::{conclude, parse};
use resolver::cli::Cli;

fn main() -> ExitCode {
    match parse::<Cli>() {
        Ok(cli) => conclude("resolver", resolver::run(&cli)),
        Err(code) => code,
    }
}
