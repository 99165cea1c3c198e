//! Serves `/metrics`, `/healthz` and `/readyz` over HTTP, in a separate thread.

mod metrics;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use diagnostics::exit::misconfigured;
use diagnostics::wording::io_error;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

pub use self::metrics::Metrics;

/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Connections at the same time.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may take to send a request, or be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a failure to accept a connection: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    listener.set_nonblocking(true).context("failed to listen")?;
    let bound = listener.local_addr().context("failed to listen")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to listen")?;
    thread::Builder::new()
        .name("serve".to_owned())
        .spawn(move || runtime.block_on(accept(listener, metrics)))
        .context("failed to start a thread")?;
    Ok(bound)
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &metrics);
                async { Ok::<_, Infallible>(response) }
            });
            // A broken connection is no problem of this program.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
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
