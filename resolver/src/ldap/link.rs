//! Joins a dialled stream to ldap3.
//!
//! ldap3 takes sockets, not streams, so it gets one end of a socket pair, and a task copies
//! between the other end and the stream. What passes here has been decrypted: it is the one
//! place where a server's bytes can be looked at before ldap3 parses them.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use diagnostics::wording::io_error;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;

use super::address::Address;
use super::dial::Stream;

/// An open conversation with a server.
pub struct Link {
    /// The handle for operations.
    pub ldap: Ldap,
    /// Why the connection broke, once it has.
    broken: Arc<Mutex<Option<String>>>,
}

impl Link {
    /// Starts a conversation over `stream`, on the runtime that this is called on.
    ///
    /// # Errors
    /// No socket pair could be made.
    pub async fn new(mut stream: Box<dyn Stream>) -> Result<Self> {
        let (near, far) = StdUnixStream::pair().context("failed to make a socket pair")?;
        far.set_nonblocking(true).context("failed to set up a socket pair")?;
        let mut far = UnixStream::from_std(far).context("failed to set up a socket pair")?;
        let broken = Arc::new(Mutex::new(None));
        let reason = broken.clone();
        tokio::spawn(async move {
            if let Err(error) = copy_bidirectional(&mut stream, &mut far).await {
                let why = match error.kind() {
                    // rustls explains here at length what a missing close_notify means.
                    ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
                    _ => io_error(&error),
                };
                // Set before `far` is dropped, which is how ldap3 learns of the end.
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

    /// The words for an operation that was not answered.
    pub fn failure(&self, address: &Address, operation: &str, error: &LdapError) -> anyhow::Error {
        if let LdapError::Timeout { .. } = error {
            return anyhow!("ldap {operation} on `{address}` failed: no answer in time");
        }
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = broken.unwrap_or_else(|| match error {
            LdapError::Io { source } => io_error(source),
            _ => "the server closed it".to_owned(),
        });
        anyhow!("ldap {operation} on `{address}` failed: connection lost: {reason}")
    }
}
