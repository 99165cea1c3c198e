//! What is sent: its headers with the secrets of this moment, its body, and whom it trusts.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnostics::wording::{io_failure, one_line};
use rustls::crypto::ring;
use ureq::Agent;
use ureq::http::{self, HeaderValue};
use ureq::tls::{Certificate, PemItem, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};

use super::{HttpCall, Value};
use crate::action::secret::{Secret, hide, read_small};

/// Buffers of a connection, in bytes: what is sent and read is small.
const BUFFER: usize = 16 * 1024;

/// A call with all that it needs from files.
pub struct Request {
    headers: http::HeaderMap,
    /// What must not be told, in every form in which it is sent.
    secrets: Vec<Secret>,
    body: Vec<u8>,
    tls: TlsConfig,
}

impl Request {
    /// Reads the files of a call.
    ///
    /// # Errors
    /// One of them cannot be read or sent.
    pub fn new(call: &HttpCall) -> Result<Self> {
        let mut request = Self {
            headers: http::HeaderMap::new(),
            secrets: Vec::new(),
            body: Vec::new(),
            tls: TlsConfig::builder().build(),
        };
        for (name, value) in &call.headers {
            let value = request.render(value).with_context(|| format!("{call} is not called"))?;
            request.headers.insert(name.clone(), value);
        }
        if let Some(file) = &call.body {
            request.body = read_small(file).map_err(|error| io_failure("read", file, &error))?;
        }
        if call.target.as_str().starts_with("https:") {
            request.tls = tls(call)?;
        }
        Ok(request)
    }

    fn render(&mut self, value: &Value) -> Result<HeaderValue> {
        let (text, secret) = match value {
            Value::Text(value) => return Ok(value.clone()),
            Value::File(file) => {
                let secret = Secret::read(file)?;
                (secret.reveal().to_owned(), secret)
            }
            Value::Bearer(file) => {
                let secret = Secret::read(file)?;
                (format!("Bearer {}", secret.reveal()), secret)
            }
            Value::Basic(user, file) => {
                let secret = Secret::read(file)?;
                let pair = STANDARD.encode(format!("{user}:{}", secret.reveal()));
                let text = format!("Basic {pair}");
                self.secrets.push(Secret::new(pair));
                (text, secret)
            }
        };
        self.secrets.push(secret);
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| anyhow!("a secret cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// How many secrets it sends.
    pub fn secrets(&self) -> usize {
        self.headers.values().filter(|value| value.is_sensitive()).count()
    }

    /// The bytes without the secrets in them.
    pub fn hide(&self, bytes: &[u8]) -> Vec<u8> {
        hide(bytes, &self.secrets)
    }

    /// Sends it; `reached` is chained behind the connection.
    ///
    /// # Errors
    /// There is no answer.
    pub fn send(
        &self,
        call: &HttpCall,
        reached: impl Connector<<DefaultConnector as Connector>::Out>,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would take the credentials along, or lead where nobody meant to call.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // What is called is near; credentials are not for whatever the environment names.
            .proxy(None)
            .allow_non_standard_methods(true)
            .timeout_global(Some(call.timeout))
            .max_idle_connections(0)
            .max_response_header_size(BUFFER)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .user_agent(concat!("reloader/", env!("CARGO_PKG_VERSION")))
            .tls_config(self.tls.clone())
            .build();
        let connector = DefaultConnector::default().chain(reached);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        let head = http::Request::builder().method(call.method.clone()).uri(call.target.as_str());
        let fill = |mut request: http::Request<()>| {
            request.headers_mut().extend(self.headers.clone());
            request
        };
        let head = fill(head.body(())?);
        if call.takes_a_body() {
            // Even an empty one, so that the server knows its length.
            agent.run(head.map(|()| self.body.clone()))
        } else {
            agent.run(head)
        }
    }
}

fn tls(call: &HttpCall) -> Result<TlsConfig> {
    let authorities = match &call.ca {
        Some(file) => authorities_in(file)?,
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            if found.is_empty() {
                return Err(anyhow!(
                    "this system trusts no certificate authority to call {call}: give one"
                ));
            }
            found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(authorities.into())
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn authorities_in(file: &std::path::Path) -> Result<Vec<Certificate<'static>>> {
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail = |why: &str| anyhow!("failed to read certificates from `{name}`: {why}");
    let bytes = read_small(file).map_err(|error| fail(&diagnostics::wording::io_error(&error)))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(fail("it is not in PEM form")),
        }
    }
    if found.is_empty() {
        return Err(fail("there are none in PEM form"));
    }
    Ok(found)
}
