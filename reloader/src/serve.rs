//! Serves `/metrics`, `/healthz` and `/readyz` over HTTP, in a separate thread. [`bundle`] is another
//! listener in another thread, so that a flood of requests there cannot delay a health check.

pub mod bundle;
mod connections;
mod metrics;

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::io_error;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};

pub use self::metrics::Metrics;

/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves at an address (`:9533` is that port on all interfaces) until the process ends. Returns
/// the bound address.
///
/// # Errors
/// Fails if the address is invalid or cannot be bound.
pub fn serve(address: &str, metrics: Metrics) -> Result<SocketAddr> {
    let full = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
    let parsed: SocketAddr = full.parse().map_err(|_| {
        misconfigured(format_args!("--listen takes an address and port, not `{address}`"))
    })?;
    let bound = TcpListener::bind(parsed).or_else(|error| match address.strip_prefix(':') {
        // The machine may have no IPv6.
        Some(_) => TcpListener::bind(("0.0.0.0", parsed.port())),
        None => Err(error),
    });
    let listener = bound.map_err(|error| {
        anyhow::anyhow!("failed to listen at `{address}`: {}", io_error(&error))
    })?;
    connections::accept(listener, "serve", move |request| ready(answer(&request, &metrics)))
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let metrics = metrics.lock();
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, METRICS, metrics.to_prometheus())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => match metrics.stalled(Instant::now()) {
            None => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(since) => {
                let text = format!("no scan for {} seconds\n", since.as_secs());
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        (&Method::GET | &Method::HEAD, "/readyz") if metrics.is_ready => {
            (StatusCode::OK, TEXT, "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let text = "the application does not use the content from the start yet\n".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}
