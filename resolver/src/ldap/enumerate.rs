//! `--enumerate`: reads all owners at the start, in pages (RFC 2696), for servers without an index on the
//! UID.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use super::session::{MAX_LOSSES, SearchError, Session, record};
use super::visibility::Visibility;
use crate::directory::LookupStats;
use crate::directory::owner::Owner;

/// Entries of a page at first.
const PAGE_SIZE: i32 = 1000;
/// Most memory for all owners, in bytes: enough for 300,000.
const MAX_MEMORY: usize = 80 * 1024 * 1024;
/// About how much memory, in bytes, an owner occupies besides DN and address.
const OWNER_OVERHEAD: usize = 160;

/// Reads the owners of all UIDs. If a connection is lost, it starts again over a new one.
///
/// # Errors
/// Fails if they cannot all be read, or do not fit into memory.
pub async fn enumerate(
    mut session: Session,
    stats: &mut LookupStats,
) -> Result<HashMap<u32, Owner>> {
    let (mut losses, mut page_size) = (0, PAGE_SIZE);
    loop {
        let mut received = Received::default();
        let start = Instant::now();
        let result = session
            .search_all(page_size, |dn, account| {
                received.entries += 1;
                received.hidden += u64::from(account.uids.is_empty());
                for &uid in &account.uids {
                    let size = OWNER_OVERHEAD + dn.len() + account.mail().map_or(0, <[u8]>::len);
                    received.memory += size;
                    if received.memory > MAX_MEMORY {
                        return Err(too_many_owners(&session));
                    }
                    received.owners.entry(uid).or_default().add_entry(dn, account.mail());
                }
                Ok(())
            })
            .await;
        record(&mut stats.searches, &result, start.elapsed());
        match result {
            Ok(referrals) => {
                (stats.referrals, stats.hidden) = (referrals, received.hidden);
                let mut visibility = Visibility::default();
                // Counts as an answer even if there are no owners at all.
                visibility.record(&Owner::default());
                received.owners.values().for_each(|owner| visibility.record(owner));
                visibility.verify(&session).await.map_err(SearchError::into_error)?;
                return Ok(received.owners);
            }
            // The limit is on pages, not on their sum (389 Directory Server): try smaller pages.
            Err(SearchError::LimitExceeded(_)) if (1..page_size).contains(&received.entries) => {
                page_size /= 2;
            }
            Err(SearchError::Fatal(error) | SearchError::LimitExceeded(error)) => {
                return Err(error);
            }
            Err(SearchError::Timeout(error)) if !session.has_alternative() => return Err(error),
            Err(SearchError::Lost(error) | SearchError::Timeout(error)) => {
                losses += 1;
                if losses > MAX_LOSSES {
                    let context = format!("gave up after {MAX_LOSSES} lost connections");
                    return Err(error.context(context));
                }
                let warnings = &mut stats.warnings;
                session = session.reconnect(&mut |warning| warnings.push(warning)).await?;
            }
        }
    }
}

/// What one attempt has received.
#[derive(Default)]
struct Received {
    owners: HashMap<u32, Owner>,
    /// All entries.
    entries: i32,
    /// Entries that do not show their UID.
    hidden: u64,
    /// About how much memory the owners occupy, in bytes.
    memory: usize,
}

fn too_many_owners(session: &Session) -> anyhow::Error {
    let address = session.address();
    anyhow!("`{address}` has more owners than fit into memory: do not use --enumerate")
}
