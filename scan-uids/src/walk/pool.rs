//! Shares work among threads: a last-in-first-out stack for each, from whose other end idle
//! threads steal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Steal, Stealer, Worker};

/// How long an idle thread sleeps before it looks again, first and at most: a wake-up may get
/// lost between its last look and its sleep.
const NAP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// So many tasks for each thread, or so much time, call for another thread.
const MANY: usize = 32;
const A_WHILE: Duration = Duration::from_millis(5);

/// What the threads of one walk share.
pub struct Pool<T> {
    stealers: Vec<Stealer<T>>,
    /// Tasks that were pushed and are not done.
    pending: AtomicUsize,
    idle: AtomicUsize,
    stopped: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
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
    pub fn next(&self, own: &Worker<T>, mut rest: impl FnMut()) -> Option<T> {
        let mut nap = NAP.0;
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(task) = own.pop().or_else(|| self.steal()) {
                return Some(task);
            }
            if self.pending.load(Ordering::Acquire) == 0 {
                return None;
            }
            rest();
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
            self.wake.notify_all();
        }
    }

    /// Whether a thread that has just finished a task wants one more beside its `helpers`, the
    /// last of which came so long ago: nobody is idle, and either many tasks wait or some have
    /// waited for a while. Small walks are over before another thread has started.
    pub fn needs_help(&self, helpers: usize, since: Duration) -> bool {
        let waiting = self.pending.load(Ordering::Relaxed).saturating_sub(helpers);
        self.idle.load(Ordering::Relaxed) == 0
            && (waiting >= MANY * (helpers + 1) || waiting > 0 && since >= A_WHILE)
    }

    /// Ends the walk before its time.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake.notify_all();
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
