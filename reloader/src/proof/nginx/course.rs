//! What comes of a reload, judged by a series of looks.

use std::collections::{BTreeMap, BTreeSet};

use crate::proof::process::TICKS_PER_SECOND;

/// A process, told from later ones of the same id: its id and its start.
type Id = (u32, u64);

/// For as long a new worker must have run, in ticks: those that crash at once do not serve.
const STEADY: u64 = TICKS_PER_SECOND / 5;
/// For as long nothing may come of a reload that the master is through with, in ticks.
const ENOUGH: u64 = TICKS_PER_SECOND;

/// A worker as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    pub id: Id,
    /// At this time, in ticks, it was alive.
    pub seen: u64,
    /// It takes no new connections.
    pub is_ending: bool,
}

/// A master and its workers at one time.
#[derive(Clone, Debug)]
pub struct Look {
    /// The end of the look, in ticks.
    pub at: u64,
    /// The master had taken all signals that were sent to it before, and done what they ask for.
    pub is_at_rest: bool,
    /// There are children of which nobody knows whether they will be workers.
    pub has_unknown: bool,
    /// All workers were seen: none was being replaced meanwhile.
    pub is_complete: bool,
    /// Those that were seen.
    pub workers: Vec<Worker>,
}

/// What a look comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The new workers serve, and the old ones do not.
    Replaced(String),
    /// Nothing more will come.
    Hopeless,
    /// Something may come.
    Open,
}

/// A reload, from the signal on.
#[derive(Debug)]
pub struct Course {
    signalled: u64,
    /// Whether `old` were all of them.
    is_complete: bool,
    /// Those that served, as they were seen last.
    old: BTreeMap<Id, Worker>,
    /// Those that an earlier reload had asked to end.
    leaving: BTreeSet<Id>,
    served_before: usize,
    /// When the first new worker started.
    first_new: Option<u64>,
    /// New workers were there while all old ones were: no crash does that.
    is_proved: bool,
    /// Since when the master is through with it.
    rests_since: Option<u64>,
    now: Counts,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Counts {
    old: usize,
    new: usize,
    is_steady: bool,
    is_at_rest: bool,
}

impl Course {
    /// One that begins with these workers and a signal at this time, in ticks.
    pub fn new(before: &Look, signalled: u64) -> Self {
        let (leaving, old): (Vec<_>, Vec<_>) =
            before.workers.iter().copied().partition(|worker| worker.is_ending);
        Self {
            signalled,
            is_complete: before.is_complete,
            served_before: old.len(),
            old: old.into_iter().map(|worker| (worker.id, worker)).collect(),
            leaving: leaving.into_iter().map(|worker| worker.id).collect(),
            first_new: None,
            is_proved: false,
            rests_since: None,
            now: Counts::default(),
        }
    }

    /// Takes in what is to be seen.
    pub fn take(&mut self, look: &Look) -> Verdict {
        self.now = Counts { is_at_rest: look.is_at_rest, is_steady: true, ..Counts::default() };
        for worker in look.workers.iter().filter(|worker| !self.leaving.contains(&worker.id)) {
            if self.is_old(worker) {
                self.old.insert(worker.id, *worker);
                self.now.old += usize::from(!worker.is_ending);
            } else if !worker.is_ending {
                let (_, start) = worker.id;
                self.first_new = Some(self.first_new.map_or(start, |first| first.min(start)));
                self.now.new += 1;
                self.now.is_steady &= worker.seen.saturating_sub(start) > STEADY;
            }
        }
        self.is_proved |= self.proves();
        if look.has_unknown {
            self.now.is_steady = false;
            self.rests_since = None;
        } else if look.is_at_rest {
            self.rests_since.get_or_insert(look.at);
        }
        let is_over = self.now.old == 0 && self.now.new > 0 && self.now.is_steady;
        if is_over && self.is_proved && look.is_at_rest {
            return Verdict::Replaced(self.success());
        }
        let waits = self.rests_since.map_or(0, |since| look.at.saturating_sub(since));
        if !self.is_proved && waits > ENOUGH { Verdict::Hopeless } else { Verdict::Open }
    }

    /// Why it is not, or not yet, a success.
    pub fn complaint(&self) -> &'static str {
        let Counts { old, new, .. } = self.now;
        if !self.now.is_at_rest {
            "nginx is still busy with its reload"
        } else if old > 0 && (new == 0 || !self.is_proved) {
            "nginx kept its old workers: its configuration is probably wrong, see its error log"
        } else if new == 0 || !self.now.is_steady {
            "no new worker of nginx stays up: see its error log"
        } else if old > 0 {
            "nginx has new workers, but old ones still serve"
        } else {
            "nginx has new workers, but a reload was not seen: the old ones may only have crashed"
        }
    }

    fn is_old(&self, worker: &Worker) -> bool {
        let (_, start) = worker.id;
        self.old.contains_key(&worker.id) || start < self.signalled
    }

    /// Whether all old workers have been alive after the start of a new one, which so is in place
    /// of none of them, or one of them takes leave then. Times are rounded down, so that later
    /// means later.
    fn proves(&self) -> bool {
        let Some(first) = self.first_new else { return false };
        let mut outlived = self.old.values().filter(|old| old.seen > first);
        self.is_complete && outlived.clone().count() == self.old.len()
            || outlived.any(|old| old.is_ending)
    }

    fn success(&self) -> String {
        let workers = |count| format!("{count} worker{}", if count == 1 { "" } else { "s" });
        match (self.served_before, self.now.new) {
            (0, new) => format!("{} started", workers(new)),
            (old, new) if old == new => format!("{} replaced", workers(old)),
            (old, new) => format!("{} replaced by {new}", workers(old)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers of a look at a time: their ids, which are also their starts, and whether they end.
    fn look(at: u64, workers: &[(u32, bool)]) -> Look {
        let worker =
            |&(pid, is_ending): &(u32, bool)| Worker { id: (pid, pid.into()), seen: at, is_ending };
        let workers = workers.iter().map(worker).collect();
        Look { at, is_at_rest: true, has_unknown: false, is_complete: true, workers }
    }

    fn busy(at: u64, workers: &[(u32, bool)]) -> Look {
        Look { is_at_rest: false, ..look(at, workers) }
    }

    /// What comes of a HUP at 1000 to two workers.
    fn course(looks: &[Look]) -> (Verdict, Course) {
        let mut course = Course::new(&look(999, &[(1, false), (2, false)]), 1000);
        let mut verdict = Verdict::Open;
        for look in looks {
            assert_eq!(verdict, Verdict::Open, "{course:?}");
            verdict = course.take(look);
        }
        (verdict, course)
    }

    const OLD: [(u32, bool); 2] = [(1, false), (2, false)];
    const NEW: [(u32, bool); 2] = [(1001, false), (1002, false)];
    const BOTH: [(u32, bool); 4] = [(1, false), (2, false), (1001, false), (1002, false)];

    #[test]
    fn a_reload_is_proved_by_both_generations_at_once() {
        let (verdict, _) = course(&[
            busy(1001, &OLD),
            busy(1003, &BOTH),
            look(1012, &[(2, true), (1001, false), (1002, false)]),
            look(1015, &NEW),
            look(1024, &NEW),
        ]);
        assert_eq!(verdict, Verdict::Replaced("2 workers replaced".to_owned()));
    }

    #[test]
    fn one_look_after_the_start_of_a_new_worker_is_enough() {
        // The new worker was seen later, but started while both old ones were still alive.
        let (verdict, _) = course(&[busy(1002, &OLD), look(1030, &[(1001, false)])]);
        assert_eq!(verdict, Verdict::Replaced("2 workers replaced by 1".to_owned()));
        let (verdict, course) = course(&[busy(1001, &OLD), look(1030, &NEW)]);
        assert_eq!(verdict, Verdict::Open, "within the same tick it may have been before");
        assert!(course.complaint().contains("a reload was not seen"));
    }

    #[test]
    fn an_old_worker_that_takes_leave_is_proof_too() {
        let leaving = [(2, true), (1001, false), (1002, false)];
        let (verdict, _) = course(&[look(1030, &leaving)]);
        assert_eq!(verdict, Verdict::Replaced("2 workers replaced".to_owned()));
        // One that does so before there are new ones was asked by somebody else.
        let (verdict, course) = course(&[look(1002, &[(1, true)]), look(1200, &[(1100, false)])]);
        assert_eq!((verdict, course.is_proved), (Verdict::Hopeless, false));
    }

    #[test]
    fn crashes_are_no_proof() {
        // One after the other; each is replaced after its end.
        let crashes = [
            look(1005, &[(1, false), (1004, false)]),
            look(1050, &[(1004, false), (1040, false)]),
            look(1106, &[(1004, false), (1040, false)]),
        ];
        let (verdict, course) = course(&crashes);
        assert_eq!((verdict, course.is_proved), (Verdict::Hopeless, false));
        assert!(course.complaint().contains("may only have crashed"));
    }

    #[test]
    fn a_crash_under_a_bad_configuration_is_no_proof() {
        let crashed = [(1, false), (1004, false)];
        let (verdict, course) = course(&[look(1005, &crashed), look(1106, &crashed)]);
        assert_eq!(verdict, Verdict::Hopeless);
        assert!(course.complaint().starts_with("nginx kept its old workers"));
    }

    #[test]
    fn a_worker_that_was_replaced_just_before_the_signal_is_an_old_one() {
        let late = [(1, false), (2, false), (998, false)];
        let (verdict, course) = course(&[look(1003, &late), look(1104, &[(2, false)])]);
        assert_eq!((verdict, course.first_new), (Verdict::Hopeless, None));
    }

    #[test]
    fn nothing_is_hopeless_while_the_master_works_or_workers_begin() {
        let mut beginning = look(2000, &OLD);
        beginning.has_unknown = true;
        let (verdict, course) = course(&[busy(1500, &OLD), beginning, look(2001, &OLD)]);
        assert_eq!(verdict, Verdict::Open);
        assert!(course.complaint().starts_with("nginx kept its old workers"));
        let (verdict, course) = self::course(&[busy(9000, &OLD)]);
        assert_eq!(
            (verdict, course.complaint()),
            (Verdict::Open, "nginx is still busy with its reload")
        );
    }

    #[test]
    fn new_workers_must_last_and_old_ones_go() {
        let mut looks = vec![busy(1003, &BOTH)];
        // They crash at once, again and again.
        looks.extend((0..40).map(|n| look(1020 + 10 * n, &[(1015 + 10 * n as u32, false)])));
        let (verdict, course) = course(&looks);
        assert_eq!((verdict, course.is_proved), (Verdict::Open, true));
        assert_eq!(course.complaint(), "no new worker of nginx stays up: see its error log");
        let stuck = [(1, false), (1001, false), (1002, false)];
        let (verdict, course) = self::course(&[busy(1003, &BOTH), look(3000, &stuck)]);
        assert_eq!(verdict, Verdict::Open);
        assert_eq!(course.complaint(), "nginx has new workers, but old ones still serve");
    }

    #[test]
    fn those_that_were_leaving_before_prove_nothing() {
        let mut course = Course::new(&look(999, &[(1, false), (2, true)]), 1000);
        assert_eq!(course.take(&look(1050, &[(2, true), (1002, false)])), Verdict::Open);
        assert!(!course.is_proved && course.complaint().contains("may only have crashed"));
    }

    #[test]
    fn those_that_were_not_seen_may_have_been_replaced() {
        let mut crashing = look(999, &[(1, false)]);
        crashing.is_complete = false;
        let mut course = Course::new(&crashing, 1000);
        course.take(&look(1010, &[(1, false), (1002, false)]));
        assert!(!course.is_proved);
        course.take(&look(1012, &[(1, true), (1002, false)]));
        assert!(course.is_proved);
        let mut course = Course::new(&Look { workers: Vec::new(), ..crashing }, 1000);
        assert_eq!(course.take(&look(1050, &NEW)), Verdict::Open);
    }

    #[test]
    fn a_master_without_workers_may_get_some() {
        let mut course = Course::new(&look(999, &[]), 1000);
        assert_eq!(course.take(&look(1001, &[])), Verdict::Open);
        let started = Verdict::Replaced("2 workers started".to_owned());
        assert_eq!(course.take(&look(1030, &NEW)), started);
    }
}
