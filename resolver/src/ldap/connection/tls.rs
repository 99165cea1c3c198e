//! TLS for directory connections: whom to trust, and what a failed handshake means.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::ldap::address::Address;
use crate::small_file;

/// The TLS settings: certificates are checked against `ca_file` alone, or against the system's
/// authorities when there is none, or not at all.
///
/// # Errors
/// The authorities cannot be read, or there are none; errors of configuration.
pub fn client_config(ca_file: Option<&Path>, skip_verify: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(misconfigured)?;
    let config = if skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(ca_file)?)
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(misconfigured(
                "this system trusts no certificate authority: set LDAP_CA_FILE",
            ));
        }
        return Ok(roots);
    };
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

/// What a failed handshake means. Whatever TLS itself refuses is an error of configuration and
/// ends the run; a connection that merely broke may be tried again.
pub fn handshake_error(address: &Address, host: &str, error: &io::Error) -> anyhow::Error {
    let host = one_line(host.as_bytes());
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => anyhow!("TLS handshake with `{address}` failed: {}", io_error(error)),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            misconfigured(format_args!(
                "the certificate of `{address}` is not signed by a trusted authority (LDAP_CA_FILE \
                 names a private one)"
            ))
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => misconfigured(format_args!(
            "the certificate of `{address}` is not valid for the host name `{host}`"
        )),
        Some(Error::InvalidCertificate(why)) if is_authority(why) => misconfigured(format_args!(
            "`{address}` presents the certificate of an authority (CA:TRUE) as its own: it needs a \
             server certificate, signed by one that LDAP_CA_FILE holds"
        )),
        Some(Error::InvalidCertificate(why)) => misconfigured(format_args!(
            "the certificate of `{address}` was refused: {}",
            one_line(why.to_string().as_bytes())
        )),
        Some(other) => misconfigured(format_args!(
            "TLS handshake with `{address}` failed: {}",
            one_line(other.to_string().as_bytes())
        )),
    }
}

/// webpki does not take an authority's certificate for a server's, as `openssl req -x509` makes
/// by default; the error has no variant of its own.
fn is_authority(why: &CertificateError) -> bool {
    why.to_string().contains("CaUsedAsEndEntity")
}

/// Accepts any certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
