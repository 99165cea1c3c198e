//! Runs ldap3 over a stream that was opened here, behind a proxy that checks each message of the server.
//!
//! 1. [`dial`] opens the stream, with TLS if asked for. ldap3 takes sockets, not streams.
//! 2. So ldap3 gets one end of a socket pair, and two tasks copy bytes between the other end and the
//!    stream.
//! 3. These bytes are decrypted, so here the [`Validator`] checks the messages before ldap3 parses
//!    them.

mod ca_roots;
pub mod dial;
mod starttls;
pub mod tls;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow};
use diagnostics::wording::io_error;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::address::Address;
use super::protocol::validator::{Validator, Violation};
use dial::Stream;

/// Bytes that are copied at a time.
const BUFFER_SIZE: usize = 32 * 1024;

/// An open conversation with a server.
pub struct Connection {
    /// ldap3's handle for operations.
    pub ldap: Ldap,
    /// Why the stream ended, once it has ended with an error.
    failure: Arc<Mutex<Option<StreamFailure>>>,
}

/// Why a stream ended.
#[derive(Clone)]
enum StreamFailure {
    Lost(String),
    Violation(Violation),
}

/// Why an operation has no result.
pub enum OperationError {
    /// The server did not answer in time.
    Timeout(anyhow::Error),
    /// The connection was lost.
    Lost(anyhow::Error),
    /// The server sent something that no directory server sends.
    Violation(anyhow::Error),
}

impl Connection {
    /// Starts a conversation over `stream`, with tasks on the current runtime.
    ///
    /// # Errors
    /// Fails if no socket pair can be made.
    pub async fn start(stream: Box<dyn Stream>) -> anyhow::Result<Self> {
        let (ldap3_end, own_end) = StdUnixStream::pair().context("failed to make a socket pair")?;
        own_end.set_nonblocking(true).context("failed to set up a socket pair")?;
        let own_end = UnixStream::from_std(own_end).context("failed to set up a socket pair")?;
        let (from_server, to_server) = tokio::io::split(stream);
        let (from_ldap3, mut to_ldap3) = own_end.into_split();
        let validator = Arc::new(Mutex::new(Validator::default()));
        let failure = Arc::new(Mutex::new(None));
        let requests = validator.clone();
        tokio::spawn(async move {
            // A failure here ends the other direction as well, which reports it.
            let _ = copy_requests(from_ldap3, to_server, &requests).await;
        });
        let reported = failure.clone();
        tokio::spawn(async move {
            if let Err(why) = copy_responses(from_server, &mut to_ldap3, &validator).await {
                // Before `to_ldap3` is dropped, by which ldap3 learns of the end.
                *lock(&reported) = Some(why);
            }
        });
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(ldap3_end));
        let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
            .await
            .context("failed to start the LDAP conversation")?;
        tokio::spawn(driver.drive());
        Ok(Self { ldap, failure })
    }

    /// The reason for an operation without a result.
    pub fn operation_error(
        &self,
        address: &Address,
        operation: &str,
        error: &LdapError,
    ) -> OperationError {
        let failed = format!("ldap {operation} on `{address}` failed");
        if let LdapError::Timeout { .. } = error {
            return OperationError::Timeout(anyhow!("{failed}: no answer in time"));
        }
        let failure = lock(&self.failure).clone();
        let reason = match failure {
            Some(StreamFailure::Violation(violation)) => {
                return OperationError::Violation(anyhow!("{failed}: {violation}"));
            }
            Some(StreamFailure::Lost(reason)) => reason,
            None => match error {
                LdapError::Io { source } => io_error(source),
                _ => "the server closed it".to_owned(),
            },
        };
        OperationError::Lost(anyhow!("{failed}: connection lost: {reason}"))
    }
}

async fn copy_requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    validator: &Mutex<Validator>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let recorded = lock(validator).record_requests(&buffer[..count]);
        recorded.map_err(|violation| io::Error::other(violation.to_string()))?;
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

async fn copy_responses(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    validator: &Mutex<Validator>,
) -> Result<(), StreamFailure> {
    let (mut buffer, mut valid) = (vec![0; BUFFER_SIZE], Vec::new());
    loop {
        let count = from.read(&mut buffer).await.map_err(|error| lost(&error))?;
        if count == 0 {
            return Ok(());
        }
        let checked = lock(validator).check_responses(&buffer[..count], &mut valid);
        to.write_all(&valid).await.map_err(|error| lost(&error))?;
        valid.clear();
        checked.map_err(StreamFailure::Violation)?;
    }
}

fn lost(error: &io::Error) -> StreamFailure {
    StreamFailure::Lost(match error.kind() {
        // rustls's text is a long explanation of a missing close_notify.
        ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
        _ => io_error(error),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
