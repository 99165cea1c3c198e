//! `scan-uids DIR...`: `{"path": uid}` for directories, on stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    scan_uids::main()
}
