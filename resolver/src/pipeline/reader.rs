//! The thread that reads pairs: it hands them to the writer in blocks, and sends each UID to the
//! directory when it comes for the first time.

use std::collections::HashSet;
use std::io::Read;

use anyhow::{Context, Result, anyhow};
use owner_json::{Owners, PairReader, ReadAhead};
use tokio::sync::mpsc::UnboundedSender;

use super::answers::NO_UID;
use super::block::PairBlock;
use super::queue::Queue;
use super::recent::RecentUids;

/// Size, in bytes, at which a block is handed on.
const BLOCK_SIZE: usize = 256 * 1024;

/// Reads all pairs of `input`.
///
/// # Errors
/// Fails if the input cannot be read or is not ownership JSON; all pairs before that are in the
/// queue. Fails too if the queue is closed; then the writer has reported an earlier error.
pub fn read_pairs(
    input: impl Read + Send + 'static,
    queue: &Queue,
    uids: &UnboundedSender<u32>,
) -> Result<()> {
    let input = ReadAhead::start(input).context("failed to start a thread")?;
    let mut reader = PairReader::new(input);
    let mut sent = SentUids::default();
    let mut block = PairBlock::default();
    loop {
        // The reader calls this before it waits for more input.
        let mut hand_on = || {
            if block.is_empty() || queue.push(&mut block) {
                return Ok(());
            }
            Err(anyhow!("the writer has stopped"))
        };
        let pair = match reader.next_pair(&mut hand_on) {
            Ok(Some(pair)) => pair,
            Ok(None) => return hand_on(),
            Err(error) => {
                // The pairs before the error are valid. If the queue is closed, the writer has
                // reported an earlier error.
                let _ = hand_on();
                return Err(error);
            }
        };
        let mut send = |uid| {
            if sent.insert(uid) {
                // If the directory has ended, the queue has its error.
                let _ = uids.send(uid);
            }
        };
        block.keys.extend_from_slice(pair.key);
        match pair.owners {
            Owners::One(uid) => {
                send(uid);
                block.uids.push(uid);
            }
            Owners::Many(uids) => {
                uids.iter().for_each(|&uid| send(uid));
                block.uids.extend_from_slice(uids);
            }
        }
        block.end_pair(matches!(pair.owners, Owners::Many(_)));
        if block.size() >= BLOCK_SIZE && !queue.push(&mut block) {
            return Ok(());
        }
    }
}

/// The UIDs that were sent to the directory.
struct SentUids {
    all: HashSet<u32>,
    recent: RecentUids<()>,
}

impl Default for SentUids {
    fn default() -> Self {
        // "No user" counts as sent, so that it is never looked up.
        Self { all: HashSet::from([NO_UID]), recent: RecentUids::default() }
    }
}

impl SentUids {
    /// Adds a UID; false if it was there already.
    fn insert(&mut self, uid: u32) -> bool {
        if self.recent.get(uid).is_some() {
            return false;
        }
        self.recent.set(uid, ());
        self.all.insert(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_uid_is_sent_once_and_no_user_never() {
        let mut sent = SentUids::default();
        // 256 apart, they share a slot of the cache.
        let uids = [7, 7, 263, 7, 263, 0, 0, NO_UID, NO_UID];
        let is_new = uids.map(|uid| sent.insert(uid));
        assert_eq!(is_new, [true, false, true, false, false, true, false, false, false]);
    }
}
