//! The command line of `resolve-in-pod`: its own options and those of the two stages.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::OsStringValueParser;
use diagnostics::termination::TERMINATION_LOG;

/// The environment variable that names another termination log.
pub const TERMINATION_LOG_VARIABLE: &str = "RESOLVE_IN_POD_TERMINATION_LOG";

/// Print who owns directories: {"path": {"uid": "email"}}.
///
/// Runs scan-uids on the directories and resolver on its output, and fails if either does. On
/// success nothing is written to stderr unless it is a terminal: warnings go to the summary in
/// the termination log. Exit codes: 0 done; 1 failed, or something could not be read; 2 usage or
/// configuration; 128 + N when a stage died of signal N.
///
/// The LDAP password comes from the environment variable LDAP_BIND_PASS or from
/// --bind-pass-file, never from the command line.
#[derive(Debug, Parser)]
#[command(name = "resolve-in-pod", version)]
pub struct Cli {
    /// Write the result there instead of stdout: whole, or not at all.
    #[arg(short, long, value_name = "FILE", env = "RESOLVE_IN_POD_OUTPUT")]
    pub output: Option<PathBuf>,

    /// Write a summary (counts, warnings, the error; JSON of at most 4 KiB) there, if the file
    /// exists.
    #[arg(
        long,
        value_name = "FILE",
        env = TERMINATION_LOG_VARIABLE,
        default_value = TERMINATION_LOG
    )]
    pub termination_log: PathBuf,

    /// Directories to report on; a symbolic link to a directory means that directory.
    #[arg(required = true, value_name = "DIR", value_parser = OsStringValueParser::new())]
    pub dirs: Vec<OsString>,

    /// Passed on to scan-uids.
    #[command(flatten)]
    pub scan: scan_uids::cli::ScanOptions,

    /// Passed on to resolver.
    #[command(flatten)]
    pub resolve: resolver::cli::LookupOptions,
}
