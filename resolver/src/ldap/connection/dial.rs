//! Opens a connection to an address, and secures it with TLS or StartTLS.
//!
//! ldap3 could do this too, but it sets neither TCP_NODELAY nor keepalive, and its error for a refused
//! StartTLS is the same as for a lost connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::starttls;
use crate::ldap::address::{Address, Endpoint};

/// Longest wait for each IP address of a host.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle time after which the kernel sends keepalive probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A stream to a server, secured or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to secure connections.
pub struct Security {
    /// TLS settings; `None` if no address uses TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Whether `ldap://` connections are secured with StartTLS.
    pub starttls: bool,
    /// How long a connect, a StartTLS, a handshake, or the next part of an answer may take.
    pub timeout: Duration,
}

/// An open stream to a server.
pub struct Dialled {
    /// The stream.
    pub stream: Box<dyn Stream>,
    /// Whether others on the network could read a password: neither TLS nor local.
    pub is_exposed: bool,
}

/// Connects to `address`, and secures the connection if the address or the settings ask for it.
///
/// # Errors
/// Fails with a configuration error if StartTLS or the TLS handshake was refused. After other
/// errors the next try may succeed.
pub async fn dial(address: &Address, security: &Security) -> Result<Dialled> {
    let (host, port, ldaps) = match &address.endpoint {
        Endpoint::Unix(path) => {
            let connected = within(security.timeout, UnixStream::connect(path)).await;
            let stream = connected.map_err(|error| connect_error(address, &error))?;
            return Ok(Dialled { stream: Box::new(stream), is_exposed: false });
        }
        Endpoint::Tcp { host, port, ldaps } => (host, *port, *ldaps),
    };
    let mut tcp = connect(address, host, port, security.timeout).await?;
    let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if !ldaps && security.starttls {
        let negotiated = timeout(security.timeout, starttls::negotiate(&mut tcp)).await;
        let silent = || anyhow!("no answer to StartTLS within {:?}", security.timeout);
        negotiated
            .unwrap_or_else(|_| Err(silent()))
            .map_err(|error| name_address(&error, address))?;
    }
    if !ldaps && !security.starttls {
        return Ok(Dialled { stream: Box::new(tcp), is_exposed: !is_local });
    }
    let config = security.tls.clone().context("TLS settings are missing")?;
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        let host = one_line(host.as_bytes());
        misconfigured(format_args!("`{host}` is not a valid host name for a certificate"))
    })?;
    let secured = within(security.timeout, TlsConnector::from(config).connect(name, tcp)).await;
    let tls = secured.map_err(|error| super::tls::handshake_error(address, host, &error))?;
    Ok(Dialled { stream: Box::new(tls), is_exposed: false })
}

/// Puts the address before a StartTLS error, and keeps its exit code.
fn name_address(error: &anyhow::Error, address: &Address) -> anyhow::Error {
    let message = format!("`{address}`: {error:#}");
    match diagnostics::exit::code_of(error) {
        diagnostics::exit::MISCONFIGURED => misconfigured(message),
        _ => anyhow!(message),
    }
}

async fn connect(address: &Address, host: &str, port: u16, limit: Duration) -> Result<TcpStream> {
    let found = within(limit, lookup_host((host, port))).await.map_err(|error| {
        let host = one_line(host.as_bytes());
        anyhow!("failed to look up `{host}` of `{address}`: {}", io_error(&error))
    })?;
    let mut last = io::Error::other("the host has no address");
    for candidate in found {
        match within(limit.min(ADDRESS_TIMEOUT), TcpStream::connect(candidate)).await {
            Ok(stream) => {
                set_socket_options(&stream).map_err(|error| connect_error(address, &error))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(connect_error(address, &last))
}

fn set_socket_options(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.set_nodelay(true)
}

fn connect_error(address: &Address, error: &io::Error) -> anyhow::Error {
    anyhow!("failed to connect to `{address}`: {}", io_error(error))
}

async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::other(format!("no answer within {limit:?}"))),
    }
}
