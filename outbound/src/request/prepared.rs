//! A request whose files (secrets, body, CA certificates) have been read: it is ready to be sent.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnostics::wording::io_failure;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::http::{self, HeaderMap, HeaderValue};
use ureq::tls::{Certificate, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};

use super::{Request, Value};
use crate::ca_roots;
use crate::secret::{Secret, redact};
use crate::small_file::read_small;

/// Size of the buffers of a connection, and largest headers of an answer, in bytes.
const BUFFER_SIZE: usize = 16 * 1024;

/// A request with its secrets, its body and its CA certificates.
#[derive(Clone)]
pub struct Prepared {
    request: Request,
    headers: HeaderMap,
    /// Everything that must not be shown, in every form in which it is sent.
    secrets: Vec<Secret>,
    body: Vec<u8>,
    tls: TlsConfig,
}

impl Prepared {
    pub(super) fn new(request: Request) -> Result<Self> {
        let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
        for (name, value) in &request.headers {
            headers.insert(name.clone(), render(value, &mut secrets)?);
        }
        let body = match &request.body {
            Some(file) => read_small(file).map_err(|error| io_failure("read", file, &error))?,
            None => Vec::new(),
        };
        let tls = if request.url.is_https() { tls(&request)? } else { TlsConfig::default() };
        Ok(Self { request, headers, secrets, body, tls })
    }

    /// Sends these bytes as the body instead of what a file holds.
    pub fn body(mut self, bytes: Vec<u8>) -> Self {
        self.body = bytes;
        self
    }

    /// The number of headers that hold a secret.
    pub fn secret_count(&self) -> usize {
        self.headers.values().filter(|value| value.is_sensitive()).count()
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// The bytes with the request's secrets replaced.
    pub(super) fn redact(&self, bytes: &[u8]) -> Vec<u8> {
        redact(bytes, &self.secrets)
    }

    /// Sends the request and waits for the answer's headers. `connected` is chained behind the
    /// connection.
    pub(super) fn exchange(
        &self,
        connected: impl Connector<<DefaultConnector as Connector>::Out>,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would take the credentials along, or lead where the caller did not mean to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The environment's proxy would see the credentials.
            .proxy(None)
            .allow_non_standard_methods(true)
            .timeout_global(Some(self.request.timeout))
            .max_idle_connections(0)
            .max_response_header_size(BUFFER_SIZE)
            .input_buffer_size(BUFFER_SIZE)
            .output_buffer_size(BUFFER_SIZE)
            .user_agent(self.request.user_agent)
            .tls_config(self.tls.clone())
            .build();
        let connector = DefaultConnector::default().chain(connected);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        let (method, url) = (self.request.method.clone(), self.request.url.as_str());
        let mut head = http::Request::builder().method(method).uri(url).body(())?;
        head.headers_mut().extend(self.headers.clone());
        if self.request.takes_body() {
            // Even an empty one, so that the server knows its length.
            agent.run(head.map(|()| self.body.clone()))
        } else {
            agent.run(head)
        }
    }
}

/// The value of a header; what it holds of secrets is added to `secrets`.
fn render(value: &Value, secrets: &mut Vec<Secret>) -> Result<HeaderValue> {
    let (secret, text) = match value {
        Value::Text(value) => return Ok(value.clone()),
        Value::File(file) => {
            let secret = Secret::read(file)?;
            let text = secret.reveal().to_owned();
            (secret, text)
        }
        Value::Bearer(file) => bearer(Secret::read(file)?),
        Value::BearerTrimmed(file) => bearer(Secret::read_token(file)?),
        Value::Basic(user, file) => {
            let secret = Secret::read(file)?;
            let pair = STANDARD.encode(format!("{user}:{}", secret.reveal()));
            let text = format!("Basic {pair}");
            secrets.push(Secret::from(pair));
            (secret, text)
        }
    };
    secrets.push(secret);
    let mut value = HeaderValue::from_str(&text).map_err(|_| anyhow!("a secret cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(token: Secret) -> (Secret, String) {
    let text = format!("Bearer {}", token.reveal());
    (token, text)
}

fn tls(request: &Request) -> Result<TlsConfig> {
    let roots = match &request.ca {
        Some(file) => ca_roots::from_file(file)?,
        None => ca_roots::from_system()?,
    };
    let roots = roots.iter().map(|der| Certificate::from_der(der).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(roots.collect::<Vec<_>>().into())
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}
