//! One request and its answer, within a time and until a stop.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diagnostics::wording::{io_error, one_line};
use rustls::CertificateError;
use ureq::http::header;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::request::Request;
use super::{Failure, HttpCall};
use crate::stop::Stop;

/// What is read of an answer at most, in bytes.
const MAX_BODY: u64 = 64 * 1024;

/// How often a wait looks for a stop.
const GLANCE: Duration = Duration::from_millis(50);

/// What came back. It holds no secret of the request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Where it redirects to.
    pub location: Option<Vec<u8>>,
    /// The beginning of what it says.
    pub body: Vec<u8>,
}

/// Makes a call. A thread of its own does, since neither a name server nor a file system can be
/// told to stop; it ends by itself soon after the time-out.
///
/// # Errors
/// There is no whole answer, for certain without effect if no connection was made.
pub fn exchange(call: &HttpCall, stop: &Stop) -> Result<Answer, Failure> {
    let reached = Reached::default();
    let classify = {
        let reached = reached.clone();
        move |error: anyhow::Error| match reached.0.load(Ordering::SeqCst) {
            true => Failure::in_doubt(error),
            false => Failure::without_effect(error),
        }
    };
    let (sender, receiver) = sync_channel(1);
    let request = {
        let (call, reached) = (call.clone(), reached.clone());
        // Nobody waits for the answer any more after a stop.
        move || drop(sender.send(answer(&call, reached)))
    };
    let started = thread::Builder::new().name("http".to_owned()).spawn(request);
    started.map_err(|error| {
        Failure::without_effect(anyhow!("failed to start a thread: {}", io_error(&error)))
    })?;
    let outcome = receive(&receiver, call, stop);
    outcome.map_err(classify)
}

fn receive(receiver: &Receiver<Result<Answer>>, call: &HttpCall, stop: &Stop) -> Result<Answer> {
    // The thread has the time-out too; it is more precise, but may be held up by a file.
    let deadline = Instant::now() + call.timeout + Duration::from_secs(1);
    loop {
        match receiver.recv_timeout(GLANCE) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("failed to call {call}")),
            Err(RecvTimeoutError::Timeout) if stop.is_set() => {
                return Err(anyhow!("stopped while waiting for the answer to {call}"));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                return Err(anyhow!("failed to call {call}: {}", too_late(call)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn answer(call: &HttpCall, reached: Reached) -> Result<Answer> {
    let request = Request::new(call)?;
    let fail = |error: &ureq::Error| {
        let why = request.hide(wording(error, call).as_bytes());
        anyhow!("failed to call {call}: {}", one_line(&why))
    };
    let response = request.send(call, reached).map_err(|error| fail(&error))?;
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION);
    let location = location.map(|to| request.hide(to.as_bytes()));
    let mut body = Vec::new();
    // To its end, since the application may work on it still; so it is part of the time-out.
    let read = response.into_body().as_reader().take(MAX_BODY).read_to_end(&mut body);
    read.map_err(|error| fail(&ureq::Error::from(error)))
        .with_context(|| format!("{call} answered {status}, but not to the end"))?;
    Ok(Answer { status, location, body: request.hide(&body) })
}

/// Why there is no answer.
fn wording(error: &ureq::Error, call: &HttpCall) -> String {
    match error {
        ureq::Error::Io(error) => match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(refused) => tls_wording(refused),
            None => io_wording(error),
        },
        ureq::Error::Rustls(error) => tls_wording(error),
        ureq::Error::Timeout(_) => too_late(call),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        other => other.to_string(),
    }
}

fn io_wording(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed without an answer".to_owned(),
        _ => io_error(error),
    }
}

fn tls_wording(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not signed by a trusted authority".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn too_late(call: &HttpCall) -> String {
    format!("no whole answer within {:?}", call.timeout)
}

/// Notes that there is a connection, secured if need be, over which the request now goes.
#[derive(Clone, Debug, Default)]
struct Reached(Arc<AtomicBool>);

impl<In: Transport> Connector<In> for Reached {
    type Out = In;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        self.0.store(chained.is_some(), Ordering::SeqCst);
        Ok(chained)
    }
}
