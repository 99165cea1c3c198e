//! How to reach directory servers, as plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;

/// How to reach directory servers.
#[derive(Debug)]
pub struct Access {
    /// In the order to try them; never empty.
    pub addresses: Vec<Address>,
    /// Who asks; `None` for anonymous.
    pub credentials: Option<Credentials>,
    /// Whether `ldap://` is secured by StartTLS.
    pub starttls: bool,
    /// Whether any certificate is accepted.
    pub skip_tls_verify: bool,
    /// The certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// Read all owners at first instead of asking for each.
    pub enumerates: bool,
}

/// A name and its password for a simple bind.
#[derive(Debug)]
pub struct Credentials {
    /// The bind DN (some servers take other names too).
    pub dn: String,
    /// Its password, never empty.
    pub password: Secret,
}

/// Text that must not be shown; its debug form hides it.
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
