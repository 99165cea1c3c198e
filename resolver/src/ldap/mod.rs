//! The [`Directory`] that asks LDAP servers.
//!
//! 1. [`options`] and [`address`] are the checked settings.
//! 2. [`connector`] connects and binds to one of the servers, over a [`connection`] that checks every
//!    message by the rules of [`protocol`].
//! 3. [`session`] runs one search over it; [`query`] builds its filter.
//! 4. [`lookup`] keeps many searches for UIDs running. [`mod@enumerate`] reads all owners instead.
//! 5. [`visibility`] checks, after a run without any address, that the server can show one.

pub mod address;
mod connection;
mod connector;
mod enumerate;
mod lookup;
pub mod options;
pub mod protocol;
mod query;
mod session;
mod visibility;

use std::sync::Arc;

use anyhow::{Context, Result};
use diagnostics::report::Report;
use tokio::runtime::{Builder, Runtime};

use crate::directory::owner::Attributes;
use crate::directory::{Answer, Deliver, Directory, LookupStats, UidReceiver};
use connection::dial::Security;
use connection::tls;
use connector::Connector;
use enumerate::enumerate;
use lookup::Lookup;
use options::ServerOptions;
use query::Query;
use session::Session;

/// A directory that asks LDAP servers. It has connected and bound to one of them.
pub struct LdapDirectory {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    /// The first connection, until the lookup takes it.
    session: Option<Session>,
    enumerate: bool,
    stats: LookupStats,
}

impl LdapDirectory {
    /// Connects and binds to the first server that can be reached.
    ///
    /// # Errors
    /// Fails if no server can be reached in five rounds. Fails at once with a configuration error for
    /// a wrong password, a refused StartTLS, an untrusted certificate, or unreadable CA certificates.
    pub fn connect(
        options: ServerOptions,
        attributes: Attributes,
        report: &mut Report,
    ) -> Result<Self> {
        let uses_tls = options.addresses.iter().any(|address| address.uses_tls(options.starttls));
        let tls = uses_tls
            .then(|| tls::client_config(options.ca_file.as_deref(), options.skip_tls_verify))
            .transpose()?;
        let connector = Arc::new(Connector {
            addresses: options.addresses,
            security: Security { tls, starttls: options.starttls, timeout: options.timeout },
            credentials: options.credentials,
        });
        let query = Arc::new(Query { base: options.base, filter: options.filter, attributes });
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the asynchronous runtime")?;
        let mut directory = Self {
            runtime: None,
            session: None,
            enumerate: options.enumerate,
            stats: LookupStats::default(),
        };
        let mut warnings = Vec::new();
        let mut warn = |warning| warnings.push(warning);
        let connected = runtime.block_on(Session::connect(connector, query, &mut warn));
        directory.runtime = Some(runtime);
        warnings.into_iter().for_each(|warning| report.warn_once(warning));
        directory.session = Some(connected?);
        Ok(directory)
    }
}

impl Drop for LdapDirectory {
    /// Does not wait for the runtime: one of its threads may still wait for a name server.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Directory for LdapDirectory {
    fn answer(&mut self, mut uids: UidReceiver, deliver: Deliver<'_>) -> Result<()> {
        let session = self.session.take().context("the connection was used already")?;
        let runtime = self.runtime.as_ref().context("the runtime was shut down")?;
        if !self.enumerate {
            let lookup = Lookup::new(session, &mut self.stats, deliver);
            return runtime.block_on(lookup.run(uids));
        }
        let mut owners = runtime.block_on(enumerate(session, &mut self.stats))?;
        while let Some(uid) = uids.blocking_recv() {
            let owner = owners.remove(&uid).unwrap_or_default();
            deliver(vec![Answer { uid, owner }]);
        }
        Ok(())
    }

    fn stats(&self) -> LookupStats {
        self.stats.clone()
    }
}
