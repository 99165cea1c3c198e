//! Exit codes, and the one place that prints the error that ends a run.
//!
//! * 0: the run has done everything.
//! * 1: the run failed, or did only a part.
//! * 2: the command line or the configuration is wrong: retrying will not help.
//! * 128 + N: signal N ended the program, or the child of a wrapper.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command, Parser};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use crate::help::env_in_long_help_only;
use crate::stderr::print_line;
use crate::wording::one_line;

/// The run has done everything.
pub const DONE: u8 = 0;
/// The run failed, or did only a part.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong: retrying will not help.
pub const MISCONFIGURED: u8 = 2;

/// An error of the command line or the configuration, made by [`misconfigured`].
#[derive(Debug)]
pub struct Misconfigured(String);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Misconfigured {}

/// An error with this message that ends the run with code 2.
pub fn misconfigured(message: impl fmt::Display) -> anyhow::Error {
    Misconfigured(message.to_string()).into()
}

/// The exit code for an error: 2 if a [`Misconfigured`] is in its chain, otherwise 1.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Misconfigured>()) { MISCONFIGURED } else { FAILED }
}

/// Turns the outcome of a run into the exit code. An error is printed to stderr first, as one line
/// `program: message`.
pub fn conclude(program: &str, outcome: Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_line(&format!("{program}: {error:#}"));
            ExitCode::from(code_of(&error))
        }
    }
}

/// Lets SIGTERM and SIGINT end the program with code 128 + N if its process id is 1, as in a
/// container.
///
/// The kernel delivers to process 1 only signals that it handles (pid_namespaces(7)). Any other
/// process needs no handler, and its parent sees which signal ended it.
///
/// # Errors
/// Fails if the handlers cannot be installed.
pub fn exit_on_signals_as_pid_1() -> Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 128 + signal, always.clone())
            .context("failed to take signals")?;
    }
    Ok(())
}

/// Parses the command line. Returns `None` after printing help or the version. An empty environment
/// variable counts as unset, because a ConfigMap cannot leave a key out.
///
/// # Errors
/// Fails with an error of configuration, on one line, if the command line is wrong.
pub fn parse<C: Parser>() -> Result<Option<C>> {
    let matches = parse_command(C::command())?;
    matches.map(|matches| C::from_arg_matches(&matches).map_err(|error| usage(&error))).transpose()
}

/// Like [`parse`], but returns the matches, which say where each value comes from.
///
/// # Errors
/// As for [`parse`].
pub fn parse_command(command: Command) -> Result<Option<ArgMatches>> {
    match without_empty(env_in_long_help_only(command)).try_get_matches() {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if error.use_stderr() => Err(usage(&error)),
        Err(help) => {
            // A closed stdout is not an error.
            let _ = help.print();
            Ok(None)
        }
    }
}

/// Ignores empty environment variables, in the command and its subcommands.
fn without_empty(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) {
            arg.env(None::<&'static str>)
        } else {
            arg
        }
    });
    command.mut_subcommands(without_empty)
}

/// The error of clap without its usage paragraph, on one line.
fn usage(error: &clap::Error) -> anyhow::Error {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words = paragraph.strip_prefix("error: ").unwrap_or(paragraph).split_whitespace();
    let line = words.collect::<Vec<_>>().join(" ");
    misconfigured(format_args!("{} (try --help)", one_line(line.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_wrong_command_line_is_reported_on_one_line() {
        let command = || Command::new("x").arg(clap::arg!(<DIR>)).arg(clap::arg!(--n <N>));
        let report =
            |args: &[&str]| usage(&command().try_get_matches_from(args).unwrap_err()).to_string();
        let missing = "the following required arguments were not provided: <DIR> (try --help)";
        assert_eq!(report(&["x"]), missing);
        let unknown = report(&["x", "--no\nsuch\x1b"]);
        assert!(!unknown.contains(char::is_control), "{unknown}");
    }

    #[test]
    fn a_configuration_error_is_found_below_its_context() {
        let error = Err::<(), _>(misconfigured("no such base")).context("search").unwrap_err();
        assert_eq!(code_of(&error), MISCONFIGURED);
        assert_eq!(format!("{error:#}"), "search: no such base");
        assert_eq!(code_of(&anyhow!("lost")), FAILED);
    }
}
