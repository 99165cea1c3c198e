//! The command line of `resolver`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, ValueEnum};

/// Turn {"path": uid} on stdin into {"path": {"uid": "email"}} on stdout, through LDAP.
///
/// Each distinct UID is asked for once; "" means that no entry, or no address, was found, never
/// that the question failed. The output is complete only with its closing brace. Exit codes: 0
/// done; 1 failed; 2 usage or configuration.
///
/// The password comes from the environment variable LDAP_BIND_PASS or from --bind-pass-file,
/// never from the command line.
#[derive(Debug, Parser)]
#[command(name = "resolver", version)]
pub struct Cli {
    /// Write counts and warnings there as JSON, instead of warnings on stderr.
    #[arg(long, value_name = "FILE", env = "RESOLVER_SUMMARY")]
    pub summary: Option<PathBuf>,

    /// Write metrics there, for Prometheus's node exporter (textfile collector).
    #[arg(long, value_name = "FILE", env = "RESOLVER_METRICS_FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Whom to ask, and how.
    #[command(flatten)]
    pub options: LookupOptions,
}

/// The lookup's own options, which `resolve-in-pod` takes as well.
#[derive(Args, Debug)]
#[command(next_help_heading = "Directory options")]
pub struct LookupOptions {
    /// Directory servers, separated by spaces and tried in order: ldap://HOST:PORT,
    /// ldaps://HOST:PORT (the port may be left out) or ldapi://%2Fpath%2Fto%2Fsocket.
    #[arg(long, value_name = "URL...", env = "LDAP_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// Answer from an LDIF export instead of a server.
    #[arg(long, value_name = "FILE", env = "LDAP_LDIF")]
    pub ldif: Option<PathBuf>,

    /// Where the accounts are; all of an LDIF export when not given.
    #[arg(long, value_name = "DN", env = "LDAP_BASE_DN")]
    pub base_dn: Option<String>,

    /// Who asks; anonymous when not given.
    #[arg(long, value_name = "DN", env = "LDAP_BIND_DN")]
    pub bind_dn: Option<String>,

    /// File with the password (a newline at its end does not count).
    #[arg(long, value_name = "FILE", env = "LDAP_BIND_PASS_FILE")]
    pub bind_pass_file: Option<PathBuf>,

    /// Secure ldap:// connections with StartTLS; without it there, the run fails.
    #[arg(long, env = "LDAP_STARTTLS", value_parser = BoolishValueParser::new())]
    pub starttls: bool,

    /// Refuse to talk over a connection that is neither TLS nor ldapi://.
    #[arg(long, env = "LDAP_REQUIRE_TLS", value_parser = BoolishValueParser::new())]
    pub require_tls: bool,

    /// Trust the certificate authorities in this PEM file alone [default: the system's].
    #[arg(long, value_name = "FILE", env = "LDAP_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// Accept any server certificate: anyone on the way can read and answer.
    #[arg(long, env = "LDAP_SKIP_TLS_VERIFY", value_parser = BoolishValueParser::new())]
    pub skip_tls_verify: bool,

    /// Seconds to wait for a connection, a bind, or the next part of an answer.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LDAP_TIMEOUT",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub timeout: u64,

    /// Attribute that holds the UID.
    #[arg(long, value_name = "NAME", env = "LDAP_UID_ATTR", default_value = "uidNumber")]
    pub uid_attr: String,

    /// Attributes that hold the address, separated by commas; the first with a value counts.
    #[arg(long, value_name = "NAME,...", env = "LDAP_MAIL_ATTR", default_value = "mail")]
    pub mail_attr: String,

    /// Only look at entries that match this LDAP filter.
    #[arg(long, value_name = "FILTER", env = "LDAP_FILTER")]
    pub filter: Option<String>,

    /// Read all owners at first, in pages, instead of asking for those that are wanted: for
    /// servers that have no index on the attribute.
    #[arg(long, env = "LDAP_ENUMERATE", value_parser = BoolishValueParser::new())]
    pub enumerate: bool,

    /// Shape of the output: {"path": {"uid": "email"}} (map) or {"path": {"uid": N, "email":
    /// "..."}} (object).
    #[arg(long, value_enum, value_name = "FORMAT", env = "RESOLVER_FORMAT", default_value = "map")]
    pub format: Format,
}

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `{"path": {"uid": "email"}}`
    Map,
    /// `{"path": {"uid": N, "email": "..."}}`; an array of these for several owners.
    Object,
}
