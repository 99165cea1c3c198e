//! Accepts HTTP connections in a separate thread. Connections, the size and time of headers, and the
//! time without progress of a reader are bounded.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

/// Connections at the same time.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 16 * 1024;
/// How long a connection may take to send a request, or be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a reader may take nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a failure to accept a connection: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests with `answer` until the process ends, in a thread of this name. Returns the bound
/// address.
///
/// # Errors
/// Fails if the thread cannot be started.
pub fn accept<A, F, B>(listener: TcpListener, name: &str, answer: A) -> anyhow::Result<SocketAddr>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    listener.set_nonblocking(true).context("failed to listen")?;
    let bound = listener.local_addr().context("failed to listen")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to listen")?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(accept_all(listener, answer)))
        .context("failed to start a thread")?;
    Ok(bound)
}

async fn accept_all<A, F, B>(listener: TcpListener, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            // A broken connection is no problem of this program.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADERS)
                .serve_connection(WriteTimeout::new(TokioIo::new(stream), WRITE_TIMEOUT), service)
                .await;
            drop(permit);
        });
    }
}

/// A stream whose writes fail when the reader has taken nothing for some time.
struct WriteTimeout<S> {
    stream: S,
    timeout: Duration,
    /// Runs while the reader takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, timeout, timer: None }
    }

    fn limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Read + Unpin> Read for WriteTimeout<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: Write + Unpin> Write for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.limit(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limit(cx, shut_down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpStream;

    use http_body_util::Full;
    use hyper::body::Bytes;

    #[test]
    fn a_reader_that_takes_nothing_loses_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(async {
            let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
            let service = service_fn(|_| async {
                let body = Full::new(Bytes::from(vec![0; 64 * 1024 * 1024]));
                Ok::<_, Infallible>(Response::new(body))
            });
            let stream = WriteTimeout::new(stream, Duration::from_millis(100));
            http1::Builder::new().serve_connection(stream, service).await
        });
        let error = ended.unwrap_err();
        let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::TimedOut, "{error:?}");
        drop(client);
    }
}
