//! Loads the CA certificates to trust, with errors that name resolver's settings.

use std::path::Path;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use outbound::ca_roots::{from_file, from_system};
use rustls::RootCertStore;

/// Loads all CA certificates of a PEM file, or those of the system if there is no file.
///
/// # Errors
/// Fails with a configuration error if the file cannot be read, if one of its certificates is
/// malformed, or if there is no certificate at all.
pub fn load(file: Option<&Path>) -> Result<RootCertStore> {
    let certificates = match file {
        Some(file) => from_file(file).map_err(|error| misconfigured(format_args!("{error:#}")))?,
        None => from_system()
            .map_err(|error| misconfigured(format_args!("{error}: set LDAP_CA_FILE")))?,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(misconfigured("this system trusts no certificate authority: set LDAP_CA_FILE"));
    }
    Ok(roots)
}
