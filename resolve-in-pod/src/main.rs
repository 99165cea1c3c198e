//! `resolve-in-pod DIR...`: scan-uids and resolver, joined by a pipe, as one Job.

use std::process::ExitCode;

use diagnostics::exit::conclude;
use resolve_in_pod::invocation::Invocation;

fn main() -> ExitCode {
    match Invocation::from_command_line() {
        Ok(invocation) => conclude("resolve-in-pod", resolve_in_pod::run(&invocation)),
        Err(code) => code,
    }
}
