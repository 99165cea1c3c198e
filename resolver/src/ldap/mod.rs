//! Owners from a directory server.

pub mod address;
mod ber;
mod dial;
mod entry;
mod guard;
mod link;
mod outcome;
mod starttls;
mod tls;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use diagnostics::exit::{MISCONFIGURED, code_of, misconfigured};
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use ldap3::{DerefAliases, LdapError, Scope, SearchOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::config::{Access, Config};
use crate::directory::{Directory, Remarks};
use crate::owner::{Attributes, Owner};
use address::Address;
use dial::{Security, dial};
use entry::Item;
use link::Link;
use outcome::Question;

/// How often all addresses are tried.
const TRIES: u32 = 5;
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A server that answered and took our name.
pub struct Server {
    /// Always there; taken out by `drop` alone.
    runtime: Option<Runtime>,
    session: Session,
    remarks: Remarks,
}

struct Session {
    link: Link,
    address: Address,
    bind_dn: Option<String>,
    base: String,
    filter: Option<String>,
    attributes: Attributes,
    timeout: Duration,
}

impl Server {
    /// Connects and binds to the first of the servers that can be reached, in
    /// five rounds with growing pauses.
    ///
    /// # Errors
    /// Nobody could be reached; or, at once, whatever retrying cannot cure: wrong password,
    /// refused StartTLS, untrusted certificate.
    pub fn connect(config: &Config, access: &Access, report: &mut Report) -> Result<Self> {
        let uses_tls = access.addresses.iter().any(|address| address.uses_tls(access.starttls));
        let tls = uses_tls
            .then(|| tls::client_config(access.ca_file.as_deref(), access.skip_tls_verify))
            .transpose()?;
        let security = Security { tls, starttls: access.starttls, timeout: access.timeout };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the asynchronous runtime")?;
        match runtime.block_on(connect_any(config, access, &security, report)) {
            Ok(session) => {
                Ok(Self { runtime: Some(runtime), session, remarks: Remarks::default() })
            }
            Err(error) => {
                runtime.shutdown_background(); // As in `drop`.
                Err(error)
            }
        }
    }
}

async fn connect_any(
    config: &Config,
    access: &Access,
    security: &Security,
    report: &mut Report,
) -> Result<Session> {
    let mut failures = Vec::new();
    for round in 0..TRIES {
        if round > 0 {
            sleep(FIRST_PAUSE * 2u32.pow(round - 1)).await;
        }
        failures.clear();
        for address in &access.addresses {
            match connect_one(address, config, access, security, report).await {
                Ok(session) => return Ok(session),
                Err(error) if code_of(&error) == MISCONFIGURED => return Err(error),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    bail!("ldap dial after {TRIES} retries: {}", failures.join("; "))
}

async fn connect_one(
    address: &Address,
    config: &Config,
    access: &Access,
    security: &Security,
    report: &mut Report,
) -> Result<Session> {
    let line = dial(address, security).await?;
    let mut link = Link::new(line.stream).await?;
    let bind_dn = access.credentials.as_ref().map(|credentials| credentials.dn.clone());
    let base = config.base.clone().unwrap_or_default();
    let password = access.credentials.as_ref().map_or("", |c| c.password.reveal());
    if bind_dn.is_some() && line.is_exposed {
        report.warn_once(format!(
            "the password goes to `{address}` unencrypted: use ldaps:// or LDAP_STARTTLS"
        ));
    }
    let bind = link.ldap.simple_bind(bind_dn.as_deref().unwrap_or_default(), password);
    let result = match timeout(access.timeout, bind).await {
        Err(_) => bail!("no answer to the bind on `{address}` within {:?}", access.timeout),
        Ok(Err(error)) => return Err(link.failure(address, "bind", &error)),
        Ok(Ok(result)) => result,
    };
    if result.rc != 0 {
        let question = Question { address, bind_dn: bind_dn.as_deref(), base: &base };
        return Err(outcome::bind_error(&question, &result));
    }
    Ok(Session {
        link,
        address: address.clone(),
        bind_dn,
        base,
        filter: config.filter.as_ref().map(|(text, _)| text.clone()),
        attributes: config.attributes.clone(),
        timeout: access.timeout,
    })
}

impl Session {
    async fn search(&mut self, uid: u32, remarks: &mut Remarks) -> Result<Owner> {
        let asked = format!("({}={uid})", self.attributes.uid);
        let filter = match &self.filter {
            Some(more) => format!("(&{asked}{more})"),
            None => asked,
        };
        let mut wanted = vec![&self.attributes.uid[..]];
        wanted.extend(self.attributes.mail.iter().map(|mail| &mail[..]));
        let mut ldap = self.link.ldap.clone();
        let failure = |error: LdapError| self.link.failure(&self.address, "search", &error);
        let mut answers = ldap
            .with_timeout(self.timeout)
            .with_search_options(SearchOptions::new().deref(DerefAliases::Never))
            .streaming_search(&self.base, Scope::Subtree, &filter, wanted)
            .await
            .map_err(failure)?;
        let mut owner = Owner::default();
        let mut referrals = 0;
        while let Some(item) = answers.next().await.map_err(failure)? {
            match entry::read(item, &self.attributes) {
                Item::Entry(dn, claim) if claim.uids.contains(&uid) => {
                    owner.offer(&dn, claim.mail());
                }
                Item::Entry(_, claim) => remarks.hidden += u64::from(claim.uids.is_empty()),
                Item::Referral => referrals += 1,
                Item::Renamed(name) => {
                    return Err(misconfigured(format_args!(
                        "`{}` answers with the attribute `{}`, which was asked for by another \
                         name: use this one in LDAP_MAIL_ATTR or LDAP_UID_ATTR",
                        self.address,
                        one_line(name.as_bytes())
                    )));
                }
                Item::Other => {}
                Item::Malformed => {
                    return Err(anyhow!("`{}` sent a malformed entry", self.address));
                }
            }
        }
        // Every search meets the same ones.
        remarks.referrals = remarks.referrals.max(referrals);
        let result = answers.finish().await;
        if result.rc != 0 {
            let (address, bind_dn) = (&self.address, self.bind_dn.as_deref());
            return Err(outcome::search_error(
                &Question { address, bind_dn, base: &self.base },
                &result,
            ));
        }
        Ok(owner)
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
    fn owner(&mut self, uid: u32) -> Result<Owner> {
        let runtime = self.runtime.as_ref().context("the connection was given up")?;
        runtime.block_on(self.session.search(uid, &mut self.remarks))
    }

    fn remarks(&self) -> Remarks {
        self.remarks
    }
}
