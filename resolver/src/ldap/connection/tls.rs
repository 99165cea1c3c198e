//! TLS settings for connections, and the errors of a failed handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::ca_roots;
use crate::ldap::address::Address;

/// Makes the TLS settings. Server certificates are verified against the CAs in `ca_file`, or those of
/// the system if there is no file, or not at all if `skip_verify`.
///
/// # Errors
/// Fails with a configuration error if the CA certificates cannot be loaded.
pub fn client_config(ca_file: Option<&Path>, skip_verify: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(misconfigured)?;
    let config = if skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
    } else {
        builder.with_root_certificates(ca_roots::load(ca_file)?)
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

/// The error for a failed handshake. If TLS refused the server, it is a configuration error, which ends
/// the run; if the connection was lost, the next try may succeed.
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
        Some(Error::InvalidCertificate(why)) if is_ca_certificate(why) => {
            misconfigured(format_args!(
                "`{address}` presents the certificate of an authority (CA:TRUE) as its own: it needs a \
             server certificate, signed by an authority in LDAP_CA_FILE"
            ))
        }
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

/// Whether webpki refused a CA certificate as that of a server. `openssl req -x509` makes one by
/// default. webpki has no error variant for it.
fn is_ca_certificate(why: &CertificateError) -> bool {
    why.to_string().contains("CaUsedAsEndEntity")
}

/// Accepts any certificate, but verifies that the server has its private key.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
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
