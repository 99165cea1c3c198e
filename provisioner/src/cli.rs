//! The command line.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use diagnostics::termination::TERMINATION_LOG;

use crate::modes;
use crate::owner::{self, Owner};

/// The environment variable that names another termination log.
const TERMINATION_LOG_VARIABLE: &str = "PROVISIONER_TERMINATION_LOG";

/// Publishes a directory tree to a volume, whole and durably or not at all.
///
/// Readers see the old tree or the new one, never a part of it. What is live already is not
/// touched.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// The tree to publish.
    #[arg(
        long,
        env = "PROVISIONER_SOURCE",
        value_name = "DIR",
        default_value = "/zeta-guard-provisioning"
    )]
    pub source: PathBuf,

    /// The volume to publish it to.
    #[arg(
        long,
        global = true,
        env = "PROVISIONER_TARGET",
        value_name = "DIR",
        default_value = "/data-output"
    )]
    pub target: PathBuf,

    /// How the tree stands on the volume.
    #[arg(long, env = "PROVISIONER_LAYOUT", value_enum, default_value_t = Layout::Atomic)]
    pub layout: Layout,

    /// Publish an empty tree too.
    #[arg(long, env = "PROVISIONER_ALLOW_EMPTY", value_parser = BoolishValueParser::new())]
    pub allow_empty: bool,

    /// Publish only files that SHA256SUMS at the top of the source lists. If it is there, what it
    /// lists is checked in any case.
    #[arg(long, env = "PROVISIONER_REQUIRE_CHECKSUMS", value_parser = BoolishValueParser::new())]
    pub require_checksums: bool,

    /// Permission bits of all files, in octal digits, instead of their own. Directories can be
    /// entered by whoever may read files.
    #[arg(long, env = "PROVISIONER_MODE", value_parser = modes::parse)]
    pub mode: Option<u16>,

    /// Whom all of it belongs to, by numbers, instead of whoever runs this. It takes the right to
    /// give files away.
    #[arg(long, global = true, env = "PROVISIONER_OWNER", value_name = "UID[:GID]", value_parser = owner::parse)]
    pub owner: Option<Owner>,

    /// Let everybody read what is published.
    #[arg(long, env = "PROVISIONER_READABLE", value_parser = BoolishValueParser::new())]
    pub readable: bool,

    /// Let names be missing for a moment where plain files and directories on the volume become
    /// links, if that cannot be done without.
    #[arg(long, env = "PROVISIONER_ALLOW_GAP", value_parser = BoolishValueParser::new())]
    pub allow_gap: bool,

    /// How long the version before stays for readers inside it, in seconds.
    #[arg(
        long,
        global = true,
        env = "PROVISIONER_GRACE",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub grace: u64,

    /// How many earlier versions are kept, packed, to go back to.
    #[arg(long, global = true, env = "PROVISIONER_KEEP", value_name = "N", default_value_t = 2)]
    pub keep: usize,

    /// Publish although a rollback has pinned the volume, and pin it no more.
    #[arg(long, env = "PROVISIONER_UNPIN", value_parser = BoolishValueParser::new())]
    pub unpin: bool,

    /// How long to wait for another writer, in seconds.
    #[arg(
        long,
        global = true,
        env = "PROVISIONER_LOCK_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    pub lock_timeout: u64,

    /// Write a summary of the run, as JSON, to this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub summary: Option<PathBuf>,

    /// Write a summary (counts, the error; JSON of at most 4 KiB) there, if the file exists.
    #[arg(
        long,
        global = true,
        env = TERMINATION_LOG_VARIABLE,
        value_name = "FILE",
        default_value = TERMINATION_LOG
    )]
    pub termination_log: PathBuf,

    /// Write metrics of the run to this file, for Prometheus's node exporter.
    #[arg(long, global = true, env = "PROVISIONER_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is done to a volume other than to publish.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Goes back to an earlier version, and stays there: what is published later waits for --unpin.
    Rollback {
        /// The first digits of the version's digest, at least 4; the one before if left out.
        digest: Option<String>,
    },
    /// Shows what is live, since when, whether it is pinned, and what is kept.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what was live when, the newest first.
    History {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a tree stands on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Behind links, of which one rename makes all of a new version live.
    Atomic,
    /// As plain files, for consumers that cannot follow links. Each file is replaced as a whole, but
    /// not all of them at once: readers may meet old and new files beside each other, a path that
    /// turns from a directory into a file or back may be missing for a moment, a run that is killed
    /// leaves both until the next one, and no earlier version is kept.
    Files,
}
