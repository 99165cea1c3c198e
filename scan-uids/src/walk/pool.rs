//! Shares work among threads: a last-in-first-out stack for each, from whose other end idle
//! threads steal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Steal, Stealer, Worker};

/// How long an idle thread sleeps before it looks again, first and at most: a wake-up may get
/// lost between its last look and its sleep.
const NAP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// So many tasks for each thread call for another thread.
const MANY: usize = 32;

/// What the threads of one walk share.
pub struct Pool<T> {
    stealers: Vec<Stealer<T>>,
    /// Tasks that were pushed and are not done.
    pending: AtomicUsize,
    idle: AtomicUsize,
    stopped: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    ended: Condvar,
}

impl<T> Pool<T> {
    /// A pool for these stacks.
    pub fn new(stacks: &[Worker<T>]) -> Self {
        Self {
            stealers: stacks.iter().map(Worker::stealer).collect(),
            pending: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    /// Adds a task to a thread's own stack.
    pub fn push(&self, own: &Worker<T>, task: T) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        own.push(task);
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.wake.notify_one();
        }
    }

    /// The next task for a thread, its own newest or another's oldest; `None` when the walk has
    /// ended. `rest` is called before the thread sleeps.
    ///
    /// # Errors
    /// Those of `rest`.
    pub fn next<E>(
        &self,
        own: &Worker<T>,
        mut rest: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<T>, E> {
        let mut nap = NAP.0;
        loop {
            if self.is_stopped() {
                return Ok(None);
            }
            if let Some(task) = own.pop().or_else(|| self.steal()) {
                return Ok(Some(task));
            }
            if self.is_over() {
                return Ok(None);
            }
            rest()?;
            self.idle.fetch_add(1, Ordering::Relaxed);
            let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.wake.wait_timeout(guard, nap));
            nap = NAP.1.min(nap * 2);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Says that a task, with all that it pushed, was dealt with.
    pub fn done(&self) {
        if self.pending.fetch_sub(1, Ordering::Release) == 1 {
            self.wake_all();
        }
    }

    /// Whether more than one task waits or is worked on.
    pub fn has_several(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 1
    }

    /// Waits until the walk has ended, but no longer than `limit`; whether it has.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |(): &mut ()| !self.is_over() && !self.is_stopped();
        drop(self.ended.wait_timeout_while(guard, limit, goes_on));
        self.is_over() || self.is_stopped()
    }

    /// Whether one more thread would help `working` others: nobody is idle, and either many
    /// tasks wait for each, or some do and have done so for a while.
    pub fn needs_help(&self, working: usize, for_a_while: bool) -> bool {
        let waiting = self.pending.load(Ordering::Relaxed).saturating_sub(working);
        self.idle.load(Ordering::Relaxed) == 0
            && (waiting >= MANY * working || for_a_while && waiting > 0)
    }

    /// Ends the walk before its time.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    fn is_over(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn wake_all(&self) {
        // Whoever is about to sleep has either seen what happened, or hears of it.
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
        self.ended.notify_all();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn steal(&self) -> Option<T> {
        loop {
            let mut again = false;
            for stealer in &self.stealers {
                match stealer.steal() {
                    Steal::Success(task) => return Some(task),
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
            if !again {
                return None;
            }
        }
    }
}
