//! Sends one HTTP request, in bounded time and memory, and without leaking its secrets.
//!
//! 1. Build a [`Request`]. Everything that needs no file is checked at once.
//! 2. [`Request::prepare`] reads its files (secrets, body, CA certificates) into a [`Prepared`].
//! 3. [`Prepared::send`] sends it once, directly to its URL. It follows no redirect and uses no proxy,
//!    because both would receive the credentials.
//! 4. The result is an [`Answer`] or a [`Failure`]. Secrets are redacted from both, because a server
//!    may send them back.

mod exchange;
mod failure;
mod prepared;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use ureq::http::{HeaderName, HeaderValue, Method, header};

pub use exchange::Answer;
pub use failure::{Cause, Failure};
pub use prepared::Prepared;
pub use url::{HttpUrl, UrlError};

/// How long a request may take in all by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer's body is read by default, in bytes.
const MAX_ANSWER_BODY: u64 = 64 * 1024;

/// Headers that say how the request is framed; the HTTP library sets them.
const FRAMING_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that hold secrets, which a command line must not.
const SECRET_HEADERS: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// An HTTP request. Defaults: no body, a timeout of 10 seconds, the system's CA certificates, and any
/// 2xx status as success.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    url: HttpUrl,
    headers: Vec<(HeaderName, Value)>,
    body: Option<PathBuf>,
    ca: Option<PathBuf>,
    expected: Vec<u16>,
    timeout: Duration,
    user_agent: &'static str,
    max_answer_body: u64,
}

/// Where the value of a header comes from.
#[derive(Clone)]
enum Value {
    /// The value itself.
    Text(HeaderValue),
    /// A file that holds the value.
    File(PathBuf),
    /// A file that holds a bearer token (RFC 6750).
    Bearer(PathBuf),
    /// As `Bearer`, with white space around the token ignored.
    BearerTrimmed(PathBuf),
    /// A user name, and a file that holds the password (RFC 7617).
    Basic(String, PathBuf),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, file) = match self {
            Self::Text(_) => return f.write_str("(text)"),
            Self::File(file) => ("value", file),
            Self::Bearer(file) | Self::BearerTrimmed(file) => ("token", file),
            Self::Basic(_, file) => ("password", file),
        };
        write!(f, "({kind} in {file:?})")
    }
}

impl Request {
    /// Makes a request with this method, in capitals, to this URL.
    ///
    /// # Errors
    /// Fails if the method or the URL is malformed. The errors of all methods here are errors of
    /// configuration. A URL that may hold a password is not repeated.
    pub fn new(method: &str, url: &str) -> Result<Self> {
        let is_word = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let parsed = Method::from_bytes(method.as_bytes()).ok().filter(|_| is_word);
        let Some(method) = parsed.filter(|m| m != Method::CONNECT && m != Method::TRACE) else {
            let method = one_line(method.as_bytes());
            return Err(misconfigured(format_args!(
                "`{method}` is not a method to call with (GET, POST, PUT, ...)"
            )));
        };
        let url = HttpUrl::parse(url).map_err(|error| {
            let bare = url.split(['?', '#']).next().unwrap_or_default();
            let shown = if url.contains('@') { "(hidden)" } else { bare };
            misconfigured(format_args!("bad URL `{}`: it {error}", one_line(shown.as_bytes())))
        })?;
        Ok(Self { method, ..Self::post(url) })
    }

    /// Makes a POST request.
    pub fn post(url: HttpUrl) -> Self {
        Self {
            method: Method::POST,
            url,
            headers: Vec::new(),
            body: None,
            ca: None,
            expected: Vec::new(),
            timeout: TIMEOUT,
            user_agent: "",
            max_answer_body: MAX_ANSWER_BODY,
        }
    }

    /// Adds a header, given as `Name: value`.
    ///
    /// # Errors
    /// Fails if the header is malformed, is set already, frames the request, or is meant for
    /// secrets, which must not be on a command line.
    pub fn header(self, line: &str) -> Result<Self> {
        let (name, value) = split_header(line, ':')?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| misconfigured(format_args!("the header `{name}` has a bad value")))?;
        if SECRET_HEADERS.contains(&name) {
            return Err(misconfigured(format_args!(
                "the header `{name}` holds a secret: give a file that holds it"
            )));
        }
        self.add(name, Value::Text(value))
    }

    /// Adds a header whose value is in a file, given as `Name=FILE`.
    ///
    /// # Errors
    /// Fails if the name is malformed, set already or frames the request, or if others on the
    /// network could read the value.
    pub fn header_file(self, line: &str) -> Result<Self> {
        let (name, file) = split_header(line, '=')?;
        let file = PathBuf::from(file);
        self.protected()?.add(name, Value::File(file))
    }

    /// Adds the bearer token in a file.
    ///
    /// # Errors
    /// Fails if others on the network could read the token, or there is another credential.
    pub fn bearer(self, file: PathBuf) -> Result<Self> {
        self.protected()?.add(header::AUTHORIZATION, Value::Bearer(file))
    }

    /// Adds the bearer token in a file, where white space around the token is ignored.
    ///
    /// # Errors
    /// As [`bearer`](Self::bearer).
    pub fn bearer_trimmed(self, file: PathBuf) -> Result<Self> {
        self.protected()?.add(header::AUTHORIZATION, Value::BearerTrimmed(file))
    }

    /// Adds a user name, and the password in a file.
    ///
    /// # Errors
    /// Fails if others on the network could read the password, there is another credential, or the
    /// name holds a colon or a control character, which cannot be sent.
    pub fn basic(self, user: String, password: PathBuf) -> Result<Self> {
        if user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(misconfigured("a user name holds no colon and no control characters"));
        }
        self.protected()?.add(header::AUTHORIZATION, Value::Basic(user, password))
    }

    /// Sends the content of a file as the body.
    ///
    /// # Errors
    /// Fails if the method takes no body.
    pub fn body(mut self, file: PathBuf) -> Result<Self> {
        if !self.takes_body() {
            return Err(misconfigured(format_args!("a {} request has no body", self.method)));
        }
        self.body = Some(file);
        Ok(self)
    }

    /// Trusts the CA certificates in a PEM file instead of the system's.
    pub fn ca(mut self, file: PathBuf) -> Self {
        self.ca = Some(file);
        self
    }

    /// Expects one of these statuses instead of any 2xx.
    ///
    /// # Errors
    /// Fails if one of them is not the status of a final answer.
    pub fn expect(mut self, statuses: Vec<u16>) -> Result<Self> {
        if let Some(odd) = statuses.iter().find(|status| !(200..=599).contains(*status)) {
            return Err(misconfigured(format_args!("{odd} is not an HTTP status to expect")));
        }
        self.expected = statuses;
        Ok(self)
    }

    /// Limits the total time: connecting, the TLS handshake, sending, and receiving the answer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lowers the timeout to this, if it is longer.
    pub fn at_most(mut self, timeout: Duration) -> Self {
        self.timeout = self.timeout.min(timeout);
        self
    }

    /// Sets the `User-Agent` header.
    pub fn user_agent(mut self, name: &'static str) -> Self {
        self.user_agent = name;
        self
    }

    /// Ends the request when the answer's headers have arrived, and does not read its body.
    pub fn ignore_answer_body(mut self) -> Self {
        self.max_answer_body = 0;
        self
    }

    /// Reads this many bytes of the answer's body instead of 64 KiB.
    pub fn max_answer_body(mut self, bytes: u64) -> Self {
        self.max_answer_body = bytes;
        self
    }

    /// Where the request goes.
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    /// Whether a status is one of those expected.
    pub fn expects(&self, status: u16) -> bool {
        match self.expected.as_slice() {
            [] => (200..300).contains(&status),
            statuses => statuses.contains(&status),
        }
    }

    /// The expected statuses, for a message: `2xx`, `200 or 204`.
    pub fn expectation(&self) -> String {
        if self.expected.is_empty() {
            return "2xx".to_owned();
        }
        let statuses: Vec<_> = self.expected.iter().map(u16::to_string).collect();
        statuses.join(" or ")
    }

    /// Reads the files of the request.
    ///
    /// # Errors
    /// Fails if one of them cannot be read or sent, or if the system has no CA certificates
    /// ([`NoSystemRoots`](crate::ca_roots::NoSystemRoots)).
    pub fn prepare(&self) -> Result<Prepared> {
        Prepared::new(self.clone())
    }

    fn takes_body(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&self.method)
    }

    fn add(mut self, name: HeaderName, value: Value) -> Result<Self> {
        if FRAMING_HEADERS.contains(&name) {
            return Err(misconfigured(format_args!("the header `{name}` cannot be set")));
        }
        if self.headers.iter().any(|(other, _)| *other == name) {
            return Err(misconfigured(format_args!("the header `{name}` is given twice")));
        }
        self.headers.push((name, value));
        Ok(self)
    }

    /// The request itself, if its URL protects secrets.
    fn protected(self) -> Result<Self> {
        if self.url.is_exposed() {
            return Err(misconfigured(format_args!(
                "`{}` would show a secret to the network: use https://, or a loopback address",
                self.url
            )));
        }
        Ok(self)
    }
}

fn split_header(line: &str, separator: char) -> Result<(HeaderName, &str)> {
    let split = line.split_once(separator);
    let name = split.and_then(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok());
    let (Some(name), Some((_, value))) = (name, split) else {
        let form = if separator == ':' { "Name: value" } else { "Name=FILE" };
        return Err(misconfigured(format_args!("a header is not of the form `{form}`")));
    };
    Ok((name, value.trim_matches([' ', '\t'])))
}

/// The method and the URL without its query.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.method, self.url)
    }
}
