//! A bound connection to one of the servers, and what is asked over it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::{MISCONFIGURED, code_of, misconfigured};
use ldap3::controls::{Control, ControlType, PagedResults};
use ldap3::{DerefAliases, LdapError, LdapResult, Scope, SearchOptions};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::connection::dial::{Security, dial};
use super::connection::{Link, Unanswered};
use super::options::Credentials;
use super::protocol::entry::{self, Item};
use super::protocol::grammar;
use super::protocol::result_code::{self, Question, excerpt};
use crate::directory::owner::{Attributes, Claim};

/// How often all addresses are tried.
pub const TRIES: u32 = 5;
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Most pages that everything may have: they may be small, and they may be empty.
const MAX_PAGES: u32 = 10_000;
/// How many times longer a whole answer may take than the next part of it.
const PARTS: u32 = 10;

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

/// How much of what there is an answer is to hold.
enum Part {
    Whole,
    Page(PagedResults),
    OneEntry,
}

/// What came with the entries of an answer.
struct Answer {
    referrals: u64,
    /// What to ask for the next page with; empty if there is none.
    cookie: Vec<u8>,
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
            Ok(Err(error)) => {
                return Err(match link.unanswered(address, "bind", &error) {
                    // It is no directory server: trying again will not help.
                    Unanswered::Violation(error) => misconfigured(format_args!("{error:#}")),
                    Unanswered::Lost(error) | Unanswered::Silence(error) => error,
                });
            }
            Ok(Ok(result)) => result,
        };
        if result.rc != 0 {
            return Err(result_code::bind_error(&self.question(number), &result));
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

    /// The filter that finds everybody who has a UID.
    pub fn has_uid(&self) -> String {
        format!("({}=*)", self.attributes.uid)
    }

    fn has_one_of(&self, uids: &[u32]) -> String {
        let name = &self.attributes.uid;
        match uids {
            [uid] => format!("({name}={uid})"),
            _ => {
                let each = uids.iter().map(|uid| format!("({name}={uid})"));
                format!("(|{})", each.collect::<String>())
            }
        }
    }

    fn trouble(&self, number: usize, result: &LdapResult) -> Trouble {
        let error = result_code::search_error(&self.question(number), result);
        match result.rc {
            4 | 11 => Trouble::TooMany(error),
            51 | 52 => Trouble::Lost(error),
            _ => Trouble::Fatal(error),
        }
    }
}

impl Session {
    /// Asks for the owners of these UIDs; each entry is given to `each`, which must sort out those
    /// that were not asked for. How many referrals came.
    ///
    /// # Errors
    /// Why there is no answer, or only part of one; or whatever `each` says.
    pub async fn search(
        &self,
        plan: &Plan,
        uids: &[u32],
        mut each: impl FnMut(&[u8], Claim) -> Result<()>,
    ) -> Result<u64, Trouble> {
        let answer = self.ask(plan, &plan.has_one_of(uids), Part::Whole, &mut each).await?;
        Ok(answer.referrals)
    }

    /// [`search`](Self::search) for any entry that matches a filter.
    ///
    /// # Errors
    /// As there; mostly [`Trouble::TooMany`] if there are more.
    pub async fn search_any(
        &self,
        plan: &Plan,
        filter: &str,
        mut each: impl FnMut(&[u8], Claim) -> Result<()>,
    ) -> Result<(), Trouble> {
        self.ask(plan, filter, Part::OneEntry, &mut each).await.map(drop)
    }

    /// [`search`](Self::search) for everybody, in pages of `size` entries. ldap3 has an adapter for that, but it goes
    /// on after errors, and for ever if the server likes.
    ///
    /// # Errors
    /// As there, or there is no end.
    pub async fn search_all(
        &self,
        plan: &Plan,
        size: i32,
        mut each: impl FnMut(&[u8], Claim) -> Result<()>,
    ) -> Result<u64, Trouble> {
        let (mut cookie, mut referrals) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let page = Part::Page(PagedResults { size, cookie });
            let answer = self.ask(plan, &plan.has_uid(), page, &mut each).await?;
            referrals += answer.referrals;
            cookie = answer.cookie;
            if cookie.is_empty() {
                return Ok(referrals);
            }
        }
        let address = &plan.addresses[self.number];
        Err(Trouble::Fatal(anyhow!("`{address}` sent {MAX_PAGES} pages and had more")))
    }

    /// One question and its whole answer.
    async fn ask(
        &self,
        plan: &Plan,
        filter: &str,
        part: Part,
        each: &mut impl FnMut(&[u8], Claim) -> Result<()>,
    ) -> Result<Answer, Trouble> {
        let limit = plan.timeout * PARTS;
        match timeout(limit, self.exchange(plan, filter, part, each)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silence(anyhow!(
                "ldap search on `{}` failed: no end of the answer within {limit:?}",
                plan.addresses[self.number]
            ))),
        }
    }

    async fn exchange(
        &self,
        plan: &Plan,
        filter: &str,
        part: Part,
        each: &mut impl FnMut(&[u8], Claim) -> Result<()>,
    ) -> Result<Answer, Trouble> {
        let mut wanted = vec![&plan.attributes.uid[..]];
        wanted.extend(plan.attributes.mail.iter().map(|mail| &mail[..]));
        let filter = match &plan.filter {
            Some(more) => format!("(&{filter}{more})"),
            None => filter.to_owned(),
        };
        let mut ldap = self.link.ldap.clone();
        let limit = i32::from(matches!(part, Part::OneEntry));
        ldap.with_timeout(plan.timeout)
            .with_search_options(SearchOptions::new().deref(DerefAliases::Never).sizelimit(limit));
        if let Part::Page(page) = part {
            ldap.with_controls(page);
        }
        let trouble = |error: LdapError| self.trouble(plan, &error);
        let begun = ldap.streaming_search(&plan.base, Scope::Subtree, &filter, wanted).await;
        let mut answers = begun.map_err(trouble)?;
        let mut referrals = 0;
        while let Some(item) = answers.next().await.map_err(trouble)? {
            match entry::read(item, &plan.attributes) {
                Item::Entry(dn, claim) => each(&dn, claim).map_err(Trouble::Fatal)?,
                Item::Referral => referrals += 1,
                Item::Renamed(name) => return Err(self.renamed(plan, &name)),
                Item::Other => {}
                Item::Unusable(what) => return Err(self.unusable(plan, what)),
            }
        }
        let result = answers.finish().await;
        match result.rc {
            0 => Ok(Answer { referrals, cookie: cookie(&result) }),
            _ => Err(plan.trouble(self.number, &result)),
        }
    }

    fn trouble(&self, plan: &Plan, error: &LdapError) -> Trouble {
        match self.link.unanswered(&plan.addresses[self.number], "search", error) {
            Unanswered::Lost(error) => Trouble::Lost(error),
            Unanswered::Silence(error) => Trouble::Silence(error),
            Unanswered::Violation(error) => Trouble::Fatal(error),
        }
    }

    fn renamed(&self, plan: &Plan, name: &str) -> Trouble {
        let (address, name) = (&plan.addresses[self.number], excerpt(name.as_bytes()));
        Trouble::Fatal(misconfigured(format_args!(
            "`{address}` answers with the attribute `{name}`, which was asked for by another \
             name: use this one in LDAP_MAIL_ATTR or LDAP_UID_ATTR"
        )))
    }

    fn unusable(&self, plan: &Plan, what: &str) -> Trouble {
        Trouble::Fatal(anyhow!("`{}` sent {what}", plan.addresses[self.number]))
    }
}

fn cookie(result: &LdapResult) -> Vec<u8> {
    let value = result.ctrls.iter().find_map(|Control(kind, control)| match kind {
        Some(ControlType::PagedResults) => control.val.as_deref(),
        _ => None,
    });
    value.and_then(grammar::cookie).unwrap_or_default().to_vec()
}
