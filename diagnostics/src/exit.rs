//! Exit codes and the printing of failures.
//!
//! 0: done. 1: failed, or done only in part. 2: usage or configuration, where retrying will not
//! help. A wrapper returns its child's code, or 128 + signal.

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

/// Done.
pub const DONE: u8 = 0;
/// Failed, or done only in part.
pub const FAILED: u8 = 1;
/// Usage or configuration: retrying will not help.
pub const MISCONFIGURED: u8 = 2;

/// Marks an error that only a change of the configuration mends. Attach it with
/// [`misconfigured`]; it carries the whole message.
#[derive(Debug)]
pub struct Misconfigured(String);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Misconfigured {}

/// An error that ends the run with code 2.
pub fn misconfigured(message: impl fmt::Display) -> anyhow::Error {
    Misconfigured(message.to_string()).into()
}

/// The exit code that an error deserves.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Misconfigured>()) { MISCONFIGURED } else { FAILED }
}

/// Prints a failure, if there is one, as `program: message` on one line of stderr, and turns
/// the outcome into the exit code.
pub fn conclude(program: &str, outcome: Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_line(&format!("{program}: {error:#}"));
            ExitCode::from(code_of(&error))
        }
    }
}

/// Lets SIGTERM and SIGINT end the program, with 128 + signal, where it is the first process of a
/// container: to that one the kernel delivers only what it has asked for (pid_namespaces(7)).
/// Anywhere else they do so by themselves, and whoever waits for the program sees the signal.
///
/// # Errors
/// The signals cannot be taken.
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

/// Parses the command line; `None` when help or the version was asked for, and printed. An
/// environment variable that is empty counts as unset, since a ConfigMap cannot leave a key out.
///
/// # Errors
/// What is wrong with the command line, on one line, as an error of configuration.
pub fn parse<C: Parser>() -> Result<Option<C>> {
    let matches = parse_command(C::command())?;
    matches.map(|matches| C::from_arg_matches(&matches).map_err(|said| usage(&said))).transpose()
}

/// [`parse`] for a caller that also wants to know where each value came from.
///
/// # Errors
/// As [`parse`].
pub fn parse_command(command: Command) -> Result<Option<ArgMatches>> {
    match without_empty(env_in_long_help_only(command)).try_get_matches() {
        Ok(matches) => Ok(Some(matches)),
        Err(said) if said.use_stderr() => Err(usage(&said)),
        Err(said) => {
            // A closed stdout is nothing to complain of.
            let _ = said.print();
            Ok(None)
        }
    }
}

/// The command, and those below it, as if variables that are empty were unset.
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

/// What clap has to say, without its usage paragraph, on one line.
fn usage(said: &clap::Error) -> anyhow::Error {
    let text = said.render().to_string();
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
    fn usage_is_told_on_one_line() {
        let command = || Command::new("x").arg(clap::arg!(<DIR>)).arg(clap::arg!(--n <N>));
        let told =
            |args: &[&str]| usage(&command().try_get_matches_from(args).unwrap_err()).to_string();
        let missing = "the following required arguments were not provided: <DIR> (try --help)";
        assert_eq!(told(&["x"]), missing);
        let unknown = told(&["x", "--no\nsuch\x1b"]);
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
