//! Answers to `/metrics`, `/healthz` and `/readyz`, from a thread of its own.

pub mod metrics;

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

use self::metrics::Figures;

/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Connections at a time.
const MAX_CONNECTIONS: usize = 32;
/// How long a request may take to arrive, and a connection rest.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After a connection that could not be taken: there may be no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves at an address (`:9533` is that port everywhere) until the process ends; the address
/// that has come of it.
///
/// # Errors
/// It is no address, or cannot be listened at.
pub fn serve(address: &str, figures: Figures) -> Result<SocketAddr> {
    let full = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
    let parsed: SocketAddr = full.parse().map_err(|_| {
        misconfigured(format_args!("--listen takes an address and port, not `{address}`"))
    })?;
    let bound = TcpListener::bind(parsed).or_else(|error| match address.strip_prefix(':') {
        // Without IPv6.
        Some(_) => TcpListener::bind(("0.0.0.0", parsed.port())),
        None => Err(error),
    });
    let listener = bound.map_err(|error| {
        anyhow::anyhow!("failed to listen at `{address}`: {}", io_error(&error))
    })?;
    listener.set_nonblocking(true).context("failed to listen")?;
    let at = listener.local_addr().context("failed to listen")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to listen")?;
    thread::Builder::new()
        .name("serve".to_owned())
        .spawn(move || runtime.block_on(accept(listener, figures)))
        .context("failed to start a thread")?;
    Ok(at)
}

async fn accept(listener: TcpListener, figures: Figures) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let figures = figures.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &figures);
                async { Ok::<_, Infallible>(response) }
            });
            // What goes wrong on a connection is its client's affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, figures: &Figures) -> Response<Full<Bytes>> {
    let numbers = figures.now();
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, METRICS, numbers.metrics()),
        (&Method::GET | &Method::HEAD, "/healthz") => match numbers.stalled(Instant::now()) {
            None => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(since) => {
                let text = format!("no look for {} seconds\n", since.as_secs());
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        (&Method::GET | &Method::HEAD, "/readyz") if numbers.is_ready => {
            (StatusCode::OK, TEXT, "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let text = "what was live at the start is not in use yet\n".to_owned();
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
