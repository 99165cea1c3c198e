//! Answers OPA's requests for the bundle. A request with `Prefer: wait=N` for content that the client
//! has already is held until other content is published, or N seconds have passed.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::io_error;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, ETAG, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::archive::{self, Pieces};
use super::{Bundle, Published, preconditions};
use crate::serve::{TEXT, connections};

/// The path of the bundle.
pub const PATH: &str = "/bundle.tar.gz";

/// Tells OPA that requests may wait for a change.
const LONG_POLLING: HeaderValue =
    HeaderValue::from_static("application/vnd.openpolicyagent.bundles");
const GZIP: HeaderValue = HeaderValue::from_static("application/gzip");

/// Responses with a bundle at the same time. Others wait.
const MAX_ARCHIVES: usize = 2;

type Answer = Response<Either<Full<Bytes>, Pieces>>;

/// Serves what is published until the process ends. Returns the bound address.
///
/// # Errors
/// Fails if the address is not one of loopback or cannot be bound.
pub fn serve(address: &str, published: Published) -> Result<SocketAddr> {
    let parsed = address.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    // Policies and data may be confidential, and no client has to authenticate.
    let parsed = parsed.ok_or_else(|| {
        misconfigured(format_args!(
            "--serve-bundle takes a loopback address and port, such as 127.0.0.1:9534, not `{address}`"
        ))
    })?;
    let listener = TcpListener::bind(parsed).map_err(|error| {
        anyhow::anyhow!("failed to listen at `{address}`: {}", io_error(&error))
    })?;
    let archives = Arc::new(Semaphore::new(MAX_ARCHIVES));
    connections::accept(listener, "serve-bundle", move |request| {
        answer(request, published.clone(), archives.clone())
    })
}

async fn answer(
    request: Request<Incoming>,
    published: Published,
    archives: Arc<Semaphore>,
) -> Answer {
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return close(answer);
    }
    if !request.body().is_end_stream() {
        return close(text(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body\n"));
    }
    let wait = preconditions::wait(request.headers());
    let is_news = |bundle: &Option<Arc<Bundle>>| {
        let bundle = bundle.as_ref();
        bundle.is_some_and(|bundle| !preconditions::has(request.headers(), bundle.etag()))
    };
    let mut current = published.subscribe();
    if let Some(wait) = wait {
        // After the time, the answer is what it would be without a wait.
        let _ = timeout(wait, current.wait_for(is_news)).await;
    }
    let bundle = current.borrow().clone();
    let is_news = is_news(&bundle);
    let Some(bundle) = bundle else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "no content is complete yet\n");
    };
    let (status, body) = match is_news {
        false => (StatusCode::NOT_MODIFIED, Either::Left(Full::default())),
        true if request.method() == Method::HEAD => (StatusCode::OK, Either::Left(Full::default())),
        true => match archives.acquire_owned().await {
            Ok(permit) => (StatusCode::OK, Either::Right(archive::send(bundle.clone(), permit))),
            Err(_) => return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        },
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ETAG, bundle.etag.clone());
    headers.insert(CONTENT_TYPE, if wait.is_some() { LONG_POLLING } else { GZIP });
    answer
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    answer
}

/// Ends the connection after the answer: a body of the request may still come.
fn close(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
