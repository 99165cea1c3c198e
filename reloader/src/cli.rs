//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;

use crate::action::signal::Verify;

/// Makes an application use newly published data, and proves that it does.
///
/// Watches directories and, when their content has changed, does the actions in the order of the
/// command line. Without any, SIGHUP goes to process 1.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to watch. It need not be there yet.
    #[arg(env = "RELOADER_DIRECTORY", value_name = "DIR", default_value = "/data-watch")]
    pub directories: Vec<PathBuf>,

    /// Look at least every so many seconds. If left out, 60 where all changes raise events, 5 on
    /// network and other file systems.
    #[arg(long, env = "RELOADER_POLL", value_name = "SECONDS", value_parser = seconds)]
    pub poll: Option<Duration>,

    /// How long nothing must happen before content is acted upon, in seconds.
    #[arg(
        long,
        env = "RELOADER_DEBOUNCE",
        value_name = "SECONDS",
        value_parser = seconds,
        default_value = "1"
    )]
    pub debounce: Duration,

    /// How long to wait for that at most, in seconds.
    #[arg(
        long,
        env = "RELOADER_MAX_WAIT",
        value_name = "SECONDS",
        value_parser = seconds,
        default_value = "10"
    )]
    pub max_wait: Duration,

    /// How long after a reload the next one waits, in seconds.
    #[arg(
        long,
        env = "RELOADER_COOLDOWN",
        value_name = "SECONDS",
        value_parser = seconds,
        default_value = "5"
    )]
    pub cooldown: Duration,

    /// How many directories deep to look.
    #[arg(long, env = "RELOADER_MAX_DEPTH", value_name = "N", default_value_t = 64)]
    pub max_depth: usize,

    /// How many files, directories and links to look at, in each directory.
    #[arg(long, env = "RELOADER_MAX_FILES", value_name = "N", default_value_t = 100_000)]
    pub max_files: usize,

    /// How much to read at each look, in MiB. Size and times stand for what is beyond.
    #[arg(long, env = "RELOADER_MAX_BYTES", value_name = "MIB", default_value_t = 2048)]
    pub max_bytes: u64,

    /// Send this signal to the process that the next --pid, --process or --pid-file names.
    #[arg(long, env = "RELOADER_SIGNAL", value_name = "SIGNAL")]
    pub signal: Vec<String>,

    /// The process by its number; 1 if neither this nor another way is given.
    #[arg(long, env = "RELOADER_PID", value_name = "PID")]
    pub pid: Vec<String>,

    /// The process by the beginning of its command line, which only one may have.
    #[arg(long, env = "RELOADER_PROCESS", value_name = "TEXT")]
    pub process: Vec<String>,

    /// The process by a file with its number.
    #[arg(long, env = "RELOADER_PID_FILE", value_name = "FILE")]
    pub pid_file: Vec<String>,

    /// By what it is known that a signal has had its effect.
    #[arg(long, env = "RELOADER_VERIFY", value_enum, default_value_t = Verify::Automatic)]
    pub verify: Verify,

    /// Run this command, without a shell. It finds the digest in RELOADER_DIGEST.
    #[arg(long, env = "RELOADER_EXEC", hide_env_values = true, value_name = "COMMAND")]
    pub exec: Vec<String>,

    /// How long a command may take, in seconds.
    #[arg(
        long,
        env = "RELOADER_EXEC_TIMEOUT",
        value_name = "SECONDS",
        value_parser = seconds,
        default_value = "300"
    )]
    pub exec_timeout: Duration,

    /// Make this HTTP request. The --http-... options after it belong to it.
    #[arg(
        long,
        env = "RELOADER_HTTP",
        hide_env_values = true,
        value_names = ["METHOD", "URL"],
        num_args = 2,
        value_delimiter = ' '
    )]
    pub http: Vec<String>,

    /// A header of the request that is no secret.
    #[arg(long, env = "RELOADER_HTTP_HEADER", hide_env_values = true, value_name = "NAME: VALUE")]
    pub http_header: Vec<String>,

    /// A header of the request whose value a file holds.
    #[arg(long, env = "RELOADER_HTTP_HEADER_FILE", value_name = "NAME=FILE")]
    pub http_header_file: Vec<String>,

    /// A file with a bearer token for the request. It is read each time, like all of these.
    #[arg(long, env = "RELOADER_HTTP_BEARER_FILE", value_name = "FILE")]
    pub http_bearer_file: Vec<String>,

    /// A user's name, and a file with the password, for the request.
    #[arg(long, env = "RELOADER_HTTP_BASIC", value_name = "USER=FILE")]
    pub http_basic: Vec<String>,

    /// A file that the request sends.
    #[arg(long, env = "RELOADER_HTTP_BODY", value_name = "FILE")]
    pub http_body: Vec<String>,

    /// A file with the certificates (PEM) that the server is to be trusted by, instead of the
    /// system's.
    #[arg(long, env = "RELOADER_HTTP_CA", value_name = "FILE")]
    pub http_ca: Vec<String>,

    /// The statuses that mean success, by commas; any from 200 to 299 if left out.
    #[arg(long, env = "RELOADER_HTTP_EXPECT", value_name = "STATUS")]
    pub http_expect: Vec<String>,

    /// How long the request may take, in seconds; 10 if left out.
    #[arg(long, env = "RELOADER_HTTP_TIMEOUT", value_name = "SECONDS")]
    pub http_timeout: Vec<String>,

    /// Restart a deployment/NAME, statefulset/NAME or daemonset/NAME bit by bit, unless that was
    /// done for the same content.
    #[arg(long, env = "RELOADER_ROLLOUT", value_name = "KIND/NAME")]
    pub rollout: Vec<String>,

    /// Where that is; the pod's own namespace if left out, or that of KUBECONFIG's context.
    #[arg(long, env = "RELOADER_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// The cluster and its credentials; those of the pod if left out.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The annotation of the pod template that a rollout writes the digest to;
    /// `reloader/content-digest` if left out.
    #[arg(long, env = "RELOADER_ROLLOUT_ANNOTATION", value_name = "KEY")]
    pub rollout_annotation: Option<String>,

    /// Wait until a rollout has come to its end, at most so many seconds.
    #[arg(long, env = "RELOADER_WAIT", value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// How long the application may take to show that it uses the new content, in seconds.
    #[arg(
        long,
        env = "RELOADER_VERIFY_TIMEOUT",
        value_name = "SECONDS",
        value_parser = seconds,
        default_value = "10"
    )]
    pub verify_timeout: Duration,

    /// After all actions, ask here until the answer has a status from 200 to 299.
    #[arg(long, env = "RELOADER_VERIFY_HTTP", hide_env_values = true, value_name = "URL")]
    pub verify_http: Option<String>,

    /// What that answer must hold; `{digest}` stands for that of the content.
    #[arg(long, env = "RELOADER_VERIFY_HTTP_TEXT", value_name = "TEXT", requires = "verify_http")]
    pub verify_http_text: Option<String>,

    /// A file with the certificates (PEM) that it is to be trusted by, instead of the system's.
    #[arg(long, env = "RELOADER_VERIFY_HTTP_CA", value_name = "FILE", requires = "verify_http")]
    pub verify_http_ca: Option<PathBuf>,

    /// Act once at start, since nobody knows what has changed before. If left out, signals are
    /// sent, and rollouts made that are due; commands and requests wait for a change.
    #[arg(
        long,
        env = "RELOADER_AT_START",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub at_start: Option<bool>,

    /// Wait for one change, act, and end with 0 if that has succeeded.
    #[arg(long, env = "RELOADER_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,

    /// Only tell what would be done.
    #[arg(long, env = "RELOADER_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,

    /// Serve /metrics, /healthz and /readyz here (`:9533`, `127.0.0.1:9533`).
    #[arg(long, env = "RELOADER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// A time in seconds, with or without decimals.
///
/// # Errors
/// It is none.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
