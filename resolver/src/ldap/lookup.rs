//! Looks many UIDs up at a time over one connection.
//!
//! 1. UIDs are collected to batches; one search asks for a whole batch. A batch that is not full is
//!    sent after a short wait for more UIDs.
//! 2. Up to `window` searches run at the same time. A distant server gets a larger window, as long as
//!    its answers do not slow down.
//! 3. If the server refuses a batch as too large, its UIDs are asked for again in smaller ones.
//! 4. If the connection is lost, the UIDs without an answer are asked for again over the next one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::session::{MAX_LOSSES, SearchError, Session, record};
use super::visibility::Visibility;
use crate::directory::owner::Owner;
use crate::directory::{Answer, Deliver, LookupStats, UidReceiver};

/// UIDs in one search. More make servers slower again.
const BATCH_SIZE: usize = 32;
/// How many searches run at the same time at first.
const MIN_WINDOW: usize = 8;
/// Most searches at the same time. Servers drop connections with many more.
const MAX_WINDOW: usize = 64;
/// How long a batch waits for more UIDs.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// A server whose fastest answer takes at least this long is distant.
const DISTANT: Duration = Duration::from_millis(3);
/// A server whose fastest answer takes longer than this has no index for the search.
const SLOW: Duration = Duration::from_millis(300);

/// A search that has ended.
struct EndedSearch {
    uids: Vec<u32>,
    result: Result<Found, SearchError>,
    took: Duration,
}

/// What a search has found.
struct Found {
    answers: Vec<Answer>,
    referrals: u64,
    hidden: u64,
}

/// The state of a lookup.
pub struct Lookup<'l> {
    session: Arc<Session>,
    deliver: Deliver<'l>,
    stats: &'l mut LookupStats,
    visibility: Visibility,
    /// UIDs that no running search asks for.
    pending: VecDeque<u32>,
    running: JoinSet<EndedSearch>,
    batch_size: usize,
    /// How many searches may run at the same time.
    window: usize,
    /// The shortest time that a search over this connection took.
    fastest: Option<Duration>,
    /// Connections that were lost since the last answer.
    losses: u32,
    /// Why the connection is to be replaced, as soon as no search runs over it.
    loss: Option<anyhow::Error>,
}

impl<'l> Lookup<'l> {
    /// Creates a lookup over `session`; if that is lost, it goes on over a new one.
    pub fn new(session: Session, stats: &'l mut LookupStats, deliver: Deliver<'l>) -> Self {
        Self {
            session: Arc::new(session),
            deliver,
            stats,
            visibility: Visibility::default(),
            pending: VecDeque::new(),
            running: JoinSet::new(),
            batch_size: BATCH_SIZE,
            window: MIN_WINDOW,
            fastest: None,
            losses: 0,
            loss: None,
        }
    }

    /// Looks up all UIDs until their sender is closed.
    ///
    /// # Errors
    /// Fails if a UID could not be looked up, or if the server may have hidden all addresses.
    pub async fn run(mut self, mut uids: UidReceiver) -> Result<()> {
        let (mut is_closed, mut has_waited) = (false, false);
        let mut deadline = Instant::now();
        loop {
            self.start_searches(is_closed || has_waited);
            if is_closed && self.pending.is_empty() && self.running.is_empty() {
                return self.verify_visibility().await;
            }
            let has_space = self.pending.len() < 2 * self.batch_size * MAX_WINDOW;
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => self.end_search(ended).await?,
                uid = uids.recv(), if !is_closed && has_space => {
                    is_closed = uid.is_none();
                    self.pending.extend(uid);
                    has_waited = false;
                    deadline = Instant::now() + BATCH_DELAY;
                }
                () = sleep_until(deadline), if !has_waited && !self.pending.is_empty() => {
                    has_waited = true;
                }
            }
        }
    }

    /// Starts as many searches as the window allows. Batches that are not full are sent only if
    /// `send_partial`.
    fn start_searches(&mut self, send_partial: bool) {
        while self.loss.is_none()
            && self.running.len() < self.window
            && (self.pending.len() >= self.batch_size || send_partial && !self.pending.is_empty())
        {
            let size = self.batch_size.min(self.pending.len());
            let uids: Vec<u32> = self.pending.drain(..size).collect();
            let session = self.session.clone();
            self.running.spawn(async move {
                let start = Instant::now();
                let result = find(&session, &uids).await;
                EndedSearch { uids, result, took: start.elapsed() }
            });
        }
    }

    async fn end_search(&mut self, ended: Result<EndedSearch, JoinError>) -> Result<()> {
        // Passes a panic of the search on.
        let EndedSearch { uids, result, took } =
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        record(&mut self.stats.searches, &result, took);
        match result {
            Ok(found) => self.deliver_found(found, took),
            Err(SearchError::LimitExceeded(error)) if uids.len() == 1 => return Err(error),
            Err(SearchError::LimitExceeded(_)) => {
                self.batch_size = self.batch_size.min(uids.len() / 2);
                self.put_back(uids);
            }
            Err(SearchError::Fatal(error)) => return Err(error),
            Err(SearchError::Timeout(error)) if !self.session.has_alternative() => {
                return Err(error);
            }
            Err(SearchError::Lost(error) | SearchError::Timeout(error)) => {
                self.put_back(uids);
                self.loss.get_or_insert(error);
            }
        }
        if self.running.is_empty()
            && let Some(loss) = self.loss.take()
        {
            self.reconnect(loss).await?;
        }
        Ok(())
    }

    fn deliver_found(&mut self, found: Found, took: Duration) {
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        self.stats.is_slow = fastest > SLOW;
        self.window = next_window(self.window, fastest, took);
        // Every search of the subtree meets the same referrals.
        self.stats.referrals = self.stats.referrals.max(found.referrals);
        self.stats.hidden += found.hidden;
        self.losses = 0;
        found.answers.iter().for_each(|answer| self.visibility.record(&answer.owner));
        (self.deliver)(found.answers);
    }

    async fn verify_visibility(&mut self) -> Result<()> {
        loop {
            match self.visibility.verify(&self.session).await {
                Ok(()) => return Ok(()),
                Err(SearchError::Lost(error)) => self.reconnect(error).await?,
                Err(error) => return Err(error.into_error()),
            }
        }
    }

    fn put_back(&mut self, uids: Vec<u32>) {
        uids.into_iter().rev().for_each(|uid| self.pending.push_front(uid));
    }

    async fn reconnect(&mut self, loss: anyhow::Error) -> Result<()> {
        self.losses += 1;
        if self.losses > MAX_LOSSES {
            return Err(loss.context(format!("gave up after {MAX_LOSSES} lost connections")));
        }
        let warnings = &mut self.stats.warnings;
        let mut warn = |warning| {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        let connected = self.session.reconnect(&mut warn).await;
        self.session = Arc::new(connected.map_err(|error| error.context(format!("{loss:#}")))?);
        (self.fastest, self.window) = (None, MIN_WINDOW);
        Ok(())
    }
}

/// The window after a search that took `took`, when the fastest one took `fastest`. Only a distant
/// server gets a larger window. If searches take longer the more of them run, the server is busy, not
/// distant.
fn next_window(window: usize, fastest: Duration, took: Duration) -> usize {
    let is_distant = (DISTANT..=SLOW).contains(&fastest);
    if !is_distant || took > fastest * 2 {
        window.saturating_sub(1).max(MIN_WINDOW)
    } else if took < fastest * 3 / 2 {
        (window + 1).min(MAX_WINDOW)
    } else {
        window
    }
}

/// Searches for a batch of UIDs. Every UID gets an answer, if need be one without an entry.
async fn find(session: &Session, uids: &[u32]) -> Result<Found, SearchError> {
    let mut owners: HashMap<u32, Owner> = uids.iter().map(|&uid| (uid, Owner::default())).collect();
    let mut hidden = 0;
    let referrals = session
        .search(uids, |dn, account| {
            hidden += u64::from(account.uids.is_empty());
            for uid in &account.uids {
                if let Some(owner) = owners.get_mut(uid) {
                    owner.add_entry(dn, account.mail());
                }
            }
            Ok(())
        })
        .await?;
    let answers = owners.into_iter().map(|(uid, owner)| Answer { uid, owner }).collect();
    Ok(Found { answers, referrals, hidden })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window if each search takes `took(window)` milliseconds.
    fn window_after_100_searches(took: impl Fn(u64) -> u64) -> usize {
        let fastest = Duration::from_millis(took(1));
        (0..100).fold(MIN_WINDOW, |window, _| {
            next_window(window, fastest, Duration::from_millis(took(window as u64)))
        })
    }

    #[test]
    fn only_distant_servers_get_a_larger_window() {
        assert_eq!(
            [2, 3, 10, 300, 301, 60_000].map(|ms| window_after_100_searches(|_| ms)),
            [8, 64, 64, 64, 8, 8]
        );
    }

    #[test]
    fn a_server_that_slows_down_gets_no_larger_window() {
        let busy = window_after_100_searches(|searches| 10 * searches.max(8) / 8);
        assert!((12..=16).contains(&busy), "{busy} at a time");
        assert_eq!(window_after_100_searches(|searches| 10 * searches), MIN_WINDOW);
    }
}
