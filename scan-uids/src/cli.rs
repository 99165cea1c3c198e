//! The command line of `scan-uids`.
//!
//! `-h` shows the options that most people need on one screen; the others have `hide_short_help`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, OsStringValueParser};
use clap::{Args, Parser, ValueEnum, value_parser};

use crate::listing::format::Format;

const SCOPE: &str = "What to scan";
const OUTPUT: &str = "Output";
const SPEED: &str = "Scan speed";

const EXAMPLE: &str = "Example: scan-uids -r --exclude '*.tmp' /srv     (all options: --help)";
const EXAMPLES: &str = "\
Examples:
  scan-uids /srv/projects/*                      these directories
  scan-uids -r --exclude '*.tmp' /srv            and all directories below
  scan-uids --entries --format tsv --sort /srv   and files, links, devices
  find /srv -name 'project-*' -print0 | scan-uids --files0-from -";

/// List which UID owns each directory, as JSON: {"path": uid}.
///
/// Directories are listed in the order given, by the names given. An argument that is not a
/// directory is skipped with a warning. Exit codes: 0 done; 1 something could not be read, the rest
/// is printed; 2 usage.
#[derive(Debug, Parser)]
#[command(name = "scan-uids", version, after_help = EXAMPLE, after_long_help = EXAMPLES)]
pub struct Cli {
    /// Directories to list; a symbolic link to a directory means that directory.
    #[arg(
        required_unless_present = "files0_from",
        value_name = "DIR",
        value_parser = OsStringValueParser::new(),
        hide_short_help = true
    )]
    pub dirs: Vec<OsString>,

    /// What to scan, and how.
    #[command(flatten)]
    pub options: ScanOptions,

    /// Read directories from FILE, NUL-separated.
    ///
    /// Each name ends with a NUL byte. `-` reads stdin.
    #[arg(
        help_heading = SCOPE,
        long,
        value_name = "FILE",
        conflicts_with = "dirs"
    )]
    pub files0_from: Option<PathBuf>,

    /// Output format.
    #[arg(
        help_heading = OUTPUT,
        long,
        value_name = "FORMAT",
        env = "SCAN_UIDS_FORMAT",
        value_enum,
        default_value_t
    )]
    pub format: Format,

    /// The same as --format nul.
    #[arg(help_heading = OUTPUT, short = '0', long, hide_short_help = true)]
    pub print0: bool,

    /// Write counts and warnings to FILE as JSON.
    ///
    /// Warnings are then not written to stderr.
    #[arg(help_heading = OUTPUT, long, value_name = "FILE", env = "SCAN_UIDS_SUMMARY")]
    pub summary: Option<PathBuf>,

    /// Write metrics to FILE for the textfile collector of Prometheus's node exporter.
    #[arg(
        help_heading = OUTPUT,
        long,
        value_name = "FILE",
        env = "SCAN_UIDS_METRICS_FILE",
        hide_short_help = true
    )]
    pub metrics_file: Option<PathBuf>,
}

/// The options of the scan itself, which `resolve-in-pod` has as well.
#[derive(Args, Debug)]
pub struct ScanOptions {
    /// Also list all directories below.
    ///
    /// Symbolic links are not followed.
    #[arg(
        help_heading = SCOPE,
        short,
        long,
        env = "SCAN_UIDS_RECURSIVE",
        value_parser = BoolishValueParser::new()
    )]
    pub recursive: bool,

    /// Also list files, links and devices; implies -r.
    #[arg(
        help_heading = SCOPE,
        long,
        env = "SCAN_UIDS_ENTRIES",
        value_parser = BoolishValueParser::new()
    )]
    pub entries: bool,

    /// Descend at most N levels [default: no limit].
    ///
    /// With 0, only DIR itself is listed.
    #[arg(help_heading = SCOPE, long, value_name = "N", env = "SCAN_UIDS_MAX_DEPTH")]
    pub max_depth: Option<usize>,

    /// Do not enter other file systems.
    ///
    /// Mount points below a DIR are listed.
    #[arg(
        help_heading = SCOPE,
        short = 'x',
        long,
        env = "SCAN_UIDS_ONE_FILE_SYSTEM",
        value_parser = BoolishValueParser::new()
    )]
    pub one_file_system: bool,

    /// Leave out matching directories; repeatable.
    ///
    /// All below them is left out as well. A glob without `/` is matched against the last part of
    /// the path, a glob with `/` against the whole path as it would be printed.
    #[arg(help_heading = SCOPE, long, value_name = "GLOB", env = "SCAN_UIDS_EXCLUDE")]
    pub exclude: Vec<String>,

    /// List and enter `.snapshot` and `.zfs` as well.
    ///
    /// Each of these directories holds the whole file system once more.
    #[arg(
        help_heading = SCOPE,
        long,
        env = "SCAN_UIDS_SNAPSHOTS",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub snapshots: bool,

    /// Sort by the bytes of the paths.
    ///
    /// Nothing is printed before the scan has ended. Large results need a temporary file in TMPDIR.
    #[arg(
        help_heading = OUTPUT,
        long,
        env = "SCAN_UIDS_SORT",
        value_parser = BoolishValueParser::new()
    )]
    pub sort: bool,

    /// Use up to N threads; more than there are cores pay off on cold or network storage.
    #[arg(
        help_heading = SPEED,
        long,
        value_name = "N",
        env = "SCAN_UIDS_THREADS",
        default_value_t = 8,
        value_parser = value_parser!(u16).range(1..=256),
        hide_short_help = true
    )]
    pub threads: u16,

    /// Stat at most N entries a second, to spare a storage that is in use [default: no limit].
    #[arg(
        help_heading = SPEED,
        long,
        value_name = "N",
        env = "SCAN_UIDS_MAX_RATE",
        value_parser = value_parser!(u32).range(1..),
        hide_short_help = true
    )]
    pub max_rate: Option<u32>,

    /// Accept owners that a network file system's client has cached, without asking its server.
    #[arg(
        help_heading = SPEED,
        long,
        env = "SCAN_UIDS_DONT_SYNC",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub dont_sync: bool,

    /// Where to trust that a directory's link count tells its number of subdirectories.
    ///
    /// This makes scans without --entries much faster. It has no effect with --entries.
    #[arg(
        help_heading = SPEED,
        long,
        value_name = "WHEN",
        env = "SCAN_UIDS_TRUST_NLINK",
        value_enum,
        default_value_t,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        hide_short_help = true
    )]
    pub trust_nlink: TrustNlink,
}

/// Where to trust link counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TrustNlink {
    /// On ext4, xfs and tmpfs, where it is true.
    #[default]
    Auto,
    /// Everywhere; results are incomplete where it is not true (many FUSE and network file systems).
    Always,
    /// Nowhere.
    Never,
}
