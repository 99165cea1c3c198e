//! A server that is posted to when another version is live.
//!
//! Directly, never through a proxy, and never to anywhere else than the URL: redirects are not
//! followed. The URL beyond its host may hold a secret, and is in no message.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::uri::{Authority, Scheme, Uri};
use ureq::http::{HeaderValue, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::cli;
use crate::shutdown::Shutdown;

/// Longest file of settings, in bytes: that of all authorities of a system fits.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// How often a wait for an answer looks for a signal.
const LOOK: Duration = Duration::from_millis(50);

/// A server, and how it is asked.
pub struct Post {
    agent: Agent,
    url: Uri,
    /// What messages call it.
    shown: String,
    token: Option<HeaderValue>,
    timeout: Duration,
}

impl Post {
    /// Makes sure that a server can be posted to, as far as that can be known without it.
    ///
    /// # Errors
    /// The URL, the authorities or the token cannot be used.
    pub fn to(url: &str, options: &cli::Then) -> Result<Self> {
        let (url, is_https) = parse(url)?;
        let shown = shown(&url);
        let token = options.then_token_file.as_deref().map(token_in).transpose()?;
        if token.is_some() && !is_https && !url.authority().is_some_and(is_loopback) {
            return Err(misconfigured(format_args!(
                "--then-token-file needs https: everybody on the way to `{shown}` could read it"
            )));
        }
        let roots = if is_https { roots(options.then_ca.as_deref())? } else { Vec::new() };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let timeout = Duration::from_secs(options.then_timeout);
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .user_agent(concat!("provisioner/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), url, shown, token, timeout })
    }

    /// Posts JSON, once.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer in time, or answers with anything but success;
    /// somebody wants an end.
    pub fn send(&self, json: &str, stop: &Shutdown) -> Result<()> {
        let fail = |why: String| anyhow!("failed to post to `{}`: {why}", self.shown);
        let mut request =
            self.agent.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let (sender, answer) = channel();
        let json = json.to_owned();
        // Nobody waits for it at the end: a server may take its time by trickling its answer.
        thread::spawn(move || {
            let status = request.send(json.as_bytes()).map(|response| response.status());
            // Nobody may be listening any more.
            let _ = sender.send(status);
        });
        let start = Instant::now();
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(Ok(status)) => return judge(status).map_err(fail),
                Ok(Err(error)) => return Err(fail(self.reason(error))),
                Err(RecvTimeoutError::Disconnected) => bail!(fail("a defect".to_owned())),
                Err(RecvTimeoutError::Timeout) if stop.has_come() => {
                    bail!(fail("told to end".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= self.timeout => {
                    return Err(fail(self.reason(ureq::Error::Timeout(ureq::Timeout::Global))));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn reason(&self, error: ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!("no answer within {:?}", self.timeout),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::Rustls(error) => tls_reason(&error),
            ureq::Error::Io(error) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => tls_reason(error),
                    None if error.kind() == io::ErrorKind::TimedOut => {
                        format!("no answer within {:?}", self.timeout)
                    }
                    None => one_line(io_error(&error).as_bytes()),
                }
            }
            other => one_line(other.to_string().as_bytes()),
        }
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not signed by a trusted authority (--then-ca names a private one)"
                .to_owned()
        }
        other => one_line(other.to_string().as_bytes()),
    }
}

fn judge(status: StatusCode) -> Result<(), String> {
    if status.is_success() {
        return Ok(());
    }
    let more = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    Err(format!("it answers with status {}{more}", status.as_u16()))
}

/// The URL, and whether it is one of https. What is wrong with it is told without it: it may hold
/// a secret.
fn parse(url: &str) -> Result<(Uri, bool)> {
    let fail = |why: &str| misconfigured(format_args!("the URL of --then-post {why}"));
    let url: Uri = url.trim().parse().map_err(|_| fail("is none"))?;
    let is_https = match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(fail("begins with neither http:// nor https://")),
    };
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(fail("holds credentials: --then-token-file takes a token"))
        }
        Some(authority) if !authority.host().is_empty() => Ok((url, is_https)),
        _ => Err(fail("has no host")),
    }
}

/// Where a URL leads, without what it asks for there.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", Authority::as_str);
    one_line(format!("{}://{authority}", url.scheme_str().unwrap_or_default()).as_bytes())
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// The header that a token makes.
fn token_in(file: &Path) -> Result<HeaderValue> {
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail =
        |why: &str| misconfigured(format_args!("failed to read a token from `{name}`: {why}"));
    let text = read_small(file).map_err(|error| fail(&io_error(&error)))?;
    let text = text.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(fail("it holds none"));
    }
    let mut header =
        HeaderValue::from_bytes(&[b"Bearer ", text].concat()).map_err(|_| fail("it holds none"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The authorities in a file, or those of the system.
fn roots(file: Option<&Path>) -> Result<Vec<Certificate<'static>>> {
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs().certs;
        if found.is_empty() {
            return Err(misconfigured(
                "this system trusts no certificate authority: --then-ca names one",
            ));
        }
        return Ok(found.iter().map(|found| Certificate::from_der(found).to_owned()).collect());
    };
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail =
        |why: &str| misconfigured(format_args!("failed to read certificates from `{name}`: {why}"));
    let bytes = read_small(file).map_err(|error| fail(&io_error(&error)))?;
    let (mut roots, mut store) = (Vec::new(), RootCertStore::empty());
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate =
            certificate.map_err(|error| fail(&one_line(error.to_string().as_bytes())))?;
        roots.push(Certificate::from_der(&certificate).to_owned());
        // Those that are none would be passed over later without a word.
        store.add(certificate).map_err(|error| fail(&error.to_string()))?;
    }
    if roots.is_empty() { Err(fail("there are none in PEM form")) } else { Ok(roots) }
}

/// Reads a file that is never large.
fn read_small(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_called_by_its_host_alone() {
        let (url, is_https) = parse("https://hooks.example.com:8443/T0/secret?key=secret").unwrap();
        assert_eq!((&shown(&url)[..], is_https), ("https://hooks.example.com:8443", true));
        for wrong in
            ["", "x", "ftp://secret/", "http://", "http://u:secret@x/", "/secret", "http:/secret"]
        {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn only_this_host_is_loopback() {
        let is = |host: &str| is_loopback(&host.parse().unwrap());
        assert!(["localhost:80", "127.0.0.1", "127.1.2.3:1", "[::1]:80"].into_iter().all(is));
        assert!(
            !["localhost.example.com", "128.0.0.1", "127.0.0.1.example.com"].into_iter().any(is)
        );
    }
}
