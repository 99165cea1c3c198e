//! Sends one request and waits for its answer, until a timeout or a stop.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::wording::io_error;
use ureq::http::header;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::failure::{self, Cause, Failure};
use super::{Prepared, Request};

/// How often a wait looks for a stop.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the wait goes on after the HTTP library's own timeout.
const SLACK: Duration = Duration::from_secs(1);

/// An answer, without the secrets of its request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Where it redirects to, as the header `Location` says.
    pub location: Option<Vec<u8>>,
    /// The beginning of its body, at most 64 KiB. Empty if the request ignores it.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads the files of the request and sends it. An `is_stopped` that returns true ends the
    /// wait.
    ///
    /// # Errors
    /// Fails if there is no complete answer. Its status is not an error.
    pub fn send(&self, is_stopped: &dyn Fn() -> bool) -> Result<Answer, Failure> {
        let request = self.clone();
        run(self, move || request.prepare(), is_stopped)
    }
}

impl Prepared {
    /// Sends the request. An `is_stopped` that returns true ends the wait.
    ///
    /// # Errors
    /// Fails if there is no complete answer. Its status is not an error.
    pub fn send(&self, is_stopped: &dyn Fn() -> bool) -> Result<Answer, Failure> {
        let prepared = self.clone();
        run(self.request(), move || Ok(prepared), is_stopped)
    }
}

/// Prepares and sends a request in a thread, since looking up a host and reading a file cannot be
/// interrupted. After a stop the thread ends at the request's timeout at the latest, unless a file
/// holds it up.
fn run(
    request: &Request,
    prepare: impl FnOnce() -> Result<Prepared> + Send + 'static,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Answer, Failure> {
    let connected = Connected::default();
    let (sender, receiver) = sync_channel(1);
    let send = {
        let connected = connected.clone();
        move || {
            let answer = prepare()
                .map_err(Cause::NotPrepared)
                .and_then(|prepared| answer(&prepared, connected));
            // After a stop the receiver is gone.
            drop(sender.send(answer));
        }
    };
    let outcome = match thread::Builder::new().name("http".to_owned()).spawn(send) {
        Ok(_) => receive(&receiver, request, is_stopped),
        Err(error) => {
            Err(Cause::NoAnswer(format!("failed to start a thread: {}", io_error(&error))))
        }
    };
    outcome.map_err(|cause| Failure { may_have_arrived: connected.0.load(Ordering::SeqCst), cause })
}

fn receive(
    receiver: &Receiver<Result<Answer, Cause>>,
    request: &Request,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Answer, Cause> {
    // The HTTP library has the timeout too, and says more; but a file may hold up the thread.
    let deadline = Instant::now().checked_add(request.timeout.saturating_add(SLACK));
    loop {
        match receiver.recv_timeout(PAUSE) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Cause::NoAnswer("the thread that sends it has failed".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) if is_stopped() => return Err(Cause::Stopped),
            Err(RecvTimeoutError::Timeout)
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) =>
            {
                return Err(Cause::NoAnswer(failure::timed_out(request)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn answer(prepared: &Prepared, connected: Connected) -> Result<Answer, Cause> {
    let response =
        prepared.exchange(connected).map_err(|error| failure::cause(&error, prepared))?;
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION);
    let location = location.map(|to| prepared.redact(to.as_bytes()));
    let mut body = Vec::new();
    let limit = prepared.request().max_answer_body;
    if limit > 0 {
        // To its end, since the server may still be working; so the timeout covers the body.
        let read = response.into_body().as_reader().take(limit).read_to_end(&mut body);
        read.map_err(|error| {
            let why = failure::cause(&ureq::Error::from(error), prepared);
            Cause::CutOff(status, why.to_string())
        })?;
    }
    Ok(Answer { status, location, body: prepared.redact(&body) })
}

/// Records that a connection was made (with TLS, if the URL asks for it). From then on, the server may
/// have received the request.
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<AtomicBool>);

impl<In: Transport> Connector<In> for Connected {
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
