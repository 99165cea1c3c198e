//! `provisioner` publishes a directory tree to a volume, atomically and durably.
//!
//! The data goes through these modules, in this order:
//!
//! 1. [`run`] runs a command: it takes the lock, publishes, notifies, and removes old versions.
//! 2. [`source`] scans the tree to publish, and refuses what must not be published.
//! 3. [`copy`] compares it with the live tree, checks the space, copies and syncs files.
//! 4. [`check`] runs the site's own checks on the complete copy.
//! 5. [`atomic`] makes the copy live by one rename, or [`files`] puts plain files in place.
//! 6. [`then`] notifies a command or a server.
//! 7. [`archive`] keeps earlier versions, for rollbacks.
//!
//! [`plan`] shows what a run would change. [`state`] is the publisher's own directory on the volume.

mod archive;
mod atomic;
mod check;
pub mod cli;
mod copy;
mod files;
mod plan;
mod run;
mod shutdown;
mod source;
mod state;
mod then;

use std::process::ExitCode;

use diagnostics::exit::{DONE, conclude, parse};

use cli::Cli;

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    let outcome = parse::<Cli>().and_then(|cli| cli.map_or(Ok(DONE), |cli| run::run(&cli)));
    conclude("provisioner", outcome)
}
