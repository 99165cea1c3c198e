//! The command line.
//!
//! `-h` shows the options that most runs need, on one screen; `--help` shows the others too, in groups.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use diagnostics::termination::TERMINATION_LOG;

use crate::source::modes;
use crate::source::owner::{self, Owner};

/// The environment variable that names another termination log.
const TERMINATION_LOG_VARIABLE: &str = "PROVISIONER_TERMINATION_LOG";

const SOURCE: &str = "Source";
const VOLUME: &str = "Volume";
const CHECKS: &str = "Checks";
const NOTIFICATIONS: &str = "Notifications";
const REPORTS: &str = "Reports";

const EXAMPLE: &str = "Example: provisioner --source build --target /srv/config   (more: --help)";
const EXAMPLES: &str = "\
Examples:
  provisioner                                    /zeta-guard-provisioning to /data-output
  provisioner --source build --target /srv/config
  provisioner --dry-run                          show what would change
  provisioner --then 'kubectl rollout restart deployment/proxy'
  provisioner rollback                           back to the version before

Exit codes: 0 done or unchanged; 1 failed; 2 usage or configuration, retrying will not help.";

/// Publish a directory tree to a volume, atomically and durably.
///
/// Readers see the old tree or the new one, never a mixture. If the live tree equals the source,
/// nothing is written.
#[derive(Debug, Parser)]
#[command(name = "provisioner", version, max_term_width = 100)]
#[command(
    args_conflicts_with_subcommands = true,
    override_usage = "provisioner [OPTIONS] [COMMAND]"
)]
#[command(after_help = EXAMPLE, after_long_help = EXAMPLES)]
pub struct Cli {
    /// Tree to publish.
    #[arg(
        long,
        env = "PROVISIONER_SOURCE",
        value_name = "DIR",
        default_value = "/zeta-guard-provisioning"
    )]
    pub source: PathBuf,

    /// The volume and the summary.
    #[command(flatten)]
    pub common: CommonOptions,

    /// Layout on the volume.
    #[arg(long, env = "PROVISIONER_LAYOUT", value_enum, default_value_t = Layout::Atomic)]
    pub layout: Layout,

    /// Publish an empty tree too.
    #[arg(
        help_heading = SOURCE,
        long,
        env = "PROVISIONER_ALLOW_EMPTY",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub allow_empty: bool,

    /// Publish only if SHA256SUMS lists every file.
    ///
    /// SHA256SUMS is a file at the top of the source. If it is there, the files that it lists are
    /// always verified.
    #[arg(
        help_heading = SOURCE,
        long,
        env = "PROVISIONER_REQUIRE_CHECKSUMS",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub require_checksums: bool,

    /// Permission bits of all published files, in octal.
    ///
    /// Default: those of the source. Directories get execute permission wherever files get read
    /// permission.
    #[arg(
        help_heading = SOURCE,
        long,
        env = "PROVISIONER_MODE",
        value_parser = modes::parse,
        hide_short_help = true
    )]
    pub mode: Option<u16>,

    /// Let all users read the published files.
    #[arg(
        help_heading = SOURCE,
        long,
        env = "PROVISIONER_READABLE",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub readable: bool,

    /// Let names be missing for a moment when plain files become links.
    ///
    /// Needed only on file systems that cannot exchange two names.
    #[arg(
        help_heading = VOLUME,
        long,
        env = "PROVISIONER_ALLOW_GAP",
        value_parser = BoolishValueParser::new(),
        hide_short_help = true
    )]
    pub allow_gap: bool,

    /// Remove the pin of a rollback, and publish.
    #[arg(long, env = "PROVISIONER_UNPIN", value_parser = BoolishValueParser::new())]
    pub unpin: bool,

    /// What a publication and a rollback have in common.
    #[command(flatten)]
    pub change: ChangeOptions,

    /// What to do instead of publishing.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options of all commands.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// Directory of the volume.
    #[arg(long, env = "PROVISIONER_TARGET", value_name = "DIR", default_value = "/data-output")]
    pub target: PathBuf,

    /// Write a summary of the run to FILE, as JSON.
    #[arg(
        help_heading = REPORTS,
        long,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub summary: Option<PathBuf>,
}

/// The options of commands that may make another version live.
#[derive(Debug, Args)]
pub struct ChangeOptions {
    /// Show what would change; write nothing to the volume.
    #[arg(long, env = "PROVISIONER_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,

    /// Owner of the published files; needs CAP_CHOWN.
    ///
    /// IDs are numbers. Default: the user and group of this process.
    #[arg(long, env = "PROVISIONER_OWNER", value_name = "UID[:GID]", value_parser = owner::parse)]
    pub owner: Option<Owner>,

    /// Seconds that the old version stays for readers inside it.
    #[arg(
        help_heading = VOLUME,
        long,
        env = "PROVISIONER_GRACE",
        value_name = "SECONDS",
        default_value_t = 30,
        hide_short_help = true
    )]
    pub grace: u64,

    /// Earlier versions to keep for rollbacks.
    #[arg(long, env = "PROVISIONER_KEEP", value_name = "N", default_value_t = 2)]
    pub keep: usize,

    /// Seconds to wait for another writer.
    #[arg(
        help_heading = VOLUME,
        long,
        env = "PROVISIONER_LOCK_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 60,
        hide_short_help = true
    )]
    pub lock_timeout: u64,

    /// Write a summary to FILE, if it exists: counts and the error, as JSON of at most 4 KiB.
    #[arg(
        help_heading = REPORTS,
        long,
        env = TERMINATION_LOG_VARIABLE,
        value_name = "FILE",
        default_value = TERMINATION_LOG,
        hide_short_help = true
    )]
    pub termination_log: PathBuf,

    /// Write metrics to FILE for the textfile collector of Prometheus's node exporter.
    #[arg(
        help_heading = REPORTS,
        long,
        env = "PROVISIONER_METRICS_FILE",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub metrics_file: Option<PathBuf>,

    /// What must accept a tree.
    #[command(flatten)]
    pub check: CheckOptions,

    /// Who to notify.
    #[command(flatten)]
    pub then: ThenOptions,
}

/// What must accept a tree before it goes live.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Go live only if CMD accepts the new tree.
    ///
    /// CMD accepts it with exit code 0. Any other code refuses it: the old version stays live, and the run exits 2. If CMD
    /// cannot run, is killed or takes too long, the run exits 1. CMD is split into words as a shell does, but run without
    /// a shell. It starts in the tree, whose path PROVISIONER_STAGED tells;
    /// PROVISIONER_DIGEST and PROVISIONER_TARGET tell the version and the volume. It must not change the tree. May be given
    /// several times; in the variable, one command a line. `--check ''` runs none.
    #[arg(
        help_heading = CHECKS,
        long,
        env = "PROVISIONER_CHECK",
        value_name = "CMD",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub check: Vec<String>,

    /// Seconds that each --check may take.
    #[arg(
        help_heading = CHECKS,
        long,
        env = "PROVISIONER_CHECK_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 30,
        hide_short_help = true
    )]
    pub check_timeout: u64,
}

/// Who to notify when another version is live.
#[derive(Debug, Args)]
pub struct ThenOptions {
    /// Run CMD when another version is live.
    ///
    /// CMD is split into words as a shell does, but run without a shell. PROVISIONER_DIGEST and PROVISIONER_TARGET in its
    /// environment tell the version and the volume.
    #[arg(long, env = "PROVISIONER_THEN", value_name = "CMD", hide_env_values = true)]
    pub then: Option<String>,

    /// Post JSON to URL (http or https) when another version is live.
    ///
    /// The JSON holds the digest of the version, the path of the volume and the counts of the run.
    #[arg(
        help_heading = NOTIFICATIONS,
        long,
        env = "PROVISIONER_THEN_POST",
        value_name = "URL",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub then_post: Option<String>,

    /// For --then-post, trust only the certificate authorities in this PEM file.
    ///
    /// Default: those that the system trusts.
    #[arg(
        help_heading = NOTIFICATIONS,
        long,
        env = "PROVISIONER_THEN_CA",
        value_name = "FILE",
        requires = "then_post",
        hide_short_help = true
    )]
    pub then_ca: Option<PathBuf>,

    /// For --then-post, send the bearer token in this file.
    ///
    /// Needs https, except to this host.
    #[arg(
        help_heading = NOTIFICATIONS,
        long,
        env = "PROVISIONER_THEN_TOKEN_FILE",
        value_name = "FILE",
        requires = "then_post",
        hide_short_help = true
    )]
    pub then_token_file: Option<PathBuf>,

    /// Seconds that --then-post may take.
    #[arg(
        help_heading = NOTIFICATIONS,
        long,
        env = "PROVISIONER_THEN_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 30,
        hide_short_help = true
    )]
    pub then_timeout: u64,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Go back to an earlier version, and pin the volume to it.
    ///
    /// A pinned volume stays at its version: runs publish nothing until one has --unpin.
    #[command(after_help = "Example: provisioner rollback 5f0c   (more: --help)")]
    Rollback(Box<Rollback>),
    /// Show the live version, the pin and the versions kept for rollbacks.
    ///
    /// Exit code 1 if no version is live.
    #[command(after_help = "Example: provisioner status --target /srv/config --json")]
    Status(Show),
    /// Show the versions that have been live, the newest first.
    #[command(after_help = "Example: provisioner history --target /srv/config --json")]
    History(Show),
}

/// The options of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Version to go back to: 4 or more digits of its digest.
    ///
    /// Default: the version before the live one.
    pub digest: Option<String>,

    /// The volume and the summary.
    #[command(flatten)]
    pub common: CommonOptions,

    /// What a publication and a rollback have in common.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Options of the commands that only read a volume.
#[derive(Debug, Args)]
pub struct Show {
    /// The volume and the summary.
    #[command(flatten)]
    pub common: CommonOptions,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a tree is stored on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Behind links: one rename makes a whole version live.
    Atomic,
    /// As plain files, for consumers that cannot follow links. Each file is replaced as a whole, but
    /// readers may meet old and new files beside each other. No earlier version is kept.
    Files,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn long_help_has_every_option_and_groups_those_that_short_help_hides() {
        let main = Cli::command();
        let subcommands: Vec<_> = main.get_subcommands().cloned().collect();
        for mut command in [main].into_iter().chain(subcommands) {
            let help = command.render_long_help().to_string();
            for option in command.get_opts() {
                let name = option.get_long().unwrap_or_default();
                assert!(help.contains(&format!("--{name}")), "{name}:\n{help}");
                let is_grouped = option.get_help_heading().is_some();
                assert_eq!(is_grouped, option.is_hide_short_help_set(), "{name}");
            }
        }
    }
}
