//! `reloader`: makes an application use newly published data, and proves that it does.
//!
//! 1. [`watch`] waits for events in the directories and finds out what they hold.
//! 2. [`decide`] says when content is quiet and stable enough to reload.
//! 3. [`reload`] runs the steps that [`steps`] has built from the command line. Each step is an
//!    [`action`]. [`process`] finds the process to signal, and proves that nginx has reloaded.
//! 4. [`serve`] answers metrics and health checks. [`run`] starts the threads and the main loop.

mod action;
pub mod cli;
mod decide;
mod log;
mod process;
mod reload;
mod run;
mod serve;
mod steps;
mod stop;
mod wait;
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
    pub use crate::action::verify_http::VerifyHttp;
    pub use crate::action::{Action, Content, Failure};
    pub use crate::process::Process;
    pub use crate::process::nginx::LastMaster;
    pub use crate::stop::Stop;
    pub use crate::watch::{Limits, Scan, Scanner};
}
