//! Calls an application's own interface over HTTP: `/-/reload`, an administration API.

mod exchange;
mod request;
mod target;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use ureq::http::{HeaderName, HeaderValue, Method, header};

use super::{Action, Content, Failure};
use crate::stop::Stop;
pub use exchange::Answer;
pub use target::Target;

/// How long a call may take, with everything, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer's first line is told, in characters.
const MAX_QUOTED: usize = 200;

/// One call, checked as far as it can be without making it.
#[derive(Clone, Debug)]
pub struct HttpCall {
    method: Method,
    target: Target,
    headers: Vec<(HeaderName, Value)>,
    body: Option<PathBuf>,
    ca: Option<PathBuf>,
    expected: Vec<u16>,
    timeout: Duration,
}

/// What a header says.
#[derive(Clone)]
enum Value {
    /// What was given.
    Text(HeaderValue),
    /// What a file holds.
    File(PathBuf),
    /// A bearer token from a file (RFC 6750).
    Bearer(PathBuf),
    /// A user's name, and the password from a file (RFC 7617).
    Basic(String, PathBuf),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, file) = match self {
            Self::Text(_) => return f.write_str("(text)"),
            Self::File(file) => ("value", file),
            Self::Bearer(file) => ("token", file),
            Self::Basic(_, file) => ("password", file),
        };
        write!(f, "({kind} in {file:?})")
    }
}

/// Headers that say how the request is framed, which is not the caller's affair.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that hold secrets, which a command line must not.
const SECRET: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

impl HttpCall {
    /// A call with this method, in capitals, to this URL. Any 2xx is expected within 10 seconds.
    ///
    /// # Errors
    /// One of both is malformed; an error of configuration, like all that follow.
    pub fn new(method: &str, url: &str) -> Result<Self> {
        let is_word = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let parsed = Method::from_bytes(method.as_bytes()).ok().filter(|_| is_word);
        let Some(method) = parsed.filter(|m| m != Method::CONNECT && m != Method::TRACE) else {
            let method = one_line(method.as_bytes());
            return Err(misconfigured(format_args!(
                "`{method}` is not a method to call with (GET, POST, PUT, ...)"
            )));
        };
        Ok(Self {
            method,
            target: Target::parse(url)?,
            headers: Vec::new(),
            body: None,
            ca: None,
            expected: Vec::new(),
            timeout: TIMEOUT,
        })
    }

    /// Adds a header, given as `Name: value`.
    ///
    /// # Errors
    /// It is malformed, holds a line break, or is one that a command line must not hold.
    pub fn header(self, line: &str) -> Result<Self> {
        let (name, value) = split_header(line, ':')?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| misconfigured(format_args!("the header `{name}` has a bad value")))?;
        if SECRET.contains(&name) {
            return Err(misconfigured(format_args!(
                "the header `{name}` holds a secret: give a file that holds it"
            )));
        }
        self.with(name, Value::Text(value))
    }

    /// Adds a header whose value a file holds, given as `Name=FILE`.
    ///
    /// # Errors
    /// The name is malformed, or others on the network could read the secret.
    pub fn header_file(self, line: &str) -> Result<Self> {
        let (name, file) = split_header(line, '=')?;
        let file = PathBuf::from(file);
        self.privately()?.with(name, Value::File(file))
    }

    /// Adds a bearer token.
    ///
    /// # Errors
    /// Others on the network could read it, or there is another credential.
    pub fn bearer(self, file: PathBuf) -> Result<Self> {
        self.privately()?.with(header::AUTHORIZATION, Value::Bearer(file))
    }

    /// Adds a user's name and password.
    ///
    /// # Errors
    /// Others on the network could read them, there is another credential, or the name holds a
    /// colon or control character, which cannot be sent.
    pub fn basic(self, user: String, password: PathBuf) -> Result<Self> {
        if user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(misconfigured("a user's name holds no colon and no control characters"));
        }
        self.privately()?.with(header::AUTHORIZATION, Value::Basic(user, password))
    }

    /// Sends what a file holds.
    ///
    /// # Errors
    /// The method takes nothing.
    pub fn body(mut self, file: PathBuf) -> Result<Self> {
        if !self.takes_a_body() {
            return Err(misconfigured(format_args!("a {} sends no body", self.method)));
        }
        self.body = Some(file);
        Ok(self)
    }

    /// Trusts the authorities in a PEM file instead of the system's.
    pub fn ca(mut self, file: PathBuf) -> Self {
        self.ca = Some(file);
        self
    }

    /// Expects one of these statuses instead of any 2xx.
    ///
    /// # Errors
    /// One of them is not the status of an answer.
    pub fn expect(mut self, statuses: Vec<u16>) -> Result<Self> {
        if let Some(odd) = statuses.iter().find(|status| !(200..=599).contains(*status)) {
            return Err(misconfigured(format_args!("{odd} is not an HTTP status to expect")));
        }
        self.expected = statuses;
        Ok(self)
    }

    /// Limits the whole call: connecting, TLS, sending, and the answer to its end.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits it further.
    pub fn at_most(mut self, timeout: Duration) -> Self {
        self.timeout = self.timeout.min(timeout);
        self
    }

    fn takes_a_body(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&self.method)
    }

    fn with(mut self, name: HeaderName, value: Value) -> Result<Self> {
        if FRAMING.contains(&name) {
            return Err(misconfigured(format_args!("the header `{name}` cannot be set")));
        }
        if self.headers.iter().any(|(other, _)| *other == name) {
            return Err(misconfigured(format_args!("the header `{name}` is given twice")));
        }
        self.headers.push((name, value));
        Ok(self)
    }

    /// Itself, if it can carry secrets.
    fn privately(self) -> Result<Self> {
        if self.target.is_clear() {
            return Err(misconfigured(format_args!(
                "`{}` would show a secret to the network: use https://, or a loopback address",
                self.target
            )));
        }
        Ok(self)
    }

    /// Asks, and hands over the answer of an expected status.
    ///
    /// # Errors
    /// There is none, or another.
    pub fn ask(&self, stop: &Stop) -> Result<Answer, Failure> {
        let answer = exchange::exchange(self, stop)?;
        let is_expected = match self.expected.as_slice() {
            [] => (200..300).contains(&answer.status),
            statuses => statuses.contains(&answer.status),
        };
        if is_expected { Ok(answer) } else { Err(self.unexpected(&answer)) }
    }

    /// What another status means: of 4xx, that the application has refused.
    fn unexpected(&self, answer: &Answer) -> Failure {
        let mut error = format!("{self} answered {}", answer.status);
        if (300..400).contains(&answer.status) {
            let origin = answer.location.as_deref().and_then(|to| self.target.origin_of(to));
            let origin = origin.unwrap_or_else(|| "nowhere".to_owned());
            error.push_str(&format!(", a redirect to `{origin}`, which is not followed"));
        } else {
            error.push_str(&format!(", not {}", self.expectation()));
        }
        if let Some(line) = answer.first_line() {
            error.push_str(&format!(": {line}"));
        }
        if (400..500).contains(&answer.status) {
            Failure::without_effect(anyhow!(error))
        } else {
            Failure::in_doubt(anyhow!(error))
        }
    }

    fn expectation(&self) -> String {
        if self.expected.is_empty() {
            return "2xx".to_owned();
        }
        let statuses: Vec<_> = self.expected.iter().map(u16::to_string).collect();
        statuses.join(" or ")
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

impl fmt::Display for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.method, self.target)
    }
}

impl Action for HttpCall {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn act(&self, _: &Content, stop: &Stop) -> Result<String, Failure> {
        let answer = self.ask(stop)?;
        Ok(format!("answered {}", answer.status))
    }

    fn rehearse(&self, _: &Content) -> Result<String> {
        let request = request::Request::new(self)?;
        let secrets = match request.secrets() {
            0 => String::new(),
            1 => ", with a secret".to_owned(),
            n => format!(", with {n} secrets"),
        };
        Ok(format!("{self}{secrets}, expecting {}", self.expectation()))
    }
}

impl Answer {
    /// The first line that says something, for a message.
    pub fn first_line(&self) -> Option<String> {
        let mut lines = self.body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line = one_line(lines.find(|line| !line.is_empty())?);
        let mut quoted: String = line.chars().take(MAX_QUOTED).collect();
        if quoted.len() < line.len() {
            quoted.push('…');
        }
        Some(quoted)
    }
}
