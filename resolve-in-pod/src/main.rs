//! `resolve-in-pod DIR...`: runs scan-uids and resolver, joined by a pipe.

use std::process::ExitCode;

fn main() -> ExitCode {
    resolve_in_pod::main()
}
