//! `resolve-in-pod DIR...`: scan-uids and resolver, joined by a pipe, as one Job.

use std::process::ExitCode;

fn main() -> ExitCode {
    resolve_in_pod::main()
}
