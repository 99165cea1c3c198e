//! The command line of `scan-uids`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, OsStringValueParser};
use clap::{Args, Parser};

/// List which UID owns each directory, as JSON: {"path": uid}.
///
/// Directories come in the order given, spelt as given. What is not a directory is skipped with
/// a warning. Exit codes: 0 done; 1 something could not be read, the rest is printed; 2 usage.
#[derive(Debug, Parser)]
#[command(name = "scan-uids", version)]
pub struct Cli {
    /// Write counts and warnings there as JSON, instead of warnings on stderr.
    #[arg(long, value_name = "FILE", env = "SCAN_UIDS_SUMMARY")]
    pub summary: Option<PathBuf>,

    /// Directories to list; a symbolic link to a directory means that directory.
    #[arg(required = true, value_name = "DIR", value_parser = OsStringValueParser::new())]
    pub dirs: Vec<OsString>,

    /// What to list, and how.
    #[command(flatten)]
    pub options: ScanOptions,
}

/// The scan's own options, which `resolve-in-pod` takes as well.
#[derive(Args, Debug)]
#[command(next_help_heading = "Scan options")]
pub struct ScanOptions {
    /// Also list every directory below, without following symbolic links.
    #[arg(short, long, env = "SCAN_UIDS_RECURSIVE", value_parser = BoolishValueParser::new())]
    pub recursive: bool,

    /// Also list everything else below: files, links, devices; implies --recursive.
    #[arg(long, env = "SCAN_UIDS_ENTRIES", value_parser = BoolishValueParser::new())]
    pub entries: bool,

    /// Go down at most N levels below each DIR (0: DIR itself) [default: no limit].
    #[arg(long, value_name = "N", env = "SCAN_UIDS_MAX_DEPTH")]
    pub max_depth: Option<usize>,

    /// Stay on the file system of each DIR: mount points are listed, not entered.
    #[arg(
        short = 'x',
        long,
        env = "SCAN_UIDS_ONE_FILE_SYSTEM",
        value_parser = BoolishValueParser::new()
    )]
    pub one_file_system: bool,

    /// Leave out directories below that match, and all below them; repeatable. A glob without
    /// `/` is matched against the last part of the name, one with `/` against the whole path as
    /// it would be printed.
    #[arg(long, value_name = "GLOB", env = "SCAN_UIDS_EXCLUDE")]
    pub exclude: Vec<String>,

    /// Threads to walk with: more than there are cores pay off on cold and on network storage.
    #[arg(
        long,
        value_name = "N",
        env = "SCAN_UIDS_THREADS",
        default_value_t = 8,
        value_parser = threads
    )]
    pub threads: usize,

    /// Believe on every file system that the link count of a directory tells the number of its
    /// subdirectories, as it does on ext4, xfs and tmpfs: much faster without --entries, but
    /// incomplete where it is not true (btrfs, many FUSE and network file systems).
    #[arg(long, env = "SCAN_UIDS_TRUST_NLINK", value_parser = BoolishValueParser::new())]
    pub trust_nlink: bool,
}

fn threads(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err("must be a number from 1 to 256".to_owned()),
    }
}
