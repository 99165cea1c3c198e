//! Joins a dialled stream to ldap3.
//!
//! ldap3 takes sockets, not streams, so it gets one end of a socket pair, and two tasks copy
//! between the other end and the stream. What passes here has been decrypted: it is the one
//! place where a server's bytes can be [looked at](crate::ldap::protocol::validator) before ldap3 parses them.

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

use crate::ldap::address::Address;
use crate::ldap::protocol::validator::{Guard, Violation};
use dial::Stream;

/// Bytes copied at a time.
const PIECE: usize = 32 * 1024;

/// An open conversation with a server.
pub struct Link {
    /// The handle for operations.
    pub ldap: Ldap,
    /// Why the connection broke, once it has.
    broken: Arc<Mutex<Option<Break>>>,
}

/// Why a connection broke.
#[derive(Clone)]
enum Break {
    Lost(String),
    /// The server sent what it must not.
    Violation(Violation),
}

/// Why an operation was not answered.
pub enum Unanswered {
    /// Nothing came in time.
    Silence(anyhow::Error),
    /// The connection was lost.
    Lost(anyhow::Error),
    /// The server cannot be trusted.
    Violation(anyhow::Error),
}

impl Link {
    /// Starts a conversation over `stream`, on the runtime that this is called on.
    ///
    /// # Errors
    /// No socket pair could be made.
    pub async fn new(stream: Box<dyn Stream>) -> anyhow::Result<Self> {
        let (near, far) = StdUnixStream::pair().context("failed to make a socket pair")?;
        far.set_nonblocking(true).context("failed to set up a socket pair")?;
        let far = UnixStream::from_std(far).context("failed to set up a socket pair")?;
        let (from_server, to_server) = tokio::io::split(stream);
        let (from_us, to_us) = far.into_split();
        let guard = Arc::new(Mutex::new(Guard::default()));
        let broken = Arc::new(Mutex::new(None));
        let (reason, watch) = (broken.clone(), guard.clone());
        tokio::spawn(async move {
            // An error here shows in the other direction as well.
            let _ = send(from_us, to_server, &watch).await;
        });
        tokio::spawn(async move {
            let mut to_us = to_us;
            if let Err(why) = receive(from_server, &mut to_us, &guard).await {
                // Set before `to_us` is dropped, which is how ldap3 learns of the end.
                *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        });
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(near));
        let (connection, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
            .await
            .context("failed to start the LDAP conversation")?;
        tokio::spawn(connection.drive());
        Ok(Self { ldap, broken })
    }

    /// What became of an operation that was not answered.
    pub fn unanswered(&self, address: &Address, operation: &str, error: &LdapError) -> Unanswered {
        let failed = format!("ldap {operation} on `{address}` failed");
        if let LdapError::Timeout { .. } = error {
            return Unanswered::Silence(anyhow!("{failed}: no answer in time"));
        }
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = match broken {
            Some(Break::Violation(violation)) => {
                return Unanswered::Violation(anyhow!("{failed}: {violation}"));
            }
            Some(Break::Lost(reason)) => reason,
            None => match error {
                LdapError::Io { source } => io_error(source),
                _ => "the server closed it".to_owned(),
            },
        };
        Unanswered::Lost(anyhow!("{failed}: connection lost: {reason}"))
    }
}

async fn send(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    guard: &Mutex<Guard>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let known = lock(guard).ask(&piece[..count]);
        known.map_err(|violation| io::Error::other(violation.to_string()))?;
        to.write_all(&piece[..count]).await?;
        to.flush().await?;
    }
}

async fn receive(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    guard: &Mutex<Guard>,
) -> Result<(), Break> {
    let (mut piece, mut passed) = (vec![0; PIECE], Vec::new());
    loop {
        let count = from.read(&mut piece).await.map_err(|error| lost(&error))?;
        if count == 0 {
            return Ok(());
        }
        let taken = lock(guard).take(&piece[..count], &mut passed);
        to.write_all(&passed).await.map_err(|error| lost(&error))?;
        passed.clear();
        taken.map_err(Break::Violation)?;
    }
}

fn lost(error: &io::Error) -> Break {
    Break::Lost(match error.kind() {
        // rustls explains here at length what a missing close_notify means.
        ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
        _ => io_error(error),
    })
}

fn lock(guard: &Mutex<Guard>) -> MutexGuard<'_, Guard> {
    guard.lock().unwrap_or_else(PoisonError::into_inner)
}
