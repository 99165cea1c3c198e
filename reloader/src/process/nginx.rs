//! Proof that nginx has reloaded: a new generation of workers beside the old one.
//!
//! nginx reports nothing itself, so its behaviour (`ngx_process_cycle.c`) is observed:
//! 1. The master waits with no signal blocked, and blocks all while it is busy. A HUP makes it read
//!    its configuration.
//! 2. If that is invalid, nothing happens: the old workers stay.
//! 3. If it is valid, the master starts all new workers while all old ones still serve, waits
//!    100 ms and asks the old ones to end. They add `is shutting down` to their titles and end
//!    once their connections do.
//! 4. Apart from reloads, a worker is started only after another has crashed and ended.
//!
//! Old workers with a connection that does not end keep their memory, reload after reload, unless
//! `worker_shutdown_timeout` ends them: the proof and a metric tell their number.
//!
//! So new workers beside all old ones prove a reload, and crashes alone never look like that. If
//! a very busy machine hides the moment, the reload counts as failed, and the next one proves it.

mod judge;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use rustix::process::Signal;

pub use self::judge::Proof;
use self::judge::{Judge, Snapshot, Verdict, Worker, WorkerId};
use super::{Process, bit, now};
use crate::wait::Wait;

const MASTER: &[u8] = b"nginx: master process";
const WORKER: &[u8] = b"nginx: worker process";
/// Follows [`WORKER`] in the title of a worker that is shutting down.
const IS_SHUTTING_DOWN: &[u8] = b" is";
/// Signals that are pending or blocked while the master is busy.
const BUSY_SIGNALS: [Signal; 2] = [Signal::HUP, Signal::CHILD];

/// Whether the title is that of an nginx master.
pub fn is_master(process: &Process) -> bool {
    process.title.starts_with(MASTER)
}

/// Whether the title is that of an nginx worker.
pub fn is_worker(process: &Process) -> bool {
    process.title.starts_with(WORKER)
}

/// Whether a process is nginx without a title: it is just starting, or has no master process.
pub fn is_untitled(process: &Process) -> bool {
    process.name == b"nginx" && !process.title.starts_with(b"nginx: ")
}

/// The master that was reloaded last, for the metric of its workers. Clones refer to the same one.
#[derive(Clone, Debug, Default)]
pub struct LastMaster(Arc<Mutex<Option<Process>>>);

impl LastMaster {
    /// Records the master.
    pub fn set(&self, master: &Process) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(master.clone());
    }

    /// How many of its workers are shutting down now; `None` before the first reload, and if the
    /// master has ended or cannot be read.
    pub fn shutting_down(&self) -> Option<usize> {
        let master = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let snapshot = snapshot(&master).ok()??;
        Some(snapshot.workers.iter().filter(|worker| worker.is_shutting_down).count())
    }
}

/// A master and its workers before a reload.
pub struct Generation {
    master: Process,
    before: Snapshot,
}

impl Generation {
    /// Records all workers while the master is idle, so that later ones are known to be new. If
    /// workers keep crashing, it records those that it can see.
    ///
    /// # Errors
    /// Fails if the master has ended or is busy all the time, or on a stop.
    pub fn capture(master: &Process, wait: &Wait<'_>) -> Result<Self> {
        let mut last = None;
        let complete = wait.until(|| {
            let snapshot = snapshot(master)?.ok_or_else(|| ended(master))?;
            let complete = snapshot.is_complete.then(|| snapshot.clone());
            last = Some(snapshot);
            Ok(complete)
        })?;
        let crashing = || last.filter(|last| last.is_idle && !last.has_unknown);
        let before = complete.or_else(crashing).ok_or_else(|| {
            anyhow!(
                "nginx does not become idle and was not signalled: a reload or an upgrade of its \
                 binary is under way (process {})",
                master.pid
            )
        })?;
        Ok(Self { master: master.clone(), before })
    }

    /// Waits for the next generation after a HUP at the time `signalled`. Returns the proof.
    ///
    /// # Errors
    /// Fails if no reload is proved, with the likely reason, or on a stop.
    pub fn wait_for_next(self, signalled: u64, wait: &Wait<'_>) -> Result<Proof> {
        let mut judge = Judge::new(&self.before, signalled);
        let proof = wait.until(|| {
            let snapshot = snapshot(&self.master)?.ok_or_else(|| ended(&self.master))?;
            match judge.observe(&snapshot) {
                Verdict::Replaced(proof) => Ok(Some(proof)),
                Verdict::Failed => bail!(judge.reason()),
                Verdict::Open => Ok(None),
            }
        })?;
        proof.ok_or_else(|| anyhow!(judge.reason()))
    }
}

fn ended(master: &Process) -> anyhow::Error {
    anyhow!("the master process of nginx, {}, has ended", master.pid)
}

/// Reads the master, its children, and the master again; `None` if the master has ended. The first
/// read shows that the master was idle before, the second that it has reaped no child since.
fn snapshot(master: &Process) -> Result<Option<Snapshot>> {
    let read_master = || -> Result<Option<Process>> {
        let present = Process::read(master.pid)?;
        Ok(present.filter(|present| present.is_same(master) && present.is_alive()))
    };
    let Some(first) = read_master()? else { return Ok(None) };
    let busy = first.signals.blocked | first.signals.pending;
    let is_idle = first.state == b'S' && BUSY_SIGNALS.iter().all(|s| busy & bit(*s) == 0);
    let mut workers = Vec::new();
    let mut has_unknown = false;
    for child in Process::children(master.pid)? {
        if child.is_alive() && is_worker(&child) {
            let is_shutting_down = child.title[WORKER.len()..].starts_with(IS_SHUTTING_DOWN);
            let Process { pid, start, seen, .. } = child;
            workers.push(Worker { id: WorkerId { start, pid }, seen, is_shutting_down });
        } else {
            // It still has the title of the master, is the master of a new binary, or has ended.
            has_unknown |= is_master(&child) || !child.is_alive();
        }
    }
    let Some(second) = read_master()? else { return Ok(None) };
    let none_reaped = first.faults_of_children == second.faults_of_children;
    let is_complete = is_idle && !has_unknown && none_reaped;
    Ok(Some(Snapshot { at: now(), is_idle, has_unknown, is_complete, workers }))
}
