//! Parses the command line and splits it into the arguments of the two stages.
//!
//! The crates of the stages declare the stages' options. They are parsed here too, so that a
//! mistake ends the run before a stage starts. The stages get the options on the command line word
//! for word. Options from the environment need not be passed on: the stages inherit it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};
use diagnostics::exit::parse_command;
use scan_uids::cli::ScanOptions;

use crate::cli::{Cli, command};

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// The file for the result; `None` for stdout.
    pub output: Option<PathBuf>,
    /// The file for the summary. The summary is written only if the file exists.
    pub termination_log: PathBuf,
    /// The options of scan-uids, to be checked before a stage starts.
    pub scan_options: ScanOptions,
    /// All arguments of scan-uids.
    pub scan: Vec<OsString>,
    /// All arguments of resolver.
    pub resolve: Vec<OsString>,
}

impl Invocation {
    /// Parses the command line of this process. Returns `None` after printing help or the version.
    ///
    /// # Errors
    /// Fails if the command line is wrong.
    pub fn from_command_line() -> Result<Option<Self>> {
        parse_command(command())?.map(|matches| Self::from_matches(&matches)).transpose()
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let cli = Cli::from_arg_matches(matches)?;
        let mut scan = given::<ScanOptions>(matches);
        scan.push("--".into());
        scan.extend(cli.dirs);
        let resolve = given::<resolver::cli::LookupOptions>(matches);
        let Cli { output, termination_log, scan: scan_options, .. } = cli;
        Ok(Self { output, termination_log, scan_options, scan, resolve })
    }
}

/// The options of one stage that the command line contains, spelt `--name=value`.
fn given<Options: Args>(matches: &ArgMatches) -> Vec<OsString> {
    let declared = Options::augment_args(Command::new("stage"));
    let mut arguments = Vec::new();
    for option in declared.get_arguments() {
        let (id, name) = (option.get_id().as_str(), option.get_long());
        let Some(name) = name.filter(|_| is_given(matches, id)) else { continue };
        if matches!(option.get_action(), ArgAction::SetTrue) {
            arguments.push(format!("--{name}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            arguments.push(argument);
        }
    }
    arguments
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn invocation(arguments: &[&[u8]]) -> Invocation {
        let arguments = [&b"resolve-in-pod"[..]].into_iter().chain(arguments.iter().copied());
        let arguments = arguments.map(std::ffi::OsStr::from_bytes);
        Invocation::from_matches(&command().get_matches_from(arguments)).unwrap()
    }

    #[test]
    fn each_stage_gets_its_own_options_word_for_word() {
        let invocation = invocation(&[
            b"-r",
            b"--exclude",
            b"*.a b",
            b"--exclude=-x",
            b"--ldif",
            b"users\xff.ldif",
            b"--mail-attr",
            b"mail,title",
            b"--starttls",
            b"--output",
            b"out",
            b"--",
            b"-dir",
            b"d\xff",
        ]);
        let bytes = |list: &[OsString]| {
            list.iter().map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>().join(&b'|')
        };
        assert_eq!(
            bytes(&invocation.scan),
            b"--recursive|--exclude=*.a b|--exclude=-x|--|-dir|d\xff"
        );
        assert_eq!(
            bytes(&invocation.resolve),
            b"--ldif=users\xff.ldif|--starttls|--mail-attr=mail,title"
        );
        assert_eq!(invocation.output.as_deref(), Some("out".as_ref()));
    }

    #[test]
    fn a_stage_gets_only_options_from_the_command_line() {
        let invocation = invocation(&[b"dir"]);
        assert_eq!(invocation.scan, ["--", "dir"]);
        assert!(invocation.resolve.is_empty());
    }
}
