//! The command line of `resolve-in-pod`: its own options and those of the two stages.
//!
//! `-h` shows the options that most runs need, on one screen; `--help` shows all of them, in groups.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::OsStringValueParser;
use clap::{Command, CommandFactory, Parser};
use diagnostics::termination::TERMINATION_LOG;

/// The environment variable that sets the path of the termination log.
pub const TERMINATION_LOG_VARIABLE: &str = "RESOLVE_IN_POD_TERMINATION_LOG";

/// Options that scan-uids or resolver show in `-h`, for which there is no room here.
const ONLY_IN_LONG_HELP: [&str; 7] =
    ["entries", "sort", "filter", "starttls", "ca_file", "require_tls", "format"];

const EXAMPLE: &str = "Example: resolve-in-pod -r --ldif users.ldif -o owners.json /srv/projects";

/// Print who owns directories, as JSON: {"path": {"uid": "email"}}.
///
/// Runs scan-uids on the directories and resolver on its output. Fails if one of them fails. After a
/// run that succeeds, stderr is empty unless it is a terminal. Warnings go to the summary in the
/// termination log.
///
/// Set the bind password in the environment variable LDAP_BIND_PASS or in a file (--bind-pass-file).
/// It cannot be given on the command line.
#[derive(Debug, Parser)]
#[command(name = "resolve-in-pod", version)]
#[command(after_help = format!("{EXAMPLE}\nMore: --help"))]
#[command(after_long_help = format!(
    "{EXAMPLE}\n\nExit codes: 0 done; 1 failed, or some directories could not be read; 2 usage or \
     configuration, retrying will not help; 128 + N if signal N killed scan-uids or resolver."
))]
pub struct Cli {
    /// Directories to report on; a symbolic link to a directory means that directory.
    #[arg(required = true, value_name = "DIR", value_parser = OsStringValueParser::new())]
    #[arg(hide_short_help = true)]
    pub dirs: Vec<OsString>,

    /// Replace FILE by the result; stdout stays empty
    ///
    /// FILE is replaced in one step once the result is complete and on disk. If the run fails, FILE
    /// stays as it was. A result without the directories that could not be read does replace it.
    #[arg(short, long, value_name = "FILE", env = "RESOLVE_IN_POD_OUTPUT")]
    pub output: Option<PathBuf>,

    /// Write counts, warnings and the error to this file, if it exists, as JSON of at most 4 KiB.
    #[arg(
        long,
        value_name = "FILE",
        env = TERMINATION_LOG_VARIABLE,
        default_value = TERMINATION_LOG,
        hide_short_help = true
    )]
    pub termination_log: PathBuf,

    /// Options of scan-uids.
    #[command(flatten)]
    pub scan: scan_uids::cli::ScanOptions,

    /// Options of resolver.
    #[command(flatten)]
    pub resolve: resolver::cli::LookupOptions,
}

/// The command line, with a `-h` that fits on one screen.
pub fn command() -> Command {
    Cli::command().mut_args(|arg| {
        let is_hidden = ONLY_IN_LONG_HELP.contains(&arg.get_id().as_str());
        if is_hidden { arg.hide_short_help(true) } else { arg }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_help_has_the_options_of_both_stages() {
        let help = command().render_long_help().to_string();
        for option in ["--termination-log", "--entries", "--max-depth", "--ca-file", "--filter"] {
            assert!(help.contains(option), "{option}:\n{help}");
        }
    }

    #[test]
    fn each_option_that_short_help_hides_exists() {
        let command = command();
        let hides = |id: &&str| {
            command.get_arguments().any(|arg| arg.get_id() == *id && arg.is_hide_short_help_set())
        };
        assert!(ONLY_IN_LONG_HELP.iter().all(hides));
    }
}
