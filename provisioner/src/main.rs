//! `provisioner`: says that it is not ready, until it is.

use std::process::ExitCode;

use diagnostics::exit::{conclude, misconfigured};

fn main() -> ExitCode {
    conclude("provisioner", Err(misconfigured("not implemented in this release")))
}
