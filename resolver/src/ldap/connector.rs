//! Connects and binds to one of the servers.
//!
//! All servers are tried in order, in five rounds with growing pauses. An error that retrying cannot
//! cure (wrong password, refused StartTLS, untrusted certificate) ends this at once.

use std::time::Duration;

use anyhow::{Result, bail};
use diagnostics::exit::{MISCONFIGURED, code_of, misconfigured};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::connection::dial::{Security, dial};
use super::connection::{Connection, OperationError};
use super::options::Credentials;
use super::protocol::result_code;

/// How often all servers are tried.
const ROUNDS: u32 = 5;
/// Pause before the second round; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Takes warnings that arise while connecting.
pub type Warn<'w> = &'w mut (dyn FnMut(String) + Send);

/// The servers, and how to connect to them.
pub struct Connector {
    /// The servers, in the order to try them; never empty.
    pub addresses: Vec<Address>,
    /// How to secure connections.
    pub security: Security,
    /// Name and password to bind with; `None` for an anonymous bind.
    pub credentials: Option<Credentials>,
}

/// A connection on which a bind has succeeded.
pub struct BoundConnection {
    /// The connection.
    pub connection: Connection,
    /// Which of the servers this is.
    pub server: usize,
}

impl Connector {
    /// Connects and binds to the first server that can be reached, starting with number `first`.
    ///
    /// # Errors
    /// Fails if no server can be reached in all rounds. Fails at once with a configuration error for
    /// a wrong password, a refused StartTLS, or an untrusted certificate.
    pub async fn connect(&self, first: usize, warn: Warn<'_>) -> Result<BoundConnection> {
        let mut failures = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                sleep(FIRST_PAUSE * 2u32.pow(round - 1)).await;
            }
            failures.clear();
            for offset in 0..self.addresses.len() {
                let server = (first + offset) % self.addresses.len();
                match self.connect_to(server, warn).await {
                    Ok(connection) => return Ok(BoundConnection { connection, server }),
                    Err(error) if code_of(&error) == MISCONFIGURED => return Err(error),
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
        }
        bail!("ldap dial after {ROUNDS} retries: {}", failures.join("; "))
    }

    async fn connect_to(&self, server: usize, warn: Warn<'_>) -> Result<Connection> {
        let (address, limit) = (&self.addresses[server], self.security.timeout);
        let dialled = dial(address, &self.security).await?;
        let mut connection = Connection::start(dialled.stream).await?;
        let dn = self.bind_dn().unwrap_or_default();
        let password = self.credentials.as_ref().map_or("", |c| c.password.reveal());
        if self.credentials.is_some() && dialled.is_exposed {
            warn(format!(
                "the password goes to `{address}` unencrypted: use ldaps:// or LDAP_STARTTLS"
            ));
        }
        let result = match timeout(limit, connection.ldap.simple_bind(dn, password)).await {
            Err(_) => bail!("no answer to the bind on `{address}` within {limit:?}"),
            Ok(Err(error)) => {
                return Err(match connection.operation_error(address, "bind", &error) {
                    // This is no directory server, so retrying cannot help.
                    OperationError::Violation(error) => misconfigured(format_args!("{error:#}")),
                    OperationError::Lost(error) | OperationError::Timeout(error) => error,
                });
            }
            Ok(Ok(result)) => result,
        };
        if result.rc != 0 {
            return Err(result_code::bind_error(address, self.bind_dn(), &result));
        }
        Ok(connection)
    }

    /// The name to bind with; `None` for an anonymous bind.
    pub fn bind_dn(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| &credentials.dn[..])
    }
}
