//! Judges a reload of nginx by a series of snapshots of its processes.
//!
//! A reload is proved by a new worker that started while all old ones were alive, or while one of
//! them was shutting down. It has succeeded once, beyond that,
//! 1. no old worker serves any more;
//! 2. the new workers have run for a fifth of a second: workers that crash at once do not serve; and
//! 3. the master is idle.
//!
//! It has failed if nothing is proved a second after the master became idle.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::TICKS_PER_SECOND;

/// How long a new worker must have run, in ticks.
const STEADY: u64 = TICKS_PER_SECOND / 5;
/// How long an idle master without a proof is watched, in ticks.
const IDLE_LIMIT: u64 = TICKS_PER_SECOND;

/// Identifies a worker: its process id may be reused, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    pub start: u64,
    pub pid: u32,
}

/// A worker as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    pub id: WorkerId,
    /// When it was read, in ticks: it was alive at this time.
    pub seen: u64,
    /// Whether it takes no new connections.
    pub is_shutting_down: bool,
}

/// A master and its workers at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the snapshot was finished, in ticks.
    pub at: u64,
    /// Whether the master had handled all signals that were sent before.
    pub is_idle: bool,
    /// Whether there are children that may become workers.
    pub has_unknown: bool,
    /// Whether `workers` are all: none was being replaced meanwhile.
    pub is_complete: bool,
    /// The workers.
    pub workers: Vec<Worker>,
}

/// The judgement after a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The new workers serve and the old ones do not.
    Replaced(Proof),
    /// The reload has failed.
    Failed,
    /// The next snapshots may show more.
    Open,
}

/// What a successful reload has done, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// Such as `2 workers replaced`.
    pub text: String,
    /// What an operator should look at.
    pub warning: Option<String>,
}

/// Judges one reload, from the signal on.
#[derive(Debug)]
pub struct Judge {
    signalled: u64,
    /// Whether `old` were all workers before the signal.
    is_complete: bool,
    /// The workers that served before, as they were last seen.
    old: BTreeMap<WorkerId, Worker>,
    /// The workers that were shutting down before.
    leaving: BTreeSet<WorkerId>,
    served_before: usize,
    /// When the first new worker started.
    first_new: Option<u64>,
    is_proved: bool,
    /// Since when the master is idle.
    idle_since: Option<u64>,
    last: Counts,
}

/// The last snapshot in numbers.
#[derive(Debug, Default)]
struct Counts {
    old: usize,
    new: usize,
    shutting_down: usize,
    is_steady: bool,
    is_idle: bool,
}

impl Judge {
    /// Starts with the workers before a signal at the time `signalled`, in ticks.
    pub fn new(before: &Snapshot, signalled: u64) -> Self {
        let (leaving, old): (Vec<_>, Vec<_>) =
            before.workers.iter().copied().partition(|worker| worker.is_shutting_down);
        Self {
            signalled,
            is_complete: before.is_complete,
            served_before: old.len(),
            old: old.into_iter().map(|worker| (worker.id, worker)).collect(),
            leaving: leaving.into_iter().map(|worker| worker.id).collect(),
            first_new: None,
            is_proved: false,
            idle_since: None,
            last: Counts::default(),
        }
    }

    /// Takes the next snapshot into account.
    pub fn observe(&mut self, snapshot: &Snapshot) -> Verdict {
        self.last = Counts { is_idle: snapshot.is_idle, is_steady: true, ..Counts::default() };
        self.last.shutting_down = snapshot.workers.iter().filter(|w| w.is_shutting_down).count();
        for worker in snapshot.workers.iter().filter(|worker| !self.leaving.contains(&worker.id)) {
            if self.is_old(worker) {
                self.old.insert(worker.id, *worker);
                self.last.old += usize::from(!worker.is_shutting_down);
            } else if !worker.is_shutting_down {
                let start = worker.id.start;
                self.first_new = Some(self.first_new.map_or(start, |first| first.min(start)));
                self.last.new += 1;
                self.last.is_steady &= worker.seen.saturating_sub(start) > STEADY;
            }
        }
        self.is_proved |= self.proves();
        if snapshot.has_unknown {
            self.last.is_steady = false;
            self.idle_since = None;
        } else if snapshot.is_idle {
            self.idle_since.get_or_insert(snapshot.at);
        }
        let is_replaced = self.last.old == 0 && self.last.new > 0 && self.last.is_steady;
        if is_replaced && self.is_proved && snapshot.is_idle {
            return Verdict::Replaced(self.proof());
        }
        let idle = self.idle_since.map_or(0, |since| snapshot.at.saturating_sub(since));
        if !self.is_proved && idle > IDLE_LIMIT { Verdict::Failed } else { Verdict::Open }
    }

    /// Why the reload has not succeeded so far.
    pub fn reason(&self) -> &'static str {
        let Counts { old, new, .. } = self.last;
        if !self.last.is_idle {
            "nginx is still busy with its reload"
        } else if old > 0 && (new == 0 || !self.is_proved) {
            "nginx kept its old workers: its configuration is probably wrong, see its error log"
        } else if new == 0 || !self.last.is_steady {
            "no new worker of nginx stays up: see its error log"
        } else if old > 0 {
            "nginx has new workers, but old ones still serve"
        } else {
            "nginx has new workers, but a reload was not seen: the old ones may only have crashed"
        }
    }

    fn is_old(&self, worker: &Worker) -> bool {
        self.old.contains_key(&worker.id) || worker.id.start < self.signalled
    }

    /// Whether all old workers were alive after the start of the first new one, which so replaces
    /// no crashed one; or whether one of them was shutting down then. Times are rounded down, so a
    /// larger number is a later time.
    fn proves(&self) -> bool {
        let Some(first) = self.first_new else { return false };
        let mut outlived = self.old.values().filter(|old| old.seen > first);
        self.is_complete && outlived.clone().count() == self.old.len()
            || outlived.any(|old| old.is_shutting_down)
    }

    fn proof(&self) -> Proof {
        let workers = |count| format!("{count} worker{}", if count == 1 { "" } else { "s" });
        let (before, new) = (self.served_before, self.last.new);
        let mut text = match (before, new) {
            (0, new) => format!("{} started", workers(new)),
            (old, new) if old == new => format!("{} replaced", workers(old)),
            (old, new) => format!("{} replaced by {new}", workers(old)),
        };
        if self.last.shutting_down > 0 {
            text += &format!(", {} shutting down", self.last.shutting_down);
        }
        let warning = (new < before).then(|| {
            format!(
                "nginx has {} after the reload, {before} before: see its error log",
                workers(new)
            )
        });
        Proof { text, warning }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of an idle master. Workers are given by their ids, which are also their starts, and
    /// whether they are shutting down.
    fn idle(at: u64, workers: &[(u32, bool)]) -> Snapshot {
        let worker = |&(pid, is_shutting_down): &(u32, bool)| Worker {
            id: WorkerId { start: pid.into(), pid },
            seen: at,
            is_shutting_down,
        };
        let workers = workers.iter().map(worker).collect();
        Snapshot { at, is_idle: true, has_unknown: false, is_complete: true, workers }
    }

    fn busy(at: u64, workers: &[(u32, bool)]) -> Snapshot {
        Snapshot { is_idle: false, ..idle(at, workers) }
    }

    /// Judges a HUP at 1000 with two workers.
    fn judge(snapshots: &[Snapshot]) -> (Verdict, Judge) {
        let mut judge = Judge::new(&idle(999, &[(1, false), (2, false)]), 1000);
        let mut verdict = Verdict::Open;
        for snapshot in snapshots {
            assert_eq!(verdict, Verdict::Open, "{judge:?}");
            verdict = judge.observe(snapshot);
        }
        (verdict, judge)
    }

    const OLD: [(u32, bool); 2] = [(1, false), (2, false)];
    const NEW: [(u32, bool); 2] = [(1001, false), (1002, false)];
    const BOTH: [(u32, bool); 4] = [(1, false), (2, false), (1001, false), (1002, false)];

    fn replaced(text: &str) -> Verdict {
        Verdict::Replaced(Proof { text: text.to_owned(), warning: None })
    }

    #[test]
    fn a_reload_is_proved_by_both_generations_at_once() {
        let (verdict, _) = judge(&[
            busy(1001, &OLD),
            busy(1003, &BOTH),
            idle(1012, &[(2, true), (1001, false), (1002, false)]),
            idle(1015, &NEW),
            idle(1024, &NEW),
        ]);
        assert_eq!(verdict, replaced("2 workers replaced"));
    }

    #[test]
    fn one_snapshot_after_the_start_of_a_new_worker_is_enough() {
        // The new worker was seen later, but started while both old ones were still alive.
        let (verdict, _) = judge(&[busy(1002, &OLD), idle(1030, &[(1001, false)])]);
        let text = "2 workers replaced by 1".to_owned();
        let warning = "nginx has 1 worker after the reload, 2 before: see its error log".to_owned();
        assert_eq!(verdict, Verdict::Replaced(Proof { text, warning: Some(warning) }));
        let (verdict, judge) = judge(&[busy(1001, &OLD), idle(1030, &NEW)]);
        assert_eq!(verdict, Verdict::Open, "within the same tick it may have been before");
        assert!(judge.reason().contains("a reload was not seen"));
    }

    #[test]
    fn an_old_worker_that_is_shutting_down_is_proof_too() {
        let leaving = [(2, true), (1001, false), (1002, false)];
        let (verdict, _) = judge(&[idle(1030, &leaving)]);
        assert_eq!(verdict, replaced("2 workers replaced, 1 shutting down"));
        // One that shut down before there were new ones was asked by another process.
        let (verdict, judge) = judge(&[idle(1002, &[(1, true)]), idle(1200, &[(1100, false)])]);
        assert_eq!((verdict, judge.is_proved), (Verdict::Failed, false));
    }

    #[test]
    fn crashes_are_no_proof() {
        // One after the other; each is replaced after its end.
        let crashes = [
            idle(1005, &[(1, false), (1004, false)]),
            idle(1050, &[(1004, false), (1040, false)]),
            idle(1106, &[(1004, false), (1040, false)]),
        ];
        let (verdict, judge) = judge(&crashes);
        assert_eq!((verdict, judge.is_proved), (Verdict::Failed, false));
        assert!(judge.reason().contains("may only have crashed"));
    }

    #[test]
    fn a_crash_under_a_bad_configuration_is_no_proof() {
        let crashed = [(1, false), (1004, false)];
        let (verdict, judge) = judge(&[idle(1005, &crashed), idle(1106, &crashed)]);
        assert_eq!(verdict, Verdict::Failed);
        assert!(judge.reason().starts_with("nginx kept its old workers"));
    }

    #[test]
    fn a_worker_that_was_replaced_just_before_the_signal_is_an_old_one() {
        let late = [(1, false), (2, false), (998, false)];
        let (verdict, judge) = judge(&[idle(1003, &late), idle(1104, &[(2, false)])]);
        assert_eq!((verdict, judge.first_new), (Verdict::Failed, None));
    }

    #[test]
    fn no_reload_fails_while_the_master_is_busy_or_workers_start() {
        let mut beginning = idle(2000, &OLD);
        beginning.has_unknown = true;
        let (verdict, judge) = judge(&[busy(1500, &OLD), beginning, idle(2001, &OLD)]);
        assert_eq!(verdict, Verdict::Open);
        assert!(judge.reason().starts_with("nginx kept its old workers"));
        let (verdict, judge) = self::judge(&[busy(9000, &OLD)]);
        assert_eq!(
            (verdict, judge.reason()),
            (Verdict::Open, "nginx is still busy with its reload")
        );
    }

    #[test]
    fn new_workers_must_stay_and_old_ones_go() {
        let mut snapshots = vec![busy(1003, &BOTH)];
        // New workers crash at once, again and again.
        snapshots.extend((0..40).map(|n| idle(1020 + 10 * n, &[(1015 + 10 * n as u32, false)])));
        let (verdict, judge) = judge(&snapshots);
        assert_eq!((verdict, judge.is_proved), (Verdict::Open, true));
        assert_eq!(judge.reason(), "no new worker of nginx stays up: see its error log");
        let stuck = [(1, false), (1001, false), (1002, false)];
        let (verdict, judge) = self::judge(&[busy(1003, &BOTH), idle(3000, &stuck)]);
        assert_eq!(verdict, Verdict::Open);
        assert_eq!(judge.reason(), "nginx has new workers, but old ones still serve");
    }

    #[test]
    fn workers_that_were_leaving_before_prove_nothing() {
        let mut judge = Judge::new(&idle(999, &[(1, false), (2, true)]), 1000);
        assert_eq!(judge.observe(&idle(1050, &[(2, true), (1002, false)])), Verdict::Open);
        assert!(!judge.is_proved && judge.reason().contains("may only have crashed"));
    }

    #[test]
    fn workers_of_earlier_reloads_that_still_shut_down_are_counted() {
        let before = idle(999, &[(1, true), (2, true), (3, false)]);
        let mut judge = Judge::new(&before, 1000);
        let after = [(1, true), (2, true), (3, true), (1001, false)];
        let expected = replaced("1 worker replaced, 3 shutting down");
        assert_eq!(judge.observe(&idle(1030, &after)), expected);
    }

    #[test]
    fn workers_that_were_not_seen_may_have_been_replaced() {
        let mut crashing = idle(999, &[(1, false)]);
        crashing.is_complete = false;
        let mut judge = Judge::new(&crashing, 1000);
        judge.observe(&idle(1010, &[(1, false), (1002, false)]));
        assert!(!judge.is_proved);
        judge.observe(&idle(1012, &[(1, true), (1002, false)]));
        assert!(judge.is_proved);
        let mut judge = Judge::new(&Snapshot { workers: Vec::new(), ..crashing }, 1000);
        assert_eq!(judge.observe(&idle(1050, &NEW)), Verdict::Open);
    }

    #[test]
    fn a_master_without_workers_may_start_some() {
        let mut judge = Judge::new(&idle(999, &[]), 1000);
        assert_eq!(judge.observe(&idle(1001, &[])), Verdict::Open);
        assert_eq!(judge.observe(&idle(1030, &NEW)), replaced("2 workers started"));
    }
}
