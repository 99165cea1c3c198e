//! A bound connection to one of the servers, and what is asked over it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::{MISCONFIGURED, code_of, misconfigured};
use diagnostics::wording::one_line;
use ldap3::adapters::{Adapter, PagedResults};
use ldap3::{DerefAliases, LdapResult, Scope, SearchOptions};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::dial::{Security, dial};
use super::entry::{self, Item};
use super::link::{Link, Unanswered};
use super::outcome::{self, Question};
use crate::config::Credentials;
use crate::owner::{Attributes, Claim};

/// How often all addresses are tried.
pub const TRIES: u32 = 5;
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Whom to ask, and what for; the same for the whole run.
pub struct Plan {
    /// In the order to try them; never empty.
    pub addresses: Vec<Address>,
    /// How to secure connections.
    pub security: Security,
    /// Who asks; `None` for anonymous.
    pub credentials: Option<Credentials>,
    /// Below which name.
    pub base: String,
    /// Which entries count, in parentheses.
    pub filter: Option<String>,
    /// What ties a UID to an address.
    pub attributes: Attributes,
    /// How long to wait for each answer.
    pub timeout: Duration,
}

/// A connection to a server that took our name.
pub struct Session {
    link: Link,
    /// Which of the plan's addresses it is.
    pub number: usize,
}

/// Why a search has no answer.
pub enum Trouble {
    /// This connection is of no use any more, another may be.
    Lost(anyhow::Error),
    /// Nothing came in time.
    Silence(anyhow::Error),
    /// The server does not give as many entries at a time.
    TooMany(anyhow::Error),
    /// Asking again will not help.
    Fatal(anyhow::Error),
}

impl Trouble {
    /// The error to tell.
    pub fn into_error(self) -> anyhow::Error {
        let (Self::Lost(error) | Self::Silence(error) | Self::TooMany(error) | Self::Fatal(error)) =
            self;
        error
    }
}

/// Whom a search is for.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    /// The owners of these UIDs.
    Uids(&'a [u32]),
    /// Everybody who has a UID.
    Everybody {
        /// How many entries to ask for at a time.
        page: i32,
    },
    /// Any entry that matches this filter; one is enough.
    Any(&'a str),
}

/// What is said while connecting that is no failure.
pub type Warn<'w> = &'w mut (dyn FnMut(String) + Send);

impl Plan {
    /// Connects and binds to the first of the servers that can be reached, starting with address
    /// `first`, in five rounds with growing pauses.
    ///
    /// # Errors
    /// Nobody could be reached; or, at once, whatever retrying cannot cure: wrong password,
    /// refused StartTLS, untrusted certificate.
    pub async fn connect(&self, first: usize, warn: Warn<'_>) -> Result<Session> {
        let mut failures = Vec::new();
        for round in 0..TRIES {
            if round > 0 {
                sleep(FIRST_PAUSE * 2u32.pow(round - 1)).await;
            }
            failures.clear();
            for offset in 0..self.addresses.len() {
                match self.connect_to((first + offset) % self.addresses.len(), warn).await {
                    Ok(session) => return Ok(session),
                    Err(error) if code_of(&error) == MISCONFIGURED => return Err(error),
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
        }
        bail!("ldap dial after {TRIES} retries: {}", failures.join("; "))
    }

    async fn connect_to(&self, number: usize, warn: Warn<'_>) -> Result<Session> {
        let address = &self.addresses[number];
        let line = dial(address, &self.security).await?;
        let mut link = Link::new(line.stream).await?;
        let dn = self.credentials.as_ref().map_or("", |credentials| &credentials.dn);
        let password = self.credentials.as_ref().map_or("", |c| c.password.reveal());
        if self.credentials.is_some() && line.is_exposed {
            warn(format!(
                "the password goes to `{address}` unencrypted: use ldaps:// or LDAP_STARTTLS"
            ));
        }
        let result = match timeout(self.timeout, link.ldap.simple_bind(dn, password)).await {
            Err(_) => bail!("no answer to the bind on `{address}` within {:?}", self.timeout),
            Ok(Err(error)) => return Err(link.unanswered(address, "bind", &error).into_error()),
            Ok(Ok(result)) => result,
        };
        if result.rc != 0 {
            return Err(outcome::bind_error(&self.question(number), &result));
        }
        Ok(Session { link, number })
    }

    fn question(&self, number: usize) -> Question<'_> {
        Question {
            address: &self.addresses[number],
            bind_dn: self.credentials.as_ref().map(|credentials| &credentials.dn[..]),
            base: &self.base,
        }
    }

    fn filter_for(&self, asked: Asked<'_>) -> String {
        let name = &self.attributes.uid;
        let asked = match asked {
            Asked::Everybody { .. } => format!("({name}=*)"),
            Asked::Any(filter) => filter.to_owned(),
            Asked::Uids([uid]) => format!("({name}={uid})"),
            Asked::Uids(uids) => {
                let each = uids.iter().map(|uid| format!("({name}={uid})"));
                format!("(|{})", each.collect::<String>())
            }
        };
        match &self.filter {
            Some(more) => format!("(&{asked}{more})"),
            None => asked,
        }
    }

    fn trouble(&self, number: usize, result: &LdapResult) -> Trouble {
        let error = outcome::search_error(&self.question(number), result);
        match result.rc {
            4 | 11 => Trouble::TooMany(error),
            51 | 52 => Trouble::Lost(error),
            _ => Trouble::Fatal(error),
        }
    }
}

impl Session {
    /// Asks; each entry is given to `each`, which must sort out those that were not asked for. How
    /// many referrals came.
    ///
    /// # Errors
    /// Why there is no answer, or only part of one.
    pub async fn search(
        &self,
        plan: &Plan,
        asked: Asked<'_>,
        mut each: impl FnMut(&[u8], Claim),
    ) -> Result<u64, Trouble> {
        let mut wanted = vec![&plan.attributes.uid[..]];
        wanted.extend(plan.attributes.mail.iter().map(|mail| &mail[..]));
        let adapters: Vec<Box<dyn Adapter<'_, &str, Vec<&str>>>> = match asked {
            Asked::Everybody { page } => vec![Box::new(PagedResults::new(page))],
            _ => Vec::new(),
        };
        let limit = if matches!(asked, Asked::Any(_)) { 1 } else { 0 };
        let mut ldap = self.link.ldap.clone();
        let mut answers = ldap
            .with_timeout(plan.timeout)
            .with_search_options(SearchOptions::new().deref(DerefAliases::Never).sizelimit(limit))
            .streaming_search_with(
                adapters,
                &plan.base,
                Scope::Subtree,
                &plan.filter_for(asked),
                wanted,
            )
            .await
            .map_err(|error| self.trouble(plan, &error))?;
        let mut referrals = 0;
        while let Some(item) = answers.next().await.map_err(|error| self.trouble(plan, &error))? {
            match entry::read(item, &plan.attributes) {
                Item::Entry(dn, claim) => each(&dn, claim),
                Item::Referral => referrals += 1,
                Item::Renamed(name) => return Err(self.renamed(plan, &name)),
                Item::Other => {}
                Item::Malformed => return Err(self.malformed(plan)),
            }
        }
        let result = answers.finish().await;
        match result.rc {
            0 => Ok(referrals),
            _ => Err(plan.trouble(self.number, &result)),
        }
    }

    fn trouble(&self, plan: &Plan, error: &ldap3::LdapError) -> Trouble {
        match self.link.unanswered(&plan.addresses[self.number], "search", error) {
            Unanswered::Lost(error) => Trouble::Lost(error),
            Unanswered::Silence(error) => Trouble::Silence(error),
            Unanswered::Violation(error) => Trouble::Fatal(error),
        }
    }

    fn renamed(&self, plan: &Plan, name: &str) -> Trouble {
        let (address, name) = (&plan.addresses[self.number], one_line(name.as_bytes()));
        Trouble::Fatal(misconfigured(format_args!(
            "`{address}` answers with the attribute `{name}`, which was asked for by another \
             name: use this one in LDAP_MAIL_ATTR or LDAP_UID_ATTR"
        )))
    }

    fn malformed(&self, plan: &Plan) -> Trouble {
        let address = &plan.addresses[self.number];
        Trouble::Fatal(anyhow!("`{address}` sent a malformed entry"))
    }
}
