//! Where owners are looked up: what a source must offer, and what all sources share.

pub mod dn;
pub mod filter;
pub mod owner;

use anyhow::Result;
use diagnostics::metrics::Durations;
use tokio::sync::mpsc::UnboundedReceiver;

use owner::Owner;

/// UIDs to look up, each asked for once, as they come.
pub type Questions = UnboundedReceiver<u32>;

/// A source of owners.
pub trait Directory: Send {
    /// Answers all questions, in any order, as soon as it can.
    ///
    /// # Errors
    /// A question could not be answered, which is not the same as "nobody".
    fn answer(
        &mut self,
        questions: Questions,
        give: &(dyn Fn(Vec<(u32, Owner)>) + Sync),
    ) -> Result<()>;

    /// What was noticed while answering.
    fn remarks(&self) -> Remarks;
}

/// What a source noticed while answering.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remarks {
    /// Pointers to other servers, which are not followed.
    pub referrals: u64,
    /// Entries that matched but did not show the UID they were found by.
    pub hidden: u64,
    /// The server took long for a few questions.
    pub is_slow: bool,
    /// What else people should know.
    pub warnings: Vec<String>,
    /// What was asked of a server.
    pub searches: Searches,
}

/// Searches by what came of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Searches {
    /// Answered.
    pub answered: u64,
    /// Refused as too large, and asked again in parts.
    pub too_large: u64,
    /// Without an answer, for whatever reason.
    pub failed: u64,
    /// How long those took that were answered.
    pub durations: Durations,
}
