//! Runs the command of `--then` when another version is live.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::io_error;
use outbound::command::{CommandLine, Ending, Limits, Outcome, RunError};

/// A command may take any time. When provisioner gets a signal, the command has 10 seconds after
/// SIGTERM. Processes that it has left in the background go on.
const LIMITS: Limits = Limits {
    timeout: None,
    grace: Duration::ZERO,
    grace_on_stop: Duration::from_secs(10),
    ends_group: false,
};

/// The command of `--then`.
pub struct ThenCommand(CommandLine);

impl ThenCommand {
    /// Splits a command line as a POSIX shell does. There is no shell: nothing is expanded.
    ///
    /// # Errors
    /// Fails if the line is empty or a quote is left open; an error of configuration.
    pub fn parse(line: &str) -> Result<Self> {
        let command = CommandLine::parse(line)
            .map_err(|error| misconfigured(format_args!("the command of --then {error}")))?;
        Ok(Self(command))
    }

    /// Runs the command to its end. Its output goes to stderr.
    ///
    /// # Errors
    /// Fails if the command cannot be started, fails, or is ended because of `is_stopped`.
    pub fn run(&self, digest: &str, target: &Path, is_stopped: &dyn Fn() -> bool) -> Result<()> {
        let Self(command) = self;
        let variables = [
            ("PROVISIONER_DIGEST", OsStr::new(digest)),
            ("PROVISIONER_TARGET", target.as_os_str()),
        ];
        match command.run(&variables, &LIMITS, is_stopped) {
            Ok(Outcome::NotStarted) => bail!("{command} was not run: interrupted by a signal"),
            Ok(
                Outcome::Exited(status)
                | Outcome::Stopped(Ending::Terminated(status) | Ending::Killed(status))
                | Outcome::TimedOut(Ending::Terminated(status) | Ending::Killed(status)),
            ) => to_result(command, status),
            Ok(Outcome::Stopped(Ending::Unkillable) | Outcome::TimedOut(Ending::Unkillable)) => {
                bail!("{command} cannot be killed")
            }
            Err(RunError::Start(error)) => {
                Err(anyhow!("failed to run {command}: {}", io_error(&error)))
            }
            Err(RunError::Wait(error)) => {
                Err(anyhow!("failed to wait for {command}: {}", io_error(&error)))
            }
        }
    }
}

fn to_result(command: &CommandLine, status: ExitStatus) -> Result<()> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => bail!("{command} ended with code {code}"),
        (None, signal) => bail!("{command} ended by signal {}", signal.unwrap_or_default()),
    }
}
