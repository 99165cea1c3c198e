//! The command line.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use diagnostics::termination::TERMINATION_LOG;

use crate::source::modes;
use crate::source::owner::{self, Owner};

/// The environment variable that names another termination log.
const TERMINATION_LOG_VARIABLE: &str = "PROVISIONER_TERMINATION_LOG";

/// Publishes a directory tree to a volume, whole and durably or not at all.
///
/// Readers see the old tree or the new one, never a part of it. What is live already is not
/// touched.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The tree to publish.
    #[arg(
        long,
        env = "PROVISIONER_SOURCE",
        value_name = "DIR",
        default_value = "/zeta-guard-provisioning"
    )]
    pub source: PathBuf,

    /// Where.
    #[command(flatten)]
    pub at: Where,

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

    /// Let everybody read what is published.
    #[arg(long, env = "PROVISIONER_READABLE", value_parser = BoolishValueParser::new())]
    pub readable: bool,

    /// Let names be missing for a moment where plain files and directories on the volume become
    /// links, if that cannot be done without.
    #[arg(long, env = "PROVISIONER_ALLOW_GAP", value_parser = BoolishValueParser::new())]
    pub allow_gap: bool,

    /// Publish although a rollback has pinned the volume, and pin it no more.
    #[arg(long, env = "PROVISIONER_UNPIN", value_parser = BoolishValueParser::new())]
    pub unpin: bool,

    /// How.
    #[command(flatten)]
    pub change: Change,

    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Which volume, and what is told of the run.
#[derive(Debug, Args)]
pub struct Where {
    /// The volume.
    #[arg(long, env = "PROVISIONER_TARGET", value_name = "DIR", default_value = "/data-output")]
    pub target: PathBuf,

    /// Write a summary of the run, as JSON, to this file.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// What holds for every run that may make another version live.
#[derive(Debug, Args)]
pub struct Change {
    /// Show what would change, one path a line, and write nothing to the volume.
    #[arg(long, env = "PROVISIONER_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,

    /// Whom all of it belongs to, by numbers, instead of whoever runs this. It takes the right to
    /// give files away.
    #[arg(long, env = "PROVISIONER_OWNER", value_name = "UID[:GID]", value_parser = owner::parse)]
    pub owner: Option<Owner>,

    /// How long the version before stays for readers inside it, in seconds.
    #[arg(long, env = "PROVISIONER_GRACE", value_name = "SECONDS", default_value_t = 30)]
    pub grace: u64,

    /// How many earlier versions are kept, packed, to go back to.
    #[arg(long, env = "PROVISIONER_KEEP", value_name = "N", default_value_t = 2)]
    pub keep: usize,

    /// How long to wait for another writer, in seconds.
    #[arg(long, env = "PROVISIONER_LOCK_TIMEOUT", value_name = "SECONDS", default_value_t = 60)]
    pub lock_timeout: u64,

    /// Write a summary (counts, the error; JSON of at most 4 KiB) there, if the file exists.
    #[arg(
        long,
        env = TERMINATION_LOG_VARIABLE,
        value_name = "FILE",
        default_value = TERMINATION_LOG
    )]
    pub termination_log: PathBuf,

    /// Write metrics of the run to this file, for Prometheus's node exporter.
    #[arg(long, env = "PROVISIONER_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// What comes after it.
    #[command(flatten)]
    pub then: Then,
}

/// Who is told when another version is live.
#[derive(Debug, Args)]
pub struct Then {
    /// Run this command when another version is live, with its digest in PROVISIONER_DIGEST and the
    /// volume in PROVISIONER_TARGET. Words are split as a shell does, but there is no shell.
    #[arg(long, env = "PROVISIONER_THEN", value_name = "CMD", hide_env_values = true)]
    pub then: Option<String>,

    /// Post the digest, the volume and the counts to this http or https URL, as JSON, when another
    /// version is live.
    #[arg(long, env = "PROVISIONER_THEN_POST", value_name = "URL", hide_env_values = true)]
    pub then_post: Option<String>,

    /// Trust the certificate authorities in this PEM file for that, and no others. Default: those
    /// that the system trusts.
    #[arg(long, env = "PROVISIONER_THEN_CA", value_name = "FILE", requires = "then_post")]
    pub then_ca: Option<PathBuf>,

    /// Send the bearer token in this file along; by https only, or to this host.
    #[arg(long, env = "PROVISIONER_THEN_TOKEN_FILE", value_name = "FILE", requires = "then_post")]
    pub then_token_file: Option<PathBuf>,

    /// How long the post may take, in seconds.
    #[arg(long, env = "PROVISIONER_THEN_TIMEOUT", value_name = "SECONDS", default_value_t = 30)]
    pub then_timeout: u64,
}

/// What is done to a volume other than to publish.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Goes back to an earlier version, and stays there: what is published later waits for --unpin.
    Rollback(Box<Rollback>),
    /// Shows what is live, since when, whether it is pinned, and what is kept.
    Status(Look),
    /// Shows what was live when, the newest first.
    History(Look),
}

/// Going back.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The first digits of the version's digest, at least 4; the one before if left out.
    pub digest: Option<String>,

    /// Where.
    #[command(flatten)]
    pub at: Where,

    /// How.
    #[command(flatten)]
    pub change: Change,
}

/// Looking at a volume, which changes nothing.
#[derive(Debug, Args)]
pub struct Look {
    /// Where.
    #[command(flatten)]
    pub at: Where,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
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
