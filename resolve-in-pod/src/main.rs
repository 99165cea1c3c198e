//! `resolve-in-pod DIR...`: scan-uids and resolver, joined by a pipe, as one Job.

use std::process::ExitCode;

use diagnostics::exit::conclude;

fn main() -> ExitCode {
    conclude("resolve-in-pod", resolve_in_pod::run())
}
