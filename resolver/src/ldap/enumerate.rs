//! Everything is read at first, in pages, for servers that have no index on the UID.

use std::collections::HashMap;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::session::{Plan, Session, TRIES, Trouble};
use super::visibility::Evidence;
use crate::directory::Remarks;
use crate::directory::owner::Owner;

/// Entries asked for at a time.
const PAGE: i32 = 1000;
/// Most memory for the owners that are read at first, in bytes, and about how much one of them
/// takes beside its name and address: enough for 300,000.
const ROOM: usize = 80 * 1024 * 1024;
/// See [`ROOM`].
const OVERHEAD: usize = 160;

/// Reads the owners of all UIDs, over a new connection from the start if one is lost.
///
/// # Errors
/// They could not all be read.
pub async fn enumerate(
    plan: &Plan,
    mut session: Session,
    remarks: &mut Remarks,
) -> Result<HashMap<u32, Owner>> {
    let (mut losses, mut page) = (0, PAGE);
    loop {
        let (mut owners, mut hidden, mut received) = (HashMap::<u32, Owner>::new(), 0, 0);
        let (start, mut room) = (Instant::now(), ROOM);
        let outcome = session
            .search_all(plan, page, |dn, claim| {
                received += 1;
                hidden += u64::from(claim.uids.is_empty());
                for &uid in &claim.uids {
                    let size = OVERHEAD + dn.len() + claim.mail().map_or(0, <[u8]>::len);
                    room = room.checked_sub(size).with_context(|| no_room(plan, &session))?;
                    owners.entry(uid).or_default().offer(dn, claim.mail());
                }
                Ok(())
            })
            .await;
        remarks.searches.note(&outcome, start.elapsed());
        match outcome {
            Ok(referrals) => {
                (remarks.referrals, remarks.hidden) = (referrals, hidden);
                let mut evidence = Evidence::default();
                evidence.note(&Owner::default());
                owners.values().for_each(|owner| evidence.note(owner));
                evidence.check(plan, &session).await.map_err(Trouble::into_error)?;
                return Ok(owners);
            }
            // It stopped within the first page: 389 Directory Server limits pages, not their sum.
            Err(Trouble::TooMany(_)) if (1..page).contains(&received) => page /= 2,
            Err(Trouble::Fatal(error) | Trouble::TooMany(error)) => return Err(error),
            Err(Trouble::Silence(error)) if plan.addresses.len() == 1 => return Err(error),
            Err(Trouble::Lost(error) | Trouble::Silence(error)) => {
                losses += 1;
                if losses > TRIES {
                    return Err(error.context(format!("gave up after {TRIES} lost connections")));
                }
                let next = (session.number + 1) % plan.addresses.len();
                let warnings = &mut remarks.warnings;
                session = plan.connect(next, &mut |warning| warnings.push(warning)).await?;
            }
        }
    }
}

fn no_room(plan: &Plan, session: &Session) -> String {
    let address = &plan.addresses[session.number];
    format!("`{address}` has more owners than can be read at first: do not enumerate them")
}
