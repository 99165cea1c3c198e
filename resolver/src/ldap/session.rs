//! A bound connection to one of the servers. It sends searches, reads their entries, and sorts failures
//! into those that another server, a smaller search, or nothing can cure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use ldap3::controls::{Control, ControlType, PagedResults};
use ldap3::{DerefAliases, LdapError, LdapResult, Scope, SearchOptions};
use tokio::time::timeout;

use super::address::Address;
use super::connection::{Connection, OperationError};
use super::connector::{Connector, Warn};
use super::protocol::entry::{self, Item};
use super::protocol::grammar;
use super::protocol::result_code::{self, SearchRequest, excerpt};
use super::query::Query;
use crate::directory::Searches;
use crate::directory::owner::Account;

/// How many connections may be lost, without an answer in between, before a run fails.
pub const MAX_LOSSES: u32 = 5;
/// Most pages of a search for everything: a server may send small pages, or empty ones.
const MAX_PAGES: u32 = 10_000;
/// How many times the timeout for a part of an answer the whole answer may take.
const ANSWER_TIMEOUTS: u32 = 10;

/// A bound connection to one of the servers.
pub struct Session {
    connector: Arc<Connector>,
    query: Arc<Query>,
    connection: Connection,
    /// Which of the connector's servers this is.
    server: usize,
}

/// Why a search has no answer.
pub enum SearchError {
    /// The connection was lost, or the server is busy or unavailable. Another server may answer.
    Lost(anyhow::Error),
    /// The server did not answer in time.
    Timeout(anyhow::Error),
    /// The server has a limit that is too low for this search. A smaller one may succeed.
    LimitExceeded(anyhow::Error),
    /// Repeating the search cannot help.
    Fatal(anyhow::Error),
}

impl SearchError {
    /// The error to report.
    pub fn into_error(self) -> anyhow::Error {
        let (Self::Lost(error)
        | Self::Timeout(error)
        | Self::LimitExceeded(error)
        | Self::Fatal(error)) = self;
        error
    }
}

/// How many of the matching entries a search asks for.
enum Extent {
    All,
    Page(PagedResults),
    One,
}

/// The end of a search, after its entries.
struct SearchEnd {
    referrals: u64,
    /// The cookie for the next page; empty if this was the last one.
    cookie: Vec<u8>,
}

impl Session {
    /// Connects to the first server that can be reached.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect(
        connector: Arc<Connector>,
        query: Arc<Query>,
        warn: Warn<'_>,
    ) -> Result<Self> {
        Self::connect_from(connector, query, 0, warn).await
    }

    /// Connects to the next server, or to the same one if there is no other.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn reconnect(&self, warn: Warn<'_>) -> Result<Self> {
        let next = (self.server + 1) % self.connector.addresses.len();
        Self::connect_from(self.connector.clone(), self.query.clone(), next, warn).await
    }

    async fn connect_from(
        connector: Arc<Connector>,
        query: Arc<Query>,
        first: usize,
        warn: Warn<'_>,
    ) -> Result<Self> {
        let bound = connector.connect(first, warn).await?;
        Ok(Self { connector, query, connection: bound.connection, server: bound.server })
    }

    /// The server's address.
    pub fn address(&self) -> &Address {
        &self.connector.addresses[self.server]
    }

    /// Whether another server can be asked instead of this one.
    pub fn has_alternative(&self) -> bool {
        self.connector.addresses.len() > 1
    }

    /// The name that is bound; `None` after an anonymous bind.
    pub fn bind_dn(&self) -> Option<&str> {
        self.connector.bind_dn()
    }

    /// What the searches of the run ask for.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Searches for the entries with these UIDs and passes each to `each`, which must ignore UIDs
    /// that were not asked for. Returns the number of referrals.
    ///
    /// # Errors
    /// Fails if the answer is missing or incomplete, or with the error of `each`.
    pub async fn search(
        &self,
        uids: &[u32],
        mut each: impl FnMut(&[u8], Account) -> Result<()>,
    ) -> Result<u64, SearchError> {
        let filter = self.query.with_uids(uids);
        Ok(self.ask(&filter, Extent::All, &mut each).await?.referrals)
    }

    /// Searches for a single entry that matches a filter.
    ///
    /// # Errors
    /// As [`search`](Self::search). Many servers answer [`SearchError::LimitExceeded`] if there are
    /// more entries, after the one that was asked for.
    pub async fn search_one(
        &self,
        filter: &str,
        mut each: impl FnMut(&[u8], Account) -> Result<()>,
    ) -> Result<(), SearchError> {
        self.ask(filter, Extent::One, &mut each).await.map(drop)
    }

    /// Searches for all entries with a UID, in pages of `size` entries. ldap3 has an adapter for
    /// pages, but that goes on after errors, and forever if the server wants it.
    ///
    /// # Errors
    /// As [`search`](Self::search), or if the pages do not end.
    pub async fn search_all(
        &self,
        size: i32,
        mut each: impl FnMut(&[u8], Account) -> Result<()>,
    ) -> Result<u64, SearchError> {
        let filter = self.query.with_any_uid();
        let (mut cookie, mut referrals) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let page = Extent::Page(PagedResults { size, cookie });
            let end = self.ask(&filter, page, &mut each).await?;
            referrals += end.referrals;
            cookie = end.cookie;
            if cookie.is_empty() {
                return Ok(referrals);
            }
        }
        let address = self.address();
        Err(SearchError::Fatal(anyhow!("`{address}` sent {MAX_PAGES} pages and had more")))
    }

    /// Sends one search and reads its whole answer, within a limit on time.
    async fn ask(
        &self,
        filter: &str,
        extent: Extent,
        each: &mut impl FnMut(&[u8], Account) -> Result<()>,
    ) -> Result<SearchEnd, SearchError> {
        let limit = self.connector.security.timeout * ANSWER_TIMEOUTS;
        match timeout(limit, self.exchange(filter, extent, each)).await {
            Ok(end) => end,
            Err(_) => Err(SearchError::Timeout(anyhow!(
                "ldap search on `{}` failed: no end of the answer within {limit:?}",
                self.address()
            ))),
        }
    }

    async fn exchange(
        &self,
        filter: &str,
        extent: Extent,
        each: &mut impl FnMut(&[u8], Account) -> Result<()>,
    ) -> Result<SearchEnd, SearchError> {
        let mut ldap = self.connection.ldap.clone();
        let size_limit = i32::from(matches!(extent, Extent::One));
        let options = SearchOptions::new().deref(DerefAliases::Never).sizelimit(size_limit);
        ldap.with_timeout(self.connector.security.timeout).with_search_options(options);
        if let Extent::Page(page) = extent {
            ldap.with_controls(page);
        }
        let unanswered = |error: LdapError| self.unanswered(&error);
        let (base, attributes) = (&self.query.base, self.query.attribute_names());
        let begun = ldap.streaming_search(base, Scope::Subtree, filter, attributes).await;
        let mut items = begun.map_err(unanswered)?;
        let mut referrals = 0;
        while let Some(item) = items.next().await.map_err(unanswered)? {
            match entry::parse(item, &self.query.attributes) {
                Item::Entry { dn, account } => each(&dn, account).map_err(SearchError::Fatal)?,
                Item::Referral => referrals += 1,
                Item::OtherAttribute(name) => return Err(self.other_attribute(&name)),
                Item::Ignored => {}
                Item::Invalid(what) => {
                    let error = anyhow!("`{}` sent {what}", self.address());
                    return Err(SearchError::Fatal(error));
                }
            }
        }
        let result = items.finish().await;
        match result.rc {
            0 => Ok(SearchEnd { referrals, cookie: cookie(&result) }),
            _ => Err(self.refused(&result)),
        }
    }

    fn unanswered(&self, error: &LdapError) -> SearchError {
        match self.connection.operation_error(self.address(), "search", error) {
            OperationError::Lost(error) => SearchError::Lost(error),
            OperationError::Timeout(error) => SearchError::Timeout(error),
            OperationError::Violation(error) => SearchError::Fatal(error),
        }
    }

    fn refused(&self, result: &LdapResult) -> SearchError {
        let request = SearchRequest {
            address: self.address(),
            bind_dn: self.bind_dn(),
            base: &self.query.base,
        };
        let error = result_code::search_error(&request, result);
        match result.rc {
            4 | 11 => SearchError::LimitExceeded(error),
            51 | 52 => SearchError::Lost(error),
            _ => SearchError::Fatal(error),
        }
    }

    fn other_attribute(&self, name: &str) -> SearchError {
        let (address, name) = (self.address(), excerpt(name.as_bytes()));
        SearchError::Fatal(misconfigured(format_args!(
            "`{address}` answers with the attribute `{name}`, which was asked for by another \
             name: use this one in LDAP_MAIL_ATTR or LDAP_UID_ATTR"
        )))
    }
}

fn cookie(result: &LdapResult) -> Vec<u8> {
    let value = result.ctrls.iter().find_map(|Control(kind, control)| match kind {
        Some(ControlType::PagedResults) => control.val.as_deref(),
        _ => None,
    });
    value.and_then(grammar::cookie).unwrap_or_default().to_vec()
}

/// Counts a search by its result.
pub fn record<T>(searches: &mut Searches, result: &Result<T, SearchError>, took: Duration) {
    match result {
        Ok(_) => {
            searches.answered += 1;
            searches.durations.add(took);
        }
        Err(SearchError::LimitExceeded(_)) => searches.too_large += 1,
        Err(_) => searches.failed += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_counted_by_result() {
        let mut searches = Searches::default();
        let took = Duration::from_millis(2);
        record(&mut searches, &Ok(()), took);
        for make in [SearchError::Lost, SearchError::Timeout, SearchError::Fatal] {
            record::<()>(&mut searches, &Err(make(anyhow!("x"))), took);
        }
        record::<()>(&mut searches, &Err(SearchError::LimitExceeded(anyhow!("x"))), took);
        let mut durations = diagnostics::metrics::Durations::default();
        durations.add(took);
        assert_eq!(searches, Searches { answered: 1, too_large: 1, failed: 3, durations });
    }
}
