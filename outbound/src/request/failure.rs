//! Why a request has no complete answer. The messages hold neither its URL nor its secrets.

use std::fmt;
use std::io;

use diagnostics::wording::{io_error, one_line};
use rustls::CertificateError;

use super::{Prepared, Request};

/// A request without a complete answer.
#[derive(Debug)]
pub struct Failure {
    /// Whether the request may have reached the server: the connection was made, with TLS if the URL
    /// asks for it.
    pub may_have_arrived: bool,
    /// Why there is no answer.
    pub cause: Cause,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Cause {
    /// A file that the request needs cannot be used.
    NotPrepared(anyhow::Error),
    /// The caller stopped.
    Stopped,
    /// No trusted authority has signed the server's certificate.
    UntrustedCertificate,
    /// Any other reason, on one line.
    NoAnswer(String),
    /// The answer has this status, but did not arrive to its end, for this reason.
    CutOff(u16, String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPrepared(error) => write!(f, "{error:#}"),
            Self::Stopped => f.write_str("stopped while waiting for the answer"),
            Self::UntrustedCertificate => {
                f.write_str("its certificate is not signed by a trusted authority")
            }
            Self::NoAnswer(why) | Self::CutOff(_, why) => f.write_str(why),
        }
    }
}

/// What an error of the HTTP library means.
pub fn cause(error: &ureq::Error, sent: &Prepared) -> Cause {
    let tls = match error {
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        ureq::Error::Rustls(error) => Some(error),
        _ => None,
    };
    let why = match (tls, error) {
        (Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), _) => {
            return Cause::UntrustedCertificate;
        }
        (Some(error), _) => tls_error(error),
        (None, ureq::Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed without an answer".to_owned()
        }
        (None, ureq::Error::Io(error)) => io_error(error),
        (None, ureq::Error::Timeout(_)) => timed_out(sent.request()),
        (None, ureq::Error::HostNotFound) => "no such host".to_owned(),
        (None, other) => other.to_string(),
    };
    Cause::NoAnswer(one_line(&sent.redact(why.as_bytes())))
}

/// What to say after the timeout.
pub fn timed_out(request: &Request) -> String {
    let answer = if request.max_answer_body > 0 { "whole answer" } else { "answer" };
    format!("no {answer} within {:?}", request.timeout)
}

fn tls_error(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}
