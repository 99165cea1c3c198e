//! `resolver`: `{"path": uid}` on stdin, `{"path": {"uid": "email"}}` on stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    resolver::main()
}
