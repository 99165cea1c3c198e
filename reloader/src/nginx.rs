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
use crate::patience::Patience;
use crate::process::{Process, bit, now};

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
    /// Takes the workers down once the master has nothing to do, so that what comes later is known
    /// to be new. If workers keep crashing, it takes them as they are.
    ///
    /// # Errors
    /// The master has ended, or is busy all the time; on a stop.
    pub fn of(master: &Process, patience: &Patience<'_>) -> Result<Self> {
        let mut last: Option<Look> = None;
        let settled = patience.poll(|| {
            let look = look(master)?.ok_or_else(|| ended(master))?;
            let is_calm = look.is_at_rest && !look.has_unknown;
            let is_same = last.as_ref().is_some_and(|last| last.is_same(&look));
            last = Some(look);
            Ok((is_calm && is_same).then_some(()))
        })?;
        match last {
            Some(before) if settled.is_some() || before.is_at_rest && !before.has_unknown => {
                Ok(Self { master: master.clone(), before })
            }
            _ => bail!(
                "nginx does not come to rest, and was not signalled: a reload or the exchange of \
                 its binary is under way (process {})",
                master.pid
            ),
        }
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

/// The master, then its children; `None` if it has ended. The order matters: what the master has
/// done before it came to rest is seen.
fn look(master: &Process) -> Result<Option<Look>> {
    let present = Process::read(master.pid)?;
    let Some(present) = present.filter(|p| p.is_same(master) && p.is_alive()) else {
        return Ok(None);
    };
    let busy = present.signals.blocked | present.signals.pending;
    let is_at_rest = present.state == b'S' && TAKEN_AT_REST.iter().all(|s| busy & bit(*s) == 0);
    let mut workers = Vec::new();
    let mut has_unknown = false;
    for child in Process::children(master.pid)? {
        if is_worker(&child) {
            let rest = &child.title[WORKER.len()..];
            let is_ending = rest.starts_with(ENDING);
            let Process { pid, start, seen, .. } = child;
            workers.push(Worker { id: (pid, start), seen, is_ending });
        } else {
            // It has not written its title yet, is a new binary's master, or has just ended.
            has_unknown |= is_master(&child) || !child.is_alive();
        }
    }
    Ok(Some(Look { at: now(), is_at_rest, has_unknown, workers }))
}
