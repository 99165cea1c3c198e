//! Checks that a server which showed no address can show any.
//!
//! Some servers hide what a user may not read: they answer with success and no entries, or with
//! entries without the attribute. No server reports an attribute that it does not know. So after a run
//! without a single address, one more search for any entry with an address tells missing rights and
//! wrong names from accounts that really have none.

use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

use super::session::{SearchError, Session};
use crate::directory::owner::{Account, Owner};

/// What the answers of a run have shown so far.
#[derive(Default)]
pub struct Visibility {
    has_answers: bool,
    has_entry: bool,
    has_address: bool,
}

impl Visibility {
    /// Records an answer.
    pub fn record(&mut self, owner: &Owner) {
        self.has_answers = true;
        self.has_entry |= owner.has_entry();
        self.has_address |= !owner.email().is_empty();
    }

    /// Searches for any entry with a UID, and for any with a UID and an address, unless the answers
    /// have shown that already.
    ///
    /// # Errors
    /// Fails with a configuration error if the server shows no such entry, or if a search fails.
    pub async fn verify(&self, session: &Session) -> Result<(), SearchError> {
        if self.has_address || !self.has_answers {
            return Ok(());
        }
        let query = session.query();
        if !self.has_entry
            && !shows(session, &query.with_any_uid(), |account| !account.uids.is_empty()).await?
        {
            return Err(not_shown(session, &query.attributes.uid));
        }
        if !shows(session, &query.with_address(), |account| account.mail().is_some()).await? {
            return Err(not_shown(session, &query.attributes.mail.join("` or `")));
        }
        Ok(())
    }
}

/// Whether the server shows the wanted attribute in an entry that matches `filter`. A server that
/// refuses to search, since that would take too long, gets the benefit of the doubt.
async fn shows(
    session: &Session,
    filter: &str,
    is_shown: impl Fn(&Account) -> bool,
) -> Result<bool, SearchError> {
    let mut shown = None;
    let each = |_: &[u8], account| {
        shown = Some(is_shown(&account));
        Ok(())
    };
    match session.search_one(filter, each).await {
        Ok(()) => Ok(shown.unwrap_or(false)),
        // The usual result if there is more than the one entry that was asked for.
        Err(SearchError::LimitExceeded(_)) => Ok(shown.unwrap_or(true)),
        Err(error) => Err(error),
    }
}

fn not_shown(session: &Session, attribute: &str) -> SearchError {
    let user = match session.bind_dn() {
        Some(dn) => format!("`{}`", one_line(dn.as_bytes())),
        None => "an anonymous user".to_owned(),
    };
    SearchError::Fatal(misconfigured(format_args!(
        "`{}` shows {user} no entry with `{}` below `{}`: the right to read it may be missing, or \
         the base DN, the filter or the name of the attribute is wrong",
        session.address(),
        one_line(attribute.as_bytes()),
        one_line(session.query().base.as_bytes())
    )))
}
