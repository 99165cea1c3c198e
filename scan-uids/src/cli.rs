//! The command line of `scan-uids`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, OsStringValueParser};
use clap::{Args, Parser, ValueEnum, value_parser};

use crate::listing::format::Format;

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

    /// Write metrics there, for Prometheus's node exporter (textfile collector).
    #[arg(long, value_name = "FILE", env = "SCAN_UIDS_METRICS_FILE")]
    pub metrics_file: Option<PathBuf>,

    /// How to print what is found.
    #[arg(long, value_name = "FORMAT", env = "SCAN_UIDS_FORMAT", value_enum, default_value_t)]
    pub format: Format,

    /// The same as --format nul.
    #[arg(short = '0', long)]
    pub print0: bool,

    /// Take the directories from a file in which each name ends with a NUL byte; `-` for stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "dirs")]
    pub files0_from: Option<PathBuf>,

    /// Directories to list; a symbolic link to a directory means that directory.
    #[arg(
        required_unless_present = "files0_from",
        value_name = "DIR",
        value_parser = OsStringValueParser::new()
    )]
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

    /// List and enter `.snapshot` and `.zfs` as well, each of which holds the whole file system
    /// once more.
    #[arg(long, env = "SCAN_UIDS_SNAPSHOTS", value_parser = BoolishValueParser::new())]
    pub snapshots: bool,

    /// Sort by the bytes of the paths, with a temporary file in TMPDIR if there are many.
    #[arg(long, env = "SCAN_UIDS_SORT", value_parser = BoolishValueParser::new())]
    pub sort: bool,

    /// Threads to walk with: more than there are cores pay off on cold and on network storage.
    #[arg(
        long,
        value_name = "N",
        env = "SCAN_UIDS_THREADS",
        default_value_t = 8,
        value_parser = value_parser!(u16).range(1..=256)
    )]
    pub threads: u16,

    /// Look at no more than N entries a second, to spare a storage in use [default: no limit].
    #[arg(
        long,
        value_name = "N",
        env = "SCAN_UIDS_MAX_RATE",
        value_parser = value_parser!(u32).range(1..)
    )]
    pub max_rate: Option<u32>,

    /// Take owners from the cache of a network file system's client, as far as it has one, without
    /// asking its server again.
    #[arg(long, env = "SCAN_UIDS_DONT_SYNC", value_parser = BoolishValueParser::new())]
    pub dont_sync: bool,

    /// Where to believe that the link count of a directory tells the number of its
    /// subdirectories, which is much faster without --entries.
    #[arg(
        long,
        value_name = "WHEN",
        env = "SCAN_UIDS_TRUST_NLINK",
        value_enum,
        default_value_t,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always"
    )]
    pub trust_nlink: TrustNlink,
}

/// Where to believe link counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TrustNlink {
    /// On ext4, xfs and tmpfs, which are known for it.
    #[default]
    Auto,
    /// Everywhere: incomplete where it is not true (many FUSE and network file systems).
    Always,
    /// Nowhere.
    Never,
}
