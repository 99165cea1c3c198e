//! The settings for directory servers, checked, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use outbound::secret::Secret;

use super::address::Address;

/// The settings for directory servers.
#[derive(Debug)]
pub struct ServerOptions {
    /// The servers, in the order to try them; never empty.
    pub addresses: Vec<Address>,
    /// Name and password to bind with; `None` for an anonymous bind.
    pub credentials: Option<Credentials>,
    /// Whether `ldap://` connections are secured with StartTLS.
    pub starttls: bool,
    /// Whether any certificate is accepted.
    pub skip_tls_verify: bool,
    /// PEM file of the only CA certificates to trust; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection, a bind, or the next part of an answer.
    pub timeout: Duration,
    /// Whether to read all owners at the start, instead of searching for those that are needed.
    pub enumerate: bool,
    /// DN of the subtree with the accounts.
    pub base: String,
    /// Filter that accounts must match, in parentheses.
    pub filter: Option<String>,
}

/// A name and its password for a simple bind.
#[derive(Debug)]
pub struct Credentials {
    /// The bind DN (some servers take other names too).
    pub dn: String,
    /// Its password, never empty.
    pub password: Secret,
}
