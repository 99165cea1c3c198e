//! The pending tasks of a walk, shared by its threads: each thread has a last-in-first-out stack,
//! and idle threads steal from the other end of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Steal, Stealer};

/// The tasks of one thread.
pub type Deque<T> = crossbeam_deque::Worker<T>;

/// The first and the longest time that an idle thread sleeps before it looks for tasks again: a
/// notification is lost if it comes between the last look and the sleep.
const FIRST_SLEEP: Duration = Duration::from_millis(1);
const LONGEST_SLEEP: Duration = Duration::from_millis(32);

/// With this many waiting tasks for each thread, another thread is needed at once.
const MANY_TASKS: usize = 32;

/// What the threads of one walk share.
pub struct Pool<T> {
    stealers: Vec<Stealer<T>>,
    /// Tasks that were pushed and are not done.
    pending: AtomicUsize,
    /// Threads that sleep.
    idle: AtomicUsize,
    stopped: AtomicBool,
    /// Held by a thread between its last check and its sleep on one of the two below.
    sleep: Mutex<()>,
    has_tasks: Condvar,
    has_ended: Condvar,
}

impl<T> Pool<T> {
    /// A pool of the tasks in these deques.
    pub fn new(deques: &[Deque<T>]) -> Self {
        Self {
            stealers: deques.iter().map(Deque::stealer).collect(),
            pending: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            sleep: Mutex::new(()),
            has_tasks: Condvar::new(),
            has_ended: Condvar::new(),
        }
    }

    /// Adds a task to a thread's own deque.
    pub fn push(&self, own: &Deque<T>, task: T) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        own.push(task);
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.has_tasks.notify_one();
        }
    }

    /// Takes a task: the newest of the thread's own, or else the oldest of another thread. Sleeps
    /// while there is none, after calling `before_sleep`. Returns `None` when the walk has ended.
    ///
    /// # Errors
    /// Fails if `before_sleep` does.
    pub fn next<E>(
        &self,
        own: &Deque<T>,
        mut before_sleep: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<T>, E> {
        let mut sleep = FIRST_SLEEP;
        loop {
            if self.is_stopped() {
                return Ok(None);
            }
            if let Some(task) = own.pop().or_else(|| self.steal()) {
                return Ok(Some(task));
            }
            if self.is_done() {
                return Ok(None);
            }
            before_sleep()?;
            self.idle.fetch_add(1, Ordering::Relaxed);
            let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.has_tasks.wait_timeout(guard, sleep));
            sleep = LONGEST_SLEEP.min(sleep * 2);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a task as done, after all tasks that follow from it have been pushed.
    pub fn task_done(&self) {
        if self.pending.fetch_sub(1, Ordering::Release) == 1 {
            self.wake_all();
        }
    }

    /// Whether more than one task waits or is being worked on.
    pub fn has_several_tasks(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 1
    }

    /// Waits until the walk has ended, but no longer than `limit`; returns whether it has.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |(): &mut ()| !self.is_done() && !self.is_stopped();
        drop(self.has_ended.wait_timeout_while(guard, limit, goes_on));
        self.is_done() || self.is_stopped()
    }

    /// Whether one more thread beside `threads` would help. No thread may be idle, and tasks must
    /// wait: many for each thread, or any if the caller `has_waited` since its last check.
    pub fn needs_thread(&self, threads: usize, has_waited: bool) -> bool {
        let waiting = self.pending.load(Ordering::Relaxed).saturating_sub(threads);
        self.idle.load(Ordering::Relaxed) == 0
            && (waiting >= MANY_TASKS * threads || has_waited && waiting > 0)
    }

    /// Ends the walk with tasks pending.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn is_done(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn wake_all(&self) {
        // A thread that holds the lock is about to sleep and would miss the notification.
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_tasks.notify_all();
        self.has_ended.notify_all();
    }

    fn steal(&self) -> Option<T> {
        loop {
            let mut retry = false;
            for stealer in &self.stealers {
                match stealer.steal() {
                    Steal::Success(task) => return Some(task),
                    Steal::Retry => retry = true,
                    Steal::Empty => {}
                }
            }
            if !retry {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn pool_of_two() -> (Pool<u32>, Deque<u32>, Deque<u32>) {
        let deques = [Deque::new_lifo(), Deque::new_lifo()];
        let pool = Pool::new(&deques);
        let [own, other] = deques;
        (pool, own, other)
    }

    fn next(pool: &Pool<u32>, own: &Deque<u32>) -> Option<u32> {
        pool.next(own, || Ok::<_, Infallible>(())).unwrap()
    }

    #[test]
    fn a_thread_takes_its_own_newest_task_and_steals_the_oldest() {
        let (pool, own, other) = pool_of_two();
        for task in 1..=3 {
            pool.push(&own, task);
        }
        assert_eq!(next(&pool, &own), Some(3));
        assert_eq!(next(&pool, &other), Some(1));
        assert_eq!(next(&pool, &own), Some(2));
    }

    #[test]
    fn the_walk_ends_when_every_task_is_done_or_at_once_when_stopped() {
        let (pool, own, other) = pool_of_two();
        pool.push(&own, 1);
        pool.push(&own, 2);
        assert!(!pool.wait_for_end(Duration::ZERO));
        for _ in 0..2 {
            next(&pool, &own).unwrap();
            pool.task_done();
        }
        assert!(pool.wait_for_end(Duration::ZERO));
        assert_eq!(next(&pool, &other), None);

        pool.push(&own, 3);
        pool.stop();
        assert!(pool.wait_for_end(Duration::ZERO));
        assert_eq!(next(&pool, &own), None, "what is pending is left");
    }

    #[test]
    fn a_sleeping_thread_gets_a_task_that_is_pushed_later() {
        let (pool, own, other) = pool_of_two();
        pool.push(&own, 1);
        next(&pool, &own).unwrap();
        std::thread::scope(|scope| {
            let pool = &pool;
            let taken = scope.spawn(move || next(pool, &other));
            e2e::wait_for("the other to be idle", || pool.idle.load(Ordering::Relaxed) == 1);
            pool.push(&own, 2);
            assert_eq!(taken.join().unwrap(), Some(2));
        });
    }

    #[test]
    fn another_thread_is_needed_if_many_tasks_wait_or_some_for_a_while() {
        let (pool, own, _other) = pool_of_two();
        pool.push(&own, 1);
        assert!(!pool.needs_thread(1, true), "the only task is being worked on");
        pool.push(&own, 2);
        assert!(!pool.needs_thread(1, false) && pool.needs_thread(1, true));
        for task in 3..=33 {
            pool.push(&own, task);
        }
        assert!(pool.needs_thread(1, false) && !pool.needs_thread(2, false));
        pool.idle.store(1, Ordering::Relaxed);
        assert!(!pool.needs_thread(1, true), "an idle thread is there to take them");
    }
}
