//! `provisioner`: says that it is not ready, until it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("provisioner: not implemented in this release");
    ExitCode::from(2)
}
