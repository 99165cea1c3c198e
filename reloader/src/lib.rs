//! `reloader`: makes an application use newly published data, and proves that it does.
//!
//! 1. [`watch`] waits for events in the directories and finds out what they hold.
//! 2. [`decide`] says when content is quiet and stable enough to reload.
//! 3. [`reload`] runs the steps that [`plan`] has built from the command line. [`action`] has each
//!    kind of step, [`proof`] shows by processes whether nginx has reloaded.
//! 4. [`serve`] answers metrics and health checks; [`run`] joins the parts.

mod action;
pub mod cli;
mod decide;
mod plan;
mod proof;
mod reload;
mod report;
mod retry;
mod run;
mod serve;
mod stop;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use diagnostics::exit::{DONE, conclude, parse_command};

use cli::Cli;

pub use serve::Metrics;

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    // The order of actions matters, which only the matches tell.
    let outcome = parse_command(Cli::command()).and_then(|matches| match matches {
        Some(matches) => run::run(&Cli::from_arg_matches(&matches)?, &matches),
        None => Ok(DONE),
    });
    conclude("reloader", outcome)
}

/// For the tests in `tests/`, which try single actions and scans.
#[doc(hidden)]
pub mod testing {
    pub use crate::action::exec::Exec;
    pub use crate::action::http::HttpCall;
    pub use crate::action::rollout::Rollout;
    pub use crate::action::signal::{SendSignal, Target, Verify};
    pub use crate::action::verify::HttpProof;
    pub use crate::action::{Action, Content, Failure};
    pub use crate::proof::process::Process;
    pub use crate::stop::Stop;
    pub use crate::watch::{Limits, Scan, Scanner};
}
