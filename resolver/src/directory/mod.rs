//! The interface of a source of owners: a [`Directory`] in the sense of LDAP, not of a file system.
//!
//! [`crate::ldif`] and [`crate::ldap`] implement [`Directory`]. The rule that chooses among several
//! entries ([`owner`]), the comparison of names ([`dn`]) and search filters ([`filter`]) are here, so
//! that every source gives the same bytes for the same data.

pub mod dn;
pub mod filter;
pub mod owner;

use anyhow::Result;
use diagnostics::metrics::Durations;
use tokio::sync::mpsc::UnboundedReceiver;

use owner::Owner;

/// The UIDs to look up, each of them once, in the order in which the input names them.
pub type UidReceiver = UnboundedReceiver<u32>;

/// Takes answers from a source. It may be called with any number of them, in any order.
pub type Deliver<'d> = &'d (dyn Fn(Vec<Answer>) + Sync);

/// What a source found for one UID.
pub struct Answer {
    /// The UID that was looked up.
    pub uid: u32,
    /// Its owner; empty if no entry has the UID.
    pub owner: Owner,
}

/// A source of owners.
pub trait Directory: Send {
    /// Looks up all UIDs until their sender is closed, and delivers each answer as soon as it is
    /// known.
    ///
    /// # Errors
    /// Fails if a lookup failed. A UID without an entry is an answer, not an error.
    fn answer(&mut self, uids: UidReceiver, deliver: Deliver<'_>) -> Result<()>;

    /// Counts and warnings of the lookups so far.
    fn stats(&self) -> LookupStats;
}

/// Counts and warnings of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookupStats {
    /// Referrals to other servers; they are not followed.
    pub referrals: u64,
    /// Entries that matched a search for a UID, but whose UID the server does not show.
    pub hidden: u64,
    /// Whether the server answers so slowly that it probably has no index on the UID.
    pub is_slow: bool,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Searches that were sent to a server.
    pub searches: Searches,
}

/// Searches by result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Searches {
    /// Searches with a complete answer.
    pub answered: u64,
    /// Searches that a server refused as too large; they were repeated in parts.
    pub too_large: u64,
    /// Searches that failed for another reason.
    pub failed: u64,
    /// How long the answered searches took.
    pub durations: Durations,
}
