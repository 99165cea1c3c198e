//! The proof that nginx has reloaded: a new generation of workers in place of the old one.
//!
//! What nginx does (`ngx_process_cycle.c`): the master waits with no signal blocked, and blocks
//! them while it is busy. Having taken a HUP it reads its configuration. If that is good, it starts
//! all new workers while all old ones still serve, gives them 100 ms, and asks the old ones to end,
//! which write `is shutting down` into their titles and go when their connections have. If it is
//! bad, nothing happens. A worker that has crashed is replaced after its end.
//!
//! So new workers beside all old ones prove a reload, and nothing else does: only crashes never
//! bring one about. When that moment has been missed, as may happen on a very busy machine, nothing
//! is proved, and the next attempt proves it.

mod course;

use anyhow::{Result, anyhow, bail};
use rustix::process::Signal;

use self::course::{Course, Look, Verdict, Worker};
use crate::proof::process::{Process, bit, now};
use crate::retry::Retry as Patience;

const MASTER: &[u8] = b"nginx: master process";
const WORKER: &[u8] = b"nginx: worker process";
const ENDING: &[u8] = b" is";
/// What the master takes only when it has nothing else to do.
const TAKEN_AT_REST: [Signal; 2] = [Signal::HUP, Signal::CHILD];

/// Whether a process calls itself a master of nginx.
pub fn is_master(process: &Process) -> bool {
    process.title.starts_with(MASTER)
}

/// Whether a process calls itself a worker of nginx.
pub fn is_worker(process: &Process) -> bool {
    process.title.starts_with(WORKER)
}

/// Whether a process is nginx, but has no title: it is just starting, or is its own worker.
pub fn is_untitled(process: &Process) -> bool {
    process.name == b"nginx" && !process.title.starts_with(b"nginx: ")
}

/// A master and its workers, before it is told to reload.
pub struct Generation {
    master: Process,
    before: Look,
}

impl Generation {
    /// Takes all workers down once the master has nothing to do, so that what comes later is known
    /// to be new. If workers keep crashing, it takes those that it sees.
    ///
    /// # Errors
    /// The master has ended, or is busy all the time; on a stop.
    pub fn of(master: &Process, patience: &Patience<'_>) -> Result<Self> {
        let mut last = None;
        let complete = patience.poll(|| {
            let look = look(master)?.ok_or_else(|| ended(master))?;
            let complete = look.is_complete.then(|| look.clone());
            last = Some(look);
            Ok(complete)
        })?;
        let crashing = || last.filter(|last| last.is_at_rest && !last.has_unknown);
        let before = complete.or_else(crashing).ok_or_else(|| {
            anyhow!(
                "nginx does not come to rest, and was not signalled: a reload or the exchange of \
                 its binary is under way (process {})",
                master.pid
            )
        })?;
        Ok(Self { master: master.clone(), before })
    }

    /// Waits for a new generation after a HUP, and says what has come.
    ///
    /// # Errors
    /// There is none, or nothing proves it; on a stop.
    pub fn wait_for_next(self, signalled: u64, patience: &Patience<'_>) -> Result<String> {
        let mut course = Course::new(&self.before, signalled);
        let replaced = patience.poll(|| {
            let look = look(&self.master)?.ok_or_else(|| ended(&self.master))?;
            match course.take(&look) {
                Verdict::Replaced(text) => Ok(Some(text)),
                Verdict::Hopeless => bail!(course.complaint()),
                Verdict::Open => Ok(None),
            }
        })?;
        replaced.ok_or_else(|| anyhow!(course.complaint()))
    }
}

fn ended(master: &Process) -> anyhow::Error {
    anyhow!("the master process of nginx, {}, has ended", master.pid)
}

/// The master, its children, and the master again; `None` if it has ended. The order matters: what
/// the master has done before it came to rest is seen, and so is whether a worker has gone since.
fn look(master: &Process) -> Result<Option<Look>> {
    let present = || -> Result<Option<Process>> {
        let present = Process::read(master.pid)?;
        Ok(present.filter(|present| present.is_same(master) && present.is_alive()))
    };
    let Some(first) = present()? else { return Ok(None) };
    let busy = first.signals.blocked | first.signals.pending;
    let is_at_rest = first.state == b'S' && TAKEN_AT_REST.iter().all(|s| busy & bit(*s) == 0);
    let mut workers = Vec::new();
    let mut has_unknown = false;
    for child in Process::children(master.pid)? {
        if child.is_alive() && is_worker(&child) {
            let is_ending = child.title[WORKER.len()..].starts_with(ENDING);
            let Process { pid, start, seen, .. } = child;
            workers.push(Worker { id: (pid, start), seen, is_ending });
        } else {
            // It has not written its title yet, is a new binary's master, or has just ended.
            has_unknown |= is_master(&child) || !child.is_alive();
        }
    }
    let Some(second) = present()? else { return Ok(None) };
    let none_has_gone = first.faults_of_children == second.faults_of_children;
    let is_complete = is_at_rest && !has_unknown && none_has_gone;
    Ok(Some(Look { at: now(), is_at_rest, has_unknown, is_complete, workers }))
}
