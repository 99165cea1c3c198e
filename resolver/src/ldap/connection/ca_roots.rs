//! Loads the certificate authorities (CAs) to trust.

use std::path::Path;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::small_file;

/// Loads all CA certificates of a PEM file, or those of the system if there is no file.
///
/// # Errors
/// Fails with a configuration error if the file cannot be read, if one of its certificates is
/// malformed, or if there is no certificate at all.
pub fn load(file: Option<&Path>) -> Result<RootCertStore> {
    match file {
        Some(file) => load_file(file),
        None => load_system(),
    }
}

fn load_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(misconfigured("this system trusts no certificate authority: set LDAP_CA_FILE"));
    }
    Ok(roots)
}

fn load_file(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail = |why: String| {
        misconfigured(format_args!("failed to read certificates from `{name}`: {why}"))
    };
    let bytes = small_file::read(file).map_err(|error| fail(io_error(&error)))?;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("there are none in PEM form".to_owned()));
    }
    Ok(roots)
}
