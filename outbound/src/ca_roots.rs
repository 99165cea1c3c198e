//! Loads the CA certificates that a TLS connection trusts: those in a PEM file, or the system's.
//!
//! Both functions return certificates in DER form, which `rustls::RootCertStore` and other TLS
//! libraries take.

use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow};
use diagnostics::wording::{io_error, one_line};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::small_file::read_small;

/// The system has no CA certificates, as in a minimal container image.
#[derive(Debug)]
pub struct NoSystemRoots;

impl fmt::Display for NoSystemRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this system trusts no certificate authority")
    }
}

impl std::error::Error for NoSystemRoots {}

/// Loads the system's CA certificates: `SSL_CERT_FILE`, `SSL_CERT_DIR`, or the usual places.
///
/// # Errors
/// Fails if there are none.
pub fn from_system() -> Result<Vec<CertificateDer<'static>>, NoSystemRoots> {
    let roots = rustls_native_certs::load_native_certs().certs;
    if roots.is_empty() { Err(NoSystemRoots) } else { Ok(roots) }
}

/// Loads the CA certificates in a PEM file of at most 4 MiB. Other PEM sections are skipped.
///
/// # Errors
/// Fails if the file cannot be read, holds no certificate, or holds one that cannot be trusted:
/// TLS would ignore it silently.
pub fn from_file(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail = |why: &str| {
        anyhow!("failed to read certificates from `{name}`: {}", one_line(why.as_bytes()))
    };
    let bytes = read_small(file).map_err(|error| fail(&io_error(&error)))?;
    let (mut roots, mut usable) = (Vec::new(), RootCertStore::empty());
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| fail(&error.to_string()))?;
        usable.add(certificate.clone()).map_err(|error| fail(&error.to_string()))?;
        roots.push(certificate);
    }
    if roots.is_empty() { Err(fail("there are none in PEM form")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<CertificateDer<'static>>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        from_file(file.path())
    }

    #[test]
    fn all_certificates_of_a_file_are_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let pem = ["one", "two"].map(|name| {
            e2e::certificates::Authority::new(directory.path(), name);
            std::fs::read_to_string(directory.path().join(format!("{name}.pem"))).unwrap()
        });
        assert_eq!(load(&pem.concat()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_usable_certificates_is_refused() {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let junk = format!("{begin}AAAA\n-----END CERTIFICATE-----\n");
        for text in ["", "s3cret", begin, &junk] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.starts_with("failed to read certificates from `/"), "{error}");
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
        let error = from_file(Path::new("/nowhere")).unwrap_err().to_string();
        assert_eq!(error, "failed to read certificates from `/nowhere`: no such file or directory");
    }
}
