//! Owners from a directory server.

pub mod address;
mod connection;
mod enumerate;
mod lookup;
pub mod options;
pub mod protocol;
mod session;
mod visibility;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use diagnostics::report::Report;
use tokio::runtime::{Builder, Runtime};

use crate::directory::owner::{Attributes, Owner};
use crate::directory::{Directory, Questions, Remarks};
use connection::dial::Security;
use connection::tls;
use enumerate::enumerate;
use lookup::Lookup;
use options::Access;
use session::{Plan, Session};

/// A server that answered and took our name.
pub struct Server {
    /// Always there; taken out by `drop` alone.
    runtime: Option<Runtime>,
    plan: Arc<Plan>,
    /// The connection to start with.
    session: Option<Session>,
    /// Read everything at first.
    enumerates: bool,
    remarks: Remarks,
}

impl Server {
    /// Connects and binds, to ask for entries within `base` that match `filter`.
    ///
    /// # Errors
    /// Nobody could be reached in five rounds; or, at once, whatever retrying cannot cure: wrong
    /// password, refused StartTLS, untrusted certificate, authorities that cannot be read.
    pub fn connect(
        access: Access,
        attributes: Attributes,
        base: Option<&str>,
        filter: Option<&str>,
        report: &mut Report,
    ) -> Result<Self> {
        let uses_tls = access.addresses.iter().any(|address| address.uses_tls(access.starttls));
        let tls = uses_tls
            .then(|| tls::client_config(access.ca_file.as_deref(), access.skip_tls_verify))
            .transpose()?;
        let plan = Plan {
            addresses: access.addresses,
            security: Security { tls, starttls: access.starttls, timeout: access.timeout },
            credentials: access.credentials,
            base: base.unwrap_or_default().to_owned(),
            filter: filter.map(str::to_owned),
            attributes,
            timeout: access.timeout,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the asynchronous runtime")?;
        let mut warnings = Vec::new();
        let connected = runtime.block_on(plan.connect(0, &mut |warning| warnings.push(warning)));
        warnings.into_iter().for_each(|warning| report.warn_once(warning));
        let mut server = Self {
            runtime: Some(runtime),
            plan: Arc::new(plan),
            session: None,
            enumerates: access.enumerates,
            remarks: Remarks::default(),
        };
        server.session = Some(connected?);
        Ok(server)
    }
}

impl Drop for Server {
    /// A name lookup that was given up may still block a thread of the runtime: do not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Directory for Server {
    fn answer(
        &mut self,
        mut questions: Questions,
        give: &(dyn Fn(Vec<(u32, Owner)>) + Sync),
    ) -> Result<()> {
        let session = self.session.take().context("the connection was given up")?;
        let runtime = self.runtime.as_ref().context("the connection was given up")?;
        if !self.enumerates {
            let lookup = Lookup::new(self.plan.clone(), session, &mut self.remarks, give);
            return runtime.block_on(lookup.run(questions));
        }
        let all = enumerate(&self.plan, session, &mut self.remarks);
        let mut owners: HashMap<u32, Owner> = runtime.block_on(all)?;
        while let Some(uid) = questions.blocking_recv() {
            give(vec![(uid, owners.remove(&uid).unwrap_or_default())]);
        }
        Ok(())
    }

    fn remarks(&self) -> Remarks {
        self.remarks.clone()
    }
}
