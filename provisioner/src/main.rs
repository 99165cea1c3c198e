//! `provisioner`: publishes a directory tree to a volume.

use std::process::ExitCode;

fn main() -> ExitCode {
    provisioner::main()
}
