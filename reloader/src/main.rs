//! `reloader`: makes an application use newly published data, and proves that it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    reloader::main()
}
