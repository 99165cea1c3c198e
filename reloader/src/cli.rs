//! The command line of `reloader`.
//!
//! `-h` shows the options that most people need on one screen; the others have `hide_short_help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;

use crate::action::signal::Verify;

const ACTIONS: &str = "Actions";
const SIGNALS: &str = "Signals";
const COMMANDS: &str = "Commands";
const REQUESTS: &str = "HTTP requests";
const ROLLOUTS: &str = "Rolling restarts";
const BUNDLES: &str = "Bundles for OPA";
const WATCHING: &str = "Watching";

const EXAMPLE: &str =
    "Example: reloader --process 'nginx: master' /etc/nginx/certs   (more: --help)";
const EXAMPLES: &str = "\
Examples:
  reloader --process 'nginx: master' /etc/nginx/certs
  reloader --exec 'provisioner --source /data-watch --target /local' --at-start
  reloader --http POST http://127.0.0.1:9090/-/reload /etc/prometheus
  reloader --rollout deployment/keycloak --wait 600 /truststores

Exit codes: 0 after SIGTERM or SIGINT; with --once, 0 or 1 as the reload went; 2 usage or
configuration.";

/// Make an application use newly published data, and prove that it does.
///
/// reloader watches directories. When their content has changed and is complete, it runs the actions
/// in their order on the command line. Without an action it sends SIGHUP to process 1.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLE, after_long_help = EXAMPLES)]
pub struct Cli {
    /// Directories to watch.
    ///
    /// They need not exist yet.
    #[arg(env = "RELOADER_DIRECTORY", value_name = "DIR", default_value = "/data-watch")]
    pub directories: Vec<PathBuf>,

    /// Seconds without events before a reload.
    #[arg(long, env = "RELOADER_DEBOUNCE", value_name = "SECONDS")]
    #[arg(value_parser = seconds, default_value = "1", hide_short_help = true)]
    pub debounce: Duration,

    /// Run the actions once at the start.
    ///
    /// By default, signals are sent at the start and rollouts made that are due, since the content
    /// may have changed before; commands and requests wait for a change. `true` runs all actions,
    /// `false` none. With --once, the default is `false`.
    #[arg(
        long,
        env = "RELOADER_AT_START",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub at_start: Option<bool>,

    /// End after one change and its reload.
    ///
    /// The exit code is 0 if the reload succeeded, else 1.
    #[arg(long, env = "RELOADER_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,

    /// Report what a reload would do; do nothing.
    #[arg(long, env = "RELOADER_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,

    /// Serve /metrics, /healthz and /readyz, as on :9533.
    ///
    /// `:9533` is that port on all interfaces, `127.0.0.1:9533` one of loopback.
    #[arg(long, env = "RELOADER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Send SIGHUP to the process with this title.
    ///
    /// The title, which is the command line unless the program replaces it as nginx does, must begin
    /// with TEXT, or the program must have this name. Exactly one process must match, not counting
    /// children of a match. A --signal before it names another signal.
    #[arg(long, env = "RELOADER_PROCESS", value_name = "TEXT", help_heading = ACTIONS)]
    pub process: Vec<String>,

    /// Before the actions, run this command; they run only if it ends with 0.
    ///
    /// It has the environment and the time-out of --exec. Any other end is a failed reload, which is
    /// tried again. It runs without a shell. May be given several times.
    #[arg(long, env = "RELOADER_CHECK_EXEC", hide_env_values = true, value_name = "COMMAND")]
    #[arg(help_heading = ACTIONS, hide_short_help = true)]
    pub check_exec: Vec<String>,

    /// Run this command, without a shell.
    ///
    /// It finds the digest of the content in RELOADER_DIGEST, and the directories, separated by
    /// colons, in RELOADER_DIRECTORIES.
    #[arg(long, env = "RELOADER_EXEC", hide_env_values = true, value_name = "COMMAND")]
    #[arg(help_heading = ACTIONS)]
    pub exec: Vec<String>,

    /// Send this HTTP request.
    ///
    /// The --http-... options after it belong to it. Redirects are not followed.
    #[arg(long, env = "RELOADER_HTTP", value_names = ["METHOD", "URL"])]
    #[arg(hide_env_values = true, num_args = 2, value_delimiter = ' ')]
    #[arg(help_heading = ACTIONS)]
    pub http: Vec<String>,

    /// Restart this workload of Kubernetes.
    ///
    /// A deployment/NAME, statefulset/NAME or daemonset/NAME, by a rolling restart, once for each
    /// content.
    #[arg(long, env = "RELOADER_ROLLOUT", value_name = "KIND/NAME", help_heading = ACTIONS)]
    pub rollout: Vec<String>,

    /// Serve the directory to OPA as a bundle.
    ///
    /// A loopback address and port, as 127.0.0.1:9534; the path is /bundle.tar.gz. The response is the
    /// whole live content or nothing. Its ETag, and the revision in its manifest, is the digest of the
    /// content. Takes exactly one directory.
    #[arg(long, env = "RELOADER_SERVE_BUNDLE", value_name = "ADDRESS", conflicts_with = "once")]
    #[arg(help_heading = ACTIONS)]
    pub serve_bundle: Option<String>,

    /// After all actions, ask here for a status 2xx.
    ///
    /// It is asked every 250 ms, at most for --verify-timeout.
    #[arg(long, env = "RELOADER_VERIFY_HTTP", hide_env_values = true, value_name = "URL")]
    #[arg(help_heading = ACTIONS)]
    pub verify_http: Option<String>,

    /// Text that the response to --verify-http must contain.
    ///
    /// `{digest}` stands for the digest of the content.
    #[arg(long, env = "RELOADER_VERIFY_HTTP_TEXT", value_name = "TEXT", requires = "verify_http")]
    #[arg(help_heading = ACTIONS, hide_short_help = true)]
    pub verify_http_text: Option<String>,

    /// CA certificates for --verify-http (PEM), instead of the system's.
    #[arg(long, env = "RELOADER_VERIFY_HTTP_CA", value_name = "FILE", requires = "verify_http")]
    #[arg(help_heading = ACTIONS, hide_short_help = true)]
    pub verify_http_ca: Option<PathBuf>,

    /// Seconds for the proof of a signal, of --verify-opa or of --verify-http.
    #[arg(long, env = "RELOADER_VERIFY_TIMEOUT", value_name = "SECONDS")]
    #[arg(value_parser = seconds, default_value = "10")]
    #[arg(help_heading = ACTIONS, hide_short_help = true)]
    pub verify_timeout: Duration,

    /// Send this signal to the process that follows; default HUP.
    ///
    /// The process is named by the next --pid, --process or --pid-file; these send HUP without a
    /// --signal before them. Takes a name with or without SIG, or a number; never KILL or STOP.
    #[arg(long, env = "RELOADER_SIGNAL", value_name = "SIGNAL")]
    #[arg(help_heading = SIGNALS, hide_short_help = true)]
    pub signal: Vec<String>,

    /// Signal the process with this id; the default is process 1.
    #[arg(long, env = "RELOADER_PID", value_name = "PID")]
    #[arg(help_heading = SIGNALS, hide_short_help = true)]
    pub pid: Vec<String>,

    /// Signal the process whose id is in this file.
    #[arg(long, env = "RELOADER_PID_FILE", value_name = "FILE")]
    #[arg(help_heading = SIGNALS, hide_short_help = true)]
    pub pid_file: Vec<String>,

    /// What proves that a signal has had its effect.
    #[arg(long, env = "RELOADER_VERIFY", value_enum, default_value_t = Verify::Automatic)]
    #[arg(help_heading = SIGNALS, hide_short_help = true)]
    pub verify: Verify,

    /// Seconds that a command of --exec or --check-exec may take.
    #[arg(long, env = "RELOADER_EXEC_TIMEOUT", value_name = "SECONDS")]
    #[arg(value_parser = seconds, default_value = "300")]
    #[arg(help_heading = COMMANDS, hide_short_help = true)]
    pub exec_timeout: Duration,

    /// Header of the request. It must not be a secret.
    #[arg(long, env = "RELOADER_HTTP_HEADER", hide_env_values = true, value_name = "NAME: VALUE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_header: Vec<String>,

    /// Header of the request whose value is in a file.
    #[arg(long, env = "RELOADER_HTTP_HEADER_FILE", value_name = "NAME=FILE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_header_file: Vec<String>,

    /// File with a bearer token for the request.
    ///
    /// This and all other files of a request are read anew for each request.
    #[arg(long, env = "RELOADER_HTTP_BEARER_FILE", value_name = "FILE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_bearer_file: Vec<String>,

    /// User name, and a file with the password, for the request.
    #[arg(long, env = "RELOADER_HTTP_BASIC", value_name = "USER=FILE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_basic: Vec<String>,

    /// File to send as the body of the request.
    #[arg(long, env = "RELOADER_HTTP_BODY", value_name = "FILE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_body: Vec<String>,

    /// CA certificates for the request (PEM), instead of the system's.
    #[arg(long, env = "RELOADER_HTTP_CA", value_name = "FILE")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_ca: Vec<String>,

    /// Statuses that mean success, separated by commas; default 200 to 299.
    #[arg(long, env = "RELOADER_HTTP_EXPECT", value_name = "STATUS")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_expect: Vec<String>,

    /// Seconds that the request may take; default 10.
    #[arg(long, env = "RELOADER_HTTP_TIMEOUT", value_name = "SECONDS")]
    #[arg(help_heading = REQUESTS, hide_short_help = true)]
    pub http_timeout: Vec<String>,

    /// Wait for the end of a rollout, at most for so many seconds.
    ///
    /// By default a rollout is a success once it has begun.
    #[arg(long, env = "RELOADER_WAIT", value_name = "SECONDS", value_parser = seconds)]
    #[arg(help_heading = ROLLOUTS, hide_short_help = true)]
    pub wait: Option<Duration>,

    /// Namespace of the workload.
    ///
    /// The default is the pod's own, or that of the kubeconfig's context.
    #[arg(long, env = "RELOADER_NAMESPACE", value_name = "NAME")]
    #[arg(help_heading = ROLLOUTS, hide_short_help = true)]
    pub namespace: Option<String>,

    /// Kubeconfig with the cluster and the credentials; default those of the pod.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    #[arg(help_heading = ROLLOUTS, hide_short_help = true)]
    pub kubeconfig: Option<PathBuf>,

    /// Annotation of the pod template for the digest; default `reloader/content-digest`.
    #[arg(long, env = "RELOADER_ROLLOUT_ANNOTATION", value_name = "KEY")]
    #[arg(help_heading = ROLLOUTS, hide_short_help = true)]
    pub rollout_annotation: Option<String>,

    /// Base URL of the OPA that must use the bundle, as http://127.0.0.1:8181.
    ///
    /// OPA is asked every 250 ms, at most for --verify-timeout. If OPA refuses the bundle, the reload has
    /// failed with OPA's reason; for that, `status` must be enabled in OPA's configuration.
    #[arg(long, env = "RELOADER_VERIFY_OPA", hide_env_values = true, value_name = "URL")]
    #[arg(help_heading = BUNDLES, hide_short_help = true, requires = "serve_bundle")]
    pub verify_opa: Option<String>,

    /// Seconds between scans without events.
    ///
    /// The default is 60 where every change raises an event, and 5 on network and other file
    /// systems.
    #[arg(long, env = "RELOADER_POLL", value_name = "SECONDS", value_parser = seconds)]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub poll: Option<Duration>,

    /// Seconds that --debounce may delay a reload while events keep coming.
    #[arg(long, env = "RELOADER_MAX_WAIT", value_name = "SECONDS")]
    #[arg(value_parser = seconds, default_value = "10")]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub max_wait: Duration,

    /// Seconds between a reload and the next one.
    #[arg(long, env = "RELOADER_COOLDOWN", value_name = "SECONDS")]
    #[arg(value_parser = seconds, default_value = "5")]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub cooldown: Duration,

    /// Levels of directories to scan.
    #[arg(long, env = "RELOADER_MAX_DEPTH", value_name = "N", default_value_t = 64)]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub max_depth: usize,

    /// Files, directories and links to scan in each watched directory.
    #[arg(long, env = "RELOADER_MAX_FILES", value_name = "N", default_value_t = 100_000)]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub max_files: usize,

    /// MiB to read in each watched directory at each scan.
    ///
    /// The size and times of a file beyond that stand for its content.
    #[arg(long, env = "RELOADER_MAX_BYTES", value_name = "MIB", default_value_t = 2048)]
    #[arg(help_heading = WATCHING, hide_short_help = true)]
    pub max_bytes: u64,
}

/// Parses a time in seconds, with or without decimals.
///
/// # Errors
/// Fails if `text` is not a number, is negative, or is too large.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_that_are_not_negative() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("60"), Ok(Duration::from_mins(1)));
        for bad in ["", "1s", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
