//! The parallel walk: finds every directory, or every entry, below a root, and its owner.
//!
//! It knows neither arguments nor output formats: a [`Visitor`] receives the results.
//!
//! 1. [`Walk::stat_root`] reads the attributes of a path that the user named ([`root`]).
//! 2. [`Walk::descend`] opens that directory; reading it is the first task.
//! 3. The calling thread works alone while no task waits, so a small tree costs no thread.
//! 4. Once a task waits, another thread continues the work, and the calling thread supervises: it
//!    starts more threads while tasks wait and no thread is idle.
//! 5. Each thread runs a [`worker`], which takes tasks from the [`pool`] until none is pending.

mod dir;
pub mod exclude;
mod file_system;
pub mod path_stack;
mod pool;
mod rate_limit;
pub mod root;
mod syscalls;
mod worker;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use anyhow::Result;
use diagnostics::wording::io_failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use dir::{Dir, DirInUse, DirInfo, FileId, FileTime, LinkCount};
use exclude::Exclude;
use file_system::FileSystem;
use pool::{Deque, Pool};
use rate_limit::RateLimit;
use root::{Root, RootDir};
use syscalls::Syscalls;
use worker::{BUFFER_SIZE, Shared, Task, Worker};

/// Descriptors kept free for everything but the walk, beside those open at its start.
const OTHER_DESCRIPTORS: usize = 4;
/// The fewest descriptors that a thread can work with: the directory it reads, that directory's
/// parent, the directory read before, and one to move with.
const MIN_DESCRIPTORS_PER_THREAD: usize = 4;

/// The first and the longest time to wait before checking whether another thread is needed.
const FIRST_CHECK: Duration = Duration::from_millis(5);
const LONGEST_CHECK: Duration = Duration::from_millis(40);

/// What to walk below a root, and how.
pub struct Options {
    /// Report every entry, not only directories.
    pub entries: bool,
    /// How many levels to descend; `None` for no limit.
    pub max_depth: Option<usize>,
    /// Report mount points, but do not enter them.
    pub one_file_system: bool,
    /// Directories to leave out.
    pub exclude: Exclude,
    /// Report and enter `.snapshot` and `.zfs` as well.
    pub snapshots: bool,
    /// Where to trust the link counts of directories.
    pub trust_link_counts: TrustLinkCounts,
    /// Accept attributes that the client of a network file system has cached.
    pub dont_sync: bool,
    /// Stat at most this many entries a second; `None` for no limit.
    pub max_rate: Option<u32>,
    /// Use at most this many threads; at least 1.
    pub threads: usize,
}

/// Where to rely on a directory's link count being two more than its number of subdirectories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustLinkCounts {
    /// Nowhere.
    Never,
    /// On file systems that are known for it.
    WhereKnown,
    /// On every file system.
    Always,
}

/// Receives the results of one thread of the walk.
pub trait Visitor: Send {
    /// Moves to directory `name`, `depth` levels below the root (0: the root, by its path as
    /// given). All its ancestors are current already.
    fn enter_directory(&mut self, depth: usize, name: &[u8]);

    /// Receives an entry of the current directory: its name, the UID of its own inode, and
    /// whether it is a directory.
    ///
    /// # Errors
    /// An error ends the walk.
    fn entry(&mut self, name: &[u8], uid: u32, is_directory: bool) -> Result<()>;

    /// Something could not be read; the walk continues with the rest.
    fn failure(&mut self, error: anyhow::Error);

    /// An entry was listed by its directory, but is gone.
    fn vanished(&mut self);

    /// The next system calls may block: results that have been held back for long should go out.
    ///
    /// # Errors
    /// An error ends the walk.
    fn before_blocking(&mut self) -> Result<()>;

    /// The thread is about to sleep or to end: all results held back should go out.
    ///
    /// # Errors
    /// An error ends the walk.
    fn before_idle(&mut self) -> Result<()>;
}

/// Walks one root after another with the same options.
pub struct Walk {
    options: Options,
    syscalls: Syscalls,
    rate_limit: Option<RateLimit>,
    descriptors: usize,
    started: FileTime,
}

impl Walk {
    /// Prepares a walk. Raises the soft limit of open files to the hard one.
    pub fn new(options: Options) -> Self {
        let syscalls = Syscalls::new(options.dont_sync);
        let rate_limit = options.max_rate.map(RateLimit::new);
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let started =
            FileTime { seconds: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) };
        Self { options, syscalls, rate_limit, descriptors: descriptor_budget(), started }
    }

    /// Waits until the rate limit allows one more path; calls `before_sleep` if that takes time.
    ///
    /// # Errors
    /// Fails if `before_sleep` does.
    pub fn wait_for_rate_limit(&self, before_sleep: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(wait) = self.rate_limit.as_ref().and_then(RateLimit::reserve) {
            before_sleep()?;
            thread::sleep(wait);
        }
        Ok(())
    }

    /// Step 1: reads the attributes of a path that the user named; follows symbolic links.
    ///
    /// # Errors
    /// Fails if the path exists but its attributes cannot be read: ``failed to stat `PATH`: ...``.
    pub fn stat_root(&self, path: &Path) -> Result<Root> {
        Root::stat(&self.syscalls, path)
    }

    /// Steps 2 to 5: walks everything below `root`. The root itself is not reported. Each thread
    /// reports to a visitor of its own, made by `visitor`.
    ///
    /// # Errors
    /// Fails only if a visitor does. What cannot be read goes to [`Visitor::failure`].
    pub fn descend<V: Visitor>(
        &self,
        root: &RootDir,
        visitor: &(dyn Fn() -> V + Sync),
    ) -> Result<()> {
        if self.options.max_depth == Some(0) {
            return Ok(());
        }
        let (fd, status) = match root.open(&self.syscalls) {
            Ok(opened) => opened,
            Err(error) => {
                let path = OsStr::from_bytes(root.path.to_bytes());
                visitor().failure(io_failure("read", path, &io::Error::from(error)));
                return Ok(());
            }
        };
        let most_threads = (self.descriptors / MIN_DESCRIPTORS_PER_THREAD).max(1);
        let threads = self.options.threads.clamp(1, most_threads);
        let deques: Vec<_> = (0..threads).map(|_| Deque::new_lifo()).collect();
        let pool = Pool::new(&deques);
        let shared = Shared {
            pool: &pool,
            options: &self.options,
            syscalls: &self.syscalls,
            rate_limit: self.rate_limit.as_ref(),
            next_serial: AtomicU64::new(1),
            descriptors_per_thread: (self.descriptors / threads).max(MIN_DESCRIPTORS_PER_THREAD),
            started: self.started,
        };
        let file_system = FileSystem::of(&fd);
        let info = DirInfo {
            name: root.path.clone().into_boxed_c_str(),
            id: FileId::of(&status),
            file_system,
            serial: 0,
            link_count: shared.trusted(file_system, LinkCount::of(&status)),
        };
        let is_huge = status.stx_size > BUFFER_SIZE as u64;
        let root = DirInUse::new(Dir::new(None, info, fd));
        walk(&shared, deques, root, is_huge, visitor)
    }
}

/// Step 3: works alone while no task waits.
fn walk<V: Visitor>(
    shared: &Shared<'_>,
    deques: Vec<Deque<Task>>,
    root: DirInUse,
    is_huge: bool,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    let mut deques = deques.into_iter();
    let Some(tasks) = deques.next() else { return Ok(()) };
    shared.pool.push(&tasks, Task::Read(root));
    let mut first = Worker::new(shared, tasks, visitor());
    let needs_help = is_huge || first.work_alone()?;
    match needs_help {
        true if deques.len() > 0 => supervise(shared, first, deques, visitor),
        true => first.work(),
        false => Ok(()),
    }
}

/// Step 4: moves the first worker to a thread of its own and starts more workers as needed. The
/// supervising thread makes no calls to the file system, so it cannot block there.
fn supervise<V: Visitor>(
    shared: &Shared<'_>,
    first: Worker<'_, V>,
    mut deques: std::vec::IntoIter<Deque<Task>>,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    let first = Mutex::new(Some(first));
    let take_first = || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let begin = || take_first().map_or(Ok(()), |mut first| first.work());
        let mut threads = Vec::new();
        match Builder::new().spawn_scoped(scope, begin) {
            Ok(thread) => threads.push(thread),
            // No thread can be started: this one does the work.
            Err(_) => return begin(),
        }
        let mut wait = FIRST_CHECK;
        let mut has_waited = false;
        while deques.len() > 0 {
            if shared.pool.needs_thread(threads.len(), has_waited)
                && let Some(tasks) = deques.next()
            {
                let work = || Worker::new(shared, tasks, visitor()).work();
                match Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(_) => break,
                }
                (wait, has_waited) = (FIRST_CHECK, false);
                continue;
            }
            if shared.pool.wait_for_end(wait) {
                break;
            }
            (wait, has_waited) = (LONGEST_CHECK.min(wait * 2), true);
        }
        let mut outcome = Ok(());
        for thread in threads {
            // A panic of a thread is a panic of the walk.
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(ended);
        }
        outcome
    })
}

/// Returns how many descriptors the walk may hold. Raises the soft limit to the hard one first.
fn descriptor_budget() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let mut current = limit.current;
    if current < limit.maximum
        && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok()
    {
        current = limit.maximum;
    }
    // Beyond a few thousand, more open directories make nothing faster.
    let current = current.unwrap_or(4096).min(4096);
    // The parent process may have left some open.
    let open = std::fs::read_dir("/proc/self/fd").map_or(4, |open| open.count());
    usize::try_from(current).unwrap_or(0).saturating_sub(open + OTHER_DESCRIPTORS)
}
