//! Exit codes and the printing of failures.
//!
//! 0: done. 1: failed, or done only in part. 2: usage or configuration, where retrying will not
//! help. A wrapper returns its child's code, or 128 + signal.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command, Parser};

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
            eprintln!("{program}: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

/// Parses the command line, or prints what clap has to say of it (help and version on stdout,
/// mistakes on stderr). An environment variable that is empty counts as unset, since a
/// ConfigMap cannot leave a key out.
///
/// # Errors
/// The code to exit with: 0 after help and version, 2 after a mistake.
pub fn parse<C: Parser>() -> std::result::Result<C, ExitCode> {
    parse_command(C::command())
        .and_then(|matches| C::from_arg_matches(&matches).map_err(|said| conclude_usage(&said)))
}

/// [`parse`] for a caller that also wants to know where each value came from.
///
/// # Errors
/// As [`parse`].
pub fn parse_command(command: Command) -> std::result::Result<ArgMatches, ExitCode> {
    command
        .mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            if value.is_some_and(|value| value.is_empty()) {
                arg.env(None::<&'static str>)
            } else {
                arg
            }
        })
        .try_get_matches()
        .map_err(|said| conclude_usage(&said))
}

fn conclude_usage(said: &clap::Error) -> ExitCode {
    // Nothing is left to be told when even this cannot be written.
    let _ = said.print();
    ExitCode::from(if said.use_stderr() { MISCONFIGURED } else { DONE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_configuration_error_is_found_below_its_context() {
        let error = Err::<(), _>(misconfigured("no such base")).context("search").unwrap_err();
        assert_eq!(code_of(&error), MISCONFIGURED);
        assert_eq!(format!("{error:#}"), "search: no such base");
        assert_eq!(code_of(&anyhow!("lost")), FAILED);
    }
}
