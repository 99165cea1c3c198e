//! `--exec`: runs a command, such as a `provisioner` that copies the content to the application's own
//! volume. Exit code 0 is the proof.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use outbound::command::{CommandLine, Limits, Outcome, RunError};

use super::{Action, Content, Failure};
use crate::stop::Stop;

/// How long a command may take by default.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Time from SIGTERM to SIGKILL after the timeout.
const GRACE: Duration = Duration::from_secs(5);

/// Time from SIGTERM to SIGKILL when reloader itself is to end.
const GRACE_ON_STOP: Duration = Duration::from_millis(500);

/// A command, without a shell.
#[derive(Clone, Debug)]
pub struct Exec {
    command: CommandLine,
    timeout: Duration,
}

impl Exec {
    /// Splits a command line by the quoting rules of a POSIX shell. The command may take 5
    /// minutes.
    ///
    /// # Errors
    /// Fails if a quote is not closed or there is no program; errors of configuration.
    pub fn parse(line: &str) -> Result<Self> {
        let command = CommandLine::parse(line)
            .map_err(|error| misconfigured(format_args!("bad command to run: it {error}")))?;
        Ok(Self { command, timeout: TIMEOUT })
    }

    /// Limits how long the command may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn fail(&self, why: &str) -> anyhow::Error {
        anyhow!("failed to run {}: {why}", self.command)
    }
}

/// The directories joined by `:`, as in `PATH`. Mount paths of a pod hold no colon.
fn joined(directories: &[PathBuf]) -> OsString {
    let names: Vec<_> = directories.iter().map(|directory| directory.as_os_str()).collect();
    names.join(OsStr::new(":"))
}

impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)
    }
}

impl Action for Exec {
    fn describe(&self) -> String {
        format!("run {self}")
    }

    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        let directories = joined(&content.directories);
        let variables = [
            ("RELOADER_DIGEST", OsStr::new(&content.digest)),
            ("RELOADER_DIRECTORIES", &directories),
        ];
        let limits = Limits {
            timeout: Some(self.timeout),
            grace: GRACE,
            grace_on_stop: GRACE_ON_STOP,
            ends_group: true,
        };
        let without_effect = |why: &str| Err(Failure::without_effect(self.fail(why)));
        let in_doubt = |why: &str| Err(Failure::in_doubt(self.fail(why)));
        match self.command.run(&variables, &limits, &|| stop.is_set()) {
            Ok(Outcome::Exited(status)) if status.success() => Ok("exit code 0".to_owned()),
            Ok(Outcome::Exited(status)) => in_doubt(&wording(status)),
            Ok(Outcome::NotStarted) => without_effect("stopped before it was started"),
            Ok(Outcome::TimedOut(ending)) => {
                in_doubt(&format!("not done within {:?}, {ending}", self.timeout))
            }
            Ok(Outcome::Stopped(ending)) => {
                in_doubt(&format!("stopped before it was done, {ending}"))
            }
            Err(RunError::Start(error)) => without_effect(&io_error(&error)),
            Err(RunError::Wait(error)) => {
                in_doubt(&format!("failed to wait for it: {}", io_error(&error)))
            }
        }
    }

    fn dry_run(&self, content: &Content) -> Result<String> {
        let found = self.command.find_program().map_err(|error| self.fail(&error.to_string()))?;
        let found = one_line(found.as_os_str().as_encoded_bytes());
        let count = self.command.argument_count();
        let directories = one_line(joined(&content.directories).as_encoded_bytes());
        Ok(format!(
            "run `{found}` with {count} argument{} and RELOADER_DIRECTORIES={directories}",
            if count == 1 { "" } else { "s" }
        ))
    }
}

fn wording(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_command_line_is_an_error_of_configuration() {
        for (line, why) in [
            ("", "bad command to run: it is empty"),
            ("a 'b", "bad command to run: it ends within quotes or an escape"),
        ] {
            let error = Exec::parse(line).expect_err(line);
            assert_eq!((diagnostics::exit::code_of(&error), &error.to_string()[..]), (2, why));
        }
    }

    #[test]
    fn arguments_are_not_shown() {
        let exec = Exec::parse("a --password s3cret").unwrap();
        assert!(!format!("{exec:?} {exec} {}", exec.describe()).contains("s3cret"));
    }
}
