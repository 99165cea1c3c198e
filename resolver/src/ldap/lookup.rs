//! Many questions at a time over one connection: batches, several of them under way, asked again
//! over another connection when one is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::session::{Plan, Session, TRIES, Trouble};
use super::visibility::Evidence;
use crate::directory::owner::Owner;
use crate::directory::{Questions, Remarks, Searches};

/// UIDs asked for in one search: more make servers slower again.
const BATCH: usize = 32;
/// Searches under way at a time at first, and at most: servers drop connections with many more.
const WINDOW: (usize, usize) = (8, 64);
/// Round trip that makes a server a distant one.
const DISTANT: Duration = Duration::from_millis(3);
/// How long a batch waits for more questions.
const PATIENCE: Duration = Duration::from_millis(5);
/// If even the fastest batch takes longer than this, it is not found by an index.
const SLOW: Duration = Duration::from_millis(300);

/// A search that has ended.
struct Ended {
    uids: Vec<u32>,
    outcome: Result<Found, Trouble>,
    took: Duration,
}

struct Found {
    owners: Vec<(u32, Owner)>,
    referrals: u64,
    hidden: u64,
}

/// The state of asking.
pub struct Lookup<'l> {
    plan: Arc<Plan>,
    session: Arc<Session>,
    give: &'l (dyn Fn(Vec<(u32, Owner)>) + Sync),
    remarks: &'l mut Remarks,
    evidence: Evidence,
    waiting: VecDeque<u32>,
    under_way: JoinSet<Ended>,
    batch: usize,
    /// How many searches may be under way.
    window: usize,
    /// The shortest time that a search took.
    round_trip: Option<Duration>,
    /// Connections that were lost since the last answer came.
    losses: u32,
    /// Why the connection is to be given up once nothing is under way on it any more.
    loss: Option<anyhow::Error>,
}

impl<'l> Lookup<'l> {
    /// Asks over `session`, and over others when that is lost.
    pub fn new(
        plan: Arc<Plan>,
        session: Session,
        remarks: &'l mut Remarks,
        give: &'l (dyn Fn(Vec<(u32, Owner)>) + Sync),
    ) -> Self {
        Self {
            plan,
            session: Arc::new(session),
            give,
            remarks,
            evidence: Evidence::default(),
            waiting: VecDeque::new(),
            under_way: JoinSet::new(),
            batch: BATCH,
            window: WINDOW.0,
            round_trip: None,
            losses: 0,
            loss: None,
        }
    }

    /// Answers all questions.
    ///
    /// # Errors
    /// A question could not be answered.
    pub async fn run(mut self, mut questions: Questions) -> Result<()> {
        let (mut is_closed, mut has_paused) = (false, false);
        let mut deadline = Instant::now();
        loop {
            self.start_batches(is_closed || has_paused);
            if is_closed && self.waiting.is_empty() && self.under_way.is_empty() {
                return self.check().await;
            }
            let has_room = self.waiting.len() < 2 * self.batch * WINDOW.1;
            tokio::select! {
                biased;
                Some(ended) = self.under_way.join_next() => self.end(ended).await?,
                question = questions.recv(), if !is_closed && has_room => {
                    is_closed = question.is_none();
                    self.waiting.extend(question);
                    has_paused = false;
                    deadline = Instant::now() + PATIENCE;
                }
                () = sleep_until(deadline), if !has_paused && !self.waiting.is_empty() => {
                    has_paused = true;
                }
            }
        }
    }

    /// Starts as many searches as may be under way; those that are not full only if `all` says
    /// that no more questions are to be expected soon.
    fn start_batches(&mut self, all: bool) {
        while self.loss.is_none()
            && self.under_way.len() < self.window
            && (self.waiting.len() >= self.batch || all && !self.waiting.is_empty())
        {
            let size = self.batch.min(self.waiting.len());
            let uids: Vec<u32> = self.waiting.drain(..size).collect();
            let (plan, session) = (self.plan.clone(), self.session.clone());
            self.under_way.spawn(async move {
                let start = Instant::now();
                let outcome = find(&plan, &session, &uids).await;
                Ended { uids, outcome, took: start.elapsed() }
            });
        }
    }

    async fn end(&mut self, ended: Result<Ended, JoinError>) -> Result<()> {
        // A panic of a search is a panic of the lookup.
        let Ended { uids, outcome, took } =
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.remarks.searches.note(&outcome, took);
        match outcome {
            Ok(found) => {
                let best = self.round_trip.map_or(took, |best| best.min(took));
                self.round_trip = Some(best);
                self.remarks.is_slow = best > SLOW;
                self.window = adapted(self.window, best, took);
                // Every search meets the same ones.
                self.remarks.referrals = self.remarks.referrals.max(found.referrals);
                self.remarks.hidden += found.hidden;
                self.losses = 0;
                found.owners.iter().for_each(|(_, owner)| self.evidence.note(owner));
                (self.give)(found.owners);
            }
            Err(Trouble::TooMany(error)) if uids.len() == 1 => return Err(error),
            Err(Trouble::TooMany(_)) => {
                self.batch = self.batch.min(uids.len() / 2);
                self.ask_again(uids);
            }
            Err(Trouble::Fatal(error)) => return Err(error),
            Err(Trouble::Silence(error)) if self.plan.addresses.len() == 1 => return Err(error),
            Err(Trouble::Lost(error) | Trouble::Silence(error)) => {
                self.ask_again(uids);
                self.loss.get_or_insert(error);
            }
        }
        if self.under_way.is_empty()
            && let Some(loss) = self.loss.take()
        {
            self.reconnect(loss).await?;
        }
        Ok(())
    }

    /// Makes sure that a run without any address is not due to a server that hides them.
    async fn check(&mut self) -> Result<()> {
        loop {
            match self.evidence.check(&self.plan, &self.session).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Lost(error)) => self.reconnect(error).await?,
                Err(trouble) => return Err(trouble.into_error()),
            }
        }
    }

    fn ask_again(&mut self, uids: Vec<u32>) {
        uids.into_iter().rev().for_each(|uid| self.waiting.push_front(uid));
    }

    /// Goes on with the next server, or the same if there is no other.
    async fn reconnect(&mut self, loss: anyhow::Error) -> Result<()> {
        self.losses += 1;
        if self.losses > TRIES {
            return Err(loss.context(format!("gave up after {TRIES} lost connections")));
        }
        let warnings = &mut self.remarks.warnings;
        let mut warn = |warning| {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        let next = self.session.number + 1;
        let connected = self.plan.connect(next % self.plan.addresses.len(), &mut warn).await;
        self.session = Arc::new(connected.map_err(|error| error.context(format!("{loss:#}")))?);
        (self.round_trip, self.window) = (None, WINDOW.0);
        Ok(())
    }
}

/// How many searches may be under way after one that took so long, when the fastest took `best`.
/// A distant server is asked more at a time; but one that takes longer for each search the more
/// there are is not distant but busy, and one that looks through everything is slow.
fn adapted(window: usize, best: Duration, took: Duration) -> usize {
    let is_distant = (DISTANT..=SLOW).contains(&best);
    if !is_distant || took > best * 2 {
        window.saturating_sub(1).max(WINDOW.0)
    } else if took < best * 3 / 2 {
        (window + 1).min(WINDOW.1)
    } else {
        window
    }
}

impl Searches {
    /// Counts a search.
    pub fn note<T>(&mut self, outcome: &Result<T, Trouble>, took: Duration) {
        match outcome {
            Ok(_) => {
                self.answered += 1;
                self.durations.add(took);
            }
            Err(Trouble::TooMany(_)) => self.too_large += 1,
            Err(_) => self.failed += 1,
        }
    }
}

/// Asks for a few owners. Every UID gets an answer, if only that nobody is known.
async fn find(plan: &Plan, session: &Session, uids: &[u32]) -> Result<Found, Trouble> {
    let mut owners: HashMap<u32, Owner> = uids.iter().map(|&uid| (uid, Owner::default())).collect();
    let mut hidden = 0;
    let referrals = session
        .search(plan, uids, |dn, claim| {
            hidden += u64::from(claim.uids.is_empty());
            for uid in &claim.uids {
                if let Some(owner) = owners.get_mut(uid) {
                    owner.offer(dn, claim.mail());
                }
            }
            Ok(())
        })
        .await?;
    Ok(Found { owners: owners.into_iter().collect(), referrals, hidden })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window after 100 searches, each of which takes `took(window)` milliseconds.
    fn settled(took: impl Fn(u64) -> u64) -> usize {
        let best = Duration::from_millis(took(1));
        (0..100).fold(WINDOW.0, |window, _| {
            adapted(window, best, Duration::from_millis(took(window as u64)))
        })
    }

    #[test]
    fn only_distant_servers_are_asked_for_more_at_a_time() {
        assert_eq!([2, 3, 10, 300, 301, 60_000].map(|ms| settled(|_| ms)), [8, 64, 64, 64, 8, 8]);
    }

    #[test]
    fn a_server_that_becomes_slower_is_asked_for_no_more() {
        let busy = settled(|searches| 10 * searches.max(8) / 8);
        assert!((12..=16).contains(&busy), "{busy} at a time");
        assert_eq!(settled(|searches| 10 * searches), WINDOW.0);
    }
}
