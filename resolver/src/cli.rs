//! The command line of `resolver`.
//!
//! `-h` shows the options that most runs need, on one screen; `--help` shows all of them, in groups.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, ValueEnum};

const EXAMPLE: &str = "Example: scan-uids /srv/projects/* | resolver --ldif users.ldif";

/// Turn {"path": uid} on stdin into {"path": {"uid": "email"}} on stdout.
///
/// The addresses come from LDAP servers (--url) or from an LDIF export (--ldif). Each distinct UID is
/// looked up once. "" means that the UID has no entry, or its entry no address; a lookup that fails ends
/// the run, and the output has no closing brace.
///
/// Set the bind password in the environment variable LDAP_BIND_PASS or in a file (--bind-pass-file). It
/// cannot be given on the command line.
#[derive(Debug, Parser)]
#[command(name = "resolver", version, override_usage = "resolver [OPTIONS] < LISTING")]
#[command(after_help = format!("{EXAMPLE}\nMore: --help"))]
#[command(after_long_help = format!(
    "{EXAMPLE}\n\nExit codes: 0 done; 1 failed; 2 usage or configuration, retrying will not help."
))]
pub struct Cli {
    /// Where to look up, and how.
    #[command(flatten)]
    pub options: LookupOptions,

    /// Write counts and warnings to this file as JSON; no warnings on stderr.
    #[arg(long, value_name = "FILE", env = "RESOLVER_SUMMARY", help_heading = "Output")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub summary: Option<PathBuf>,

    /// Write metrics to this file, for the textfile collector of Prometheus's node exporter.
    #[arg(long, value_name = "FILE", env = "RESOLVER_METRICS_FILE", help_heading = "Output")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub metrics_file: Option<PathBuf>,
}

/// The options of a lookup, which `resolve-in-pod` has as well.
#[derive(Args, Debug)]
#[command(next_help_heading = "Directory")]
pub struct LookupOptions {
    /// LDAP servers, tried in order
    ///
    /// URLs, separated by spaces: ldap://HOST, ldaps://HOST, each with an optional :PORT, or
    /// ldapi://%2Fpath%2Fto%2Fsocket.
    #[arg(long, value_name = "URL...", env = "LDAP_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// Subtree with the accounts
    ///
    /// Needed for servers; without it, all entries of an LDIF export count.
    #[arg(long, value_name = "DN", env = "LDAP_BASE_DN", hide_env_values = true)]
    pub base_dn: Option<String>,

    /// Name to bind with
    ///
    /// Without it, the bind is anonymous.
    #[arg(long, value_name = "DN", env = "LDAP_BIND_DN", hide_env_values = true)]
    pub bind_dn: Option<String>,

    /// File with its password
    ///
    /// One newline at the end of the file is ignored.
    #[arg(long, value_name = "FILE", env = "LDAP_BIND_PASS_FILE", hide_env_values = true)]
    pub bind_pass_file: Option<PathBuf>,

    /// LDIF export to use instead
    ///
    /// It takes precedence over --url.
    #[arg(long, value_name = "FILE", env = "LDAP_LDIF", hide_env_values = true)]
    pub ldif: Option<PathBuf>,

    /// Which accounts count
    ///
    /// An LDAP filter that accounts must match, with or without its outer parentheses.
    #[arg(long, value_name = "FILTER", env = "LDAP_FILTER", hide_env_values = true)]
    pub filter: Option<String>,

    /// Secure ldap:// with StartTLS
    ///
    /// If the server refuses StartTLS, the run fails.
    #[arg(long, env = "LDAP_STARTTLS", value_parser = BoolishValueParser::new())]
    #[arg(help_heading = "TLS", hide_env_values = true)]
    pub starttls: bool,

    /// Trust only the CAs in a PEM file
    ///
    /// Without it, the certificate authorities (CAs) of the system are trusted.
    #[arg(long, value_name = "FILE", env = "LDAP_CA_FILE", hide_env_values = true)]
    #[arg(help_heading = "TLS")]
    pub ca_file: Option<PathBuf>,

    /// Refuse connections without TLS
    ///
    /// ldapi:// is allowed.
    #[arg(long, env = "LDAP_REQUIRE_TLS", value_parser = BoolishValueParser::new())]
    #[arg(help_heading = "TLS", hide_env_values = true)]
    pub require_tls: bool,

    /// Accept any server certificate: anyone on the way can read the password and answer.
    #[arg(long, env = "LDAP_SKIP_TLS_VERIFY", value_parser = BoolishValueParser::new())]
    #[arg(help_heading = "TLS", hide_short_help = true, hide_env_values = true)]
    pub skip_tls_verify: bool,

    /// Attribute with the UID.
    #[arg(long, value_name = "NAME", env = "LDAP_UID_ATTR", default_value = "uidNumber")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub uid_attr: String,

    /// Attributes with the address, separated by commas; the first one with a value counts.
    #[arg(long, value_name = "NAME,...", env = "LDAP_MAIL_ATTR", default_value = "mail")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub mail_attr: String,

    /// Read all accounts at the start, in pages, instead of searching for the UIDs of the input. For
    /// servers without an index on the UID.
    #[arg(long, env = "LDAP_ENUMERATE", value_parser = BoolishValueParser::new())]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub enumerate: bool,

    /// Seconds to wait for a connection, a bind, or the next part of an answer.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LDAP_TIMEOUT",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        hide_short_help = true, hide_env_values = true
    )]
    pub timeout: u64,

    /// Shape of the output
    #[arg(long, value_enum, value_name = "FORMAT", env = "RESOLVER_FORMAT", default_value = "map")]
    #[arg(help_heading = "Output", hide_short_help = true, hide_env_values = true)]
    pub format: Format,
}

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// {"path": {"uid": "email"}}
    Map,
    /// {"path": {"uid": N, "email": "..."}}; an array of these for several owners.
    Object,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn short_help_fits_one_screen() {
        let help = Cli::command().term_width(80).render_help().to_string();
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{longest:?} columns:\n{help}");
        assert!(help.lines().count() <= 24, "{} lines:\n{help}", help.lines().count());
        for part in ["Usage: ", "--url", "--ldif", "\nExample: ", "\nMore: --help"] {
            assert!(help.contains(part), "{part}:\n{help}");
        }
    }

    #[test]
    fn long_help_has_every_option_in_a_group() {
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        for group in ["Directory:", "TLS:", "Output:"] {
            assert!(help.lines().any(|line| line == group), "{group}:\n{help}");
        }
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(help.contains(&format!("--{option}")), "{option}");
        }
        let in_no_group = command.get_arguments().filter(|arg| arg.get_help_heading().is_none());
        let in_no_group: Vec<_> = in_no_group.map(clap::Arg::get_id).collect();
        assert_eq!(in_no_group, ["help", "version"]);
    }
}
