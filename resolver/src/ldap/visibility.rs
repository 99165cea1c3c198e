//! Whether a server that had nothing to tell has anything to tell at all.
//!
//! Some servers answer those who may not read entries, or attributes, with success and nothing in
//! it, and none says that it does not know an attribute. After a run without a single address,
//! such a silence must be told from accounts that have none.

use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

use super::session::{Plan, Session, Trouble};
use crate::directory::owner::{Claim, Owner};

/// What the answers of a run have shown.
#[derive(Default)]
pub struct Evidence {
    has_answers: bool,
    has_entry: bool,
    has_address: bool,
}

impl Evidence {
    /// Takes note of an answer.
    pub fn note(&mut self, owner: &Owner) {
        self.has_answers = true;
        self.has_entry |= owner.is_known();
        self.has_address |= !owner.email().is_empty();
    }

    /// Asks for any entry that could be an answer, if none was.
    ///
    /// # Errors
    /// There is none that the server would show, or it does not say.
    pub async fn check(&self, plan: &Plan, session: &Session) -> Result<(), Trouble> {
        if self.has_address || !self.has_answers {
            return Ok(());
        }
        let has_uid = plan.has_uid();
        if !self.has_entry
            && !shows(plan, session, &has_uid, |claim| !claim.uids.is_empty()).await?
        {
            return Err(Trouble::Fatal(nothing(plan, session, &plan.attributes.uid)));
        }
        let each = plan.attributes.mail.iter().map(|mail| format!("({mail}=*)"));
        let has_both = format!("(&{has_uid}(|{}))", each.collect::<String>());
        if !shows(plan, session, &has_both, |claim| claim.mail().is_some()).await? {
            let names = plan.attributes.mail.join("` or `");
            return Err(Trouble::Fatal(nothing(plan, session, &names)));
        }
        Ok(())
    }
}

/// Whether the server shows what it is asked for in any entry that matches, or does not want to
/// look for one.
async fn shows(
    plan: &Plan,
    session: &Session,
    filter: &str,
    is_shown: impl Fn(&Claim) -> bool,
) -> Result<bool, Trouble> {
    let mut shown = None;
    let note = |_: &[u8], claim| {
        shown = Some(is_shown(&claim));
        Ok(())
    };
    match session.search_any(plan, filter, note).await {
        Ok(()) => Ok(shown.unwrap_or(false)),
        // Mostly since there are more than the one that was asked for.
        Err(Trouble::TooMany(_)) => Ok(shown.unwrap_or(true)),
        Err(trouble) => Err(trouble),
    }
}

fn nothing(plan: &Plan, session: &Session, attribute: &str) -> anyhow::Error {
    let address = &plan.addresses[session.number];
    let who = match &plan.credentials {
        Some(credentials) => format!("`{}`", one_line(credentials.dn.as_bytes())),
        None => "an anonymous user".to_owned(),
    };
    misconfigured(format_args!(
        "`{address}` shows {who} no entry with `{}` below `{}`: the right to read it may be \
         missing, or the base DN, the filter or the name of the attribute is wrong",
        one_line(attribute.as_bytes()),
        one_line(plan.base.as_bytes())
    ))
}
