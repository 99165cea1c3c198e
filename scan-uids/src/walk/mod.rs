//! The walk: which directories, or entries, there are, and who owns them. Knows nothing of JSON
//! or arguments.
//!
//! `root` is where it starts, `hand` what one thread does, `pool` shares the work, `dir` keeps
//! descriptors within bounds, `access` and `rate` are how file systems are touched, `volume` knows
//! them, `path` spells paths.

mod access;
mod dir;
pub mod exclude;
mod hand;
pub mod path;
mod pool;
mod rate;
pub mod root;
mod volume;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use anyhow::Result;
use crossbeam_deque::Worker;
use diagnostics::wording::io_failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use access::Access;
use dir::{Counted, Dir, InUse};
use exclude::Exclude;
use hand::{Hand, Shared, Task};
use pool::Pool;
use rate::Rate;
use root::{Root, Start};
use volume::Volume;

/// Descriptors left for everything but the walk, beside those that are open at its start.
const OTHER_DESCRIPTORS: usize = 4;
/// Descriptors that a thread needs at least: its directory, that one's parent, the one before,
/// and one to move.
const DESCRIPTORS_A_THREAD: usize = 4;

/// How long to watch before another thread is called, first and at most.
const NAP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// What lies below the directories that are asked for, and how to get there.
#[derive(Default)]
pub struct Below {
    /// List every entry, not only directories.
    pub entries: bool,
    /// How many levels to go down; `None` for all.
    pub max_depth: Option<usize>,
    /// List mount points, but do not enter them.
    pub one_file_system: bool,
    /// What to leave out.
    pub exclude: Exclude,
    /// List and enter `.snapshot` and `.zfs` as well.
    pub snapshots: bool,
    /// Which link counts of directories to believe.
    pub link_counts: LinkCounts,
    /// Attributes that a network file system's client has cached will do.
    pub dont_sync: bool,
    /// At most so many entries a second.
    pub max_rate: Option<u32>,
    /// At most this many threads, at least 1.
    pub threads: usize,
}

/// Where the link count of a directory is believed to be two more than it has subdirectories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkCounts {
    /// Nowhere.
    Never,
    /// On file systems that are known for it.
    #[default]
    WhereKnown,
    /// On every file system.
    Always,
}

/// Is told what the walk finds; one for each thread.
pub trait Visitor: Send {
    /// Moves to directory `name`, `depth` levels below the root (0 for the root, by its name as
    /// given). What stands above has been told before.
    fn directory(&mut self, depth: usize, name: &[u8]);

    /// An entry of the current directory, the UID of its own inode, and whether that is a
    /// directory.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn entry(&mut self, name: &[u8], uid: u32, is_directory: bool) -> Result<()>;

    /// Something could not be read; the rest is walked all the same.
    fn failure(&mut self, error: anyhow::Error);

    /// Something was there and is no more.
    fn vanished(&mut self);

    /// What comes next may take a while, or not.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn breathe(&mut self) -> Result<()>;

    /// There is nothing to do for a while.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn pause(&mut self) -> Result<()>;
}

/// Walks one directory after another.
pub struct Walk {
    below: Below,
    access: Access,
    rate: Option<Rate>,
    descriptors: usize,
    started: (i64, u32),
}

impl Walk {
    /// A walk of what is `below`. Raises the soft limit of descriptors to the hard one.
    pub fn new(below: Below) -> Self {
        let access = Access::new(below.dont_sync);
        let rate = below.max_rate.map(Rate::new);
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let started = (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0));
        Self { below, access, rate, descriptors: descriptor_budget(), started }
    }

    /// Waits until a path may be looked at.
    pub fn keep_to_the_rate(&self, before_sleep: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(wait) = self.rate.as_ref().and_then(Rate::take) {
            before_sleep()?;
            thread::sleep(wait);
        }
        Ok(())
    }

    /// Looks at a path that is asked for, following symbolic links.
    ///
    /// # Errors
    /// It exists but cannot be looked at: ``failed to stat `PATH`: ...``.
    pub fn look(&self, path: &Path) -> Result<Root> {
        Root::look(&self.access, path)
    }

    /// Walks what lies below `start`, which itself is not told, and hands it to visitors made by
    /// `visitor`, one for each thread.
    ///
    /// # Errors
    /// Only those of the visitors, which end the walk.
    pub fn descend<V: Visitor>(
        &self,
        start: &Start,
        visitor: &(dyn Fn() -> V + Sync),
    ) -> Result<()> {
        if self.below.max_depth == Some(0) {
            return Ok(());
        }
        let (fd, status) = match start.open(&self.access) {
            Ok(opened) => opened,
            Err(error) => {
                let path = OsStr::from_bytes(start.path.to_bytes());
                visitor().failure(io_failure("read", path, &io::Error::from(error)));
                return Ok(());
            }
        };
        let threads = self.below.threads.clamp(1, (self.descriptors / DESCRIPTORS_A_THREAD).max(1));
        let stacks: Vec<_> = (0..threads).map(|_| Worker::new_lifo()).collect();
        let pool = Pool::new(&stacks);
        let volume = Volume::of(&fd);
        let shared = Shared {
            pool: &pool,
            below: &self.below,
            access: &self.access,
            rate: self.rate.as_ref(),
            serials: AtomicU64::new(1),
            descriptors_a_thread: (self.descriptors / threads).max(DESCRIPTORS_A_THREAD),
            started: self.started,
        };
        let name = start.path.clone().into_boxed_c_str();
        let counted = shared.believed(volume, Counted::of(&status));
        let root = Dir::new(None, name, hand::file_id(&status), volume, 0, counted, fd);
        let is_huge = status.stx_size > hand::PIECE as u64;
        run(&shared, stacks, InUse::new(root), is_huge, visitor)
    }
}

/// Walks alone as long as there is nothing to do for others.
fn run<V: Visitor>(
    shared: &Shared<'_>,
    stacks: Vec<Worker<Task>>,
    root: InUse,
    is_huge: bool,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    let mut stacks = stacks.into_iter();
    let Some(own) = stacks.next() else { return Ok(()) };
    shared.pool.push(&own, Task::Read(root));
    let mut first = Hand::new(shared, own, visitor());
    let has_work_for_others = is_huge || first.work_alone()?;
    match has_work_for_others {
        true if stacks.len() > 0 => supervise(shared, first, stacks, visitor),
        true => first.work(),
        false => Ok(()),
    }
}

/// Lets another thread go on with the work and watches it: however long a file system makes one
/// wait, more are called as long as something waits to be done.
fn supervise<V: Visitor>(
    shared: &Shared<'_>,
    first: Hand<'_, V>,
    mut stacks: std::vec::IntoIter<Worker<Task>>,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    let first = Mutex::new(Some(first));
    let take_first = || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let begin = || take_first().map_or(Ok(()), |mut first| first.work());
        let mut threads = Vec::new();
        match Builder::new().spawn_scoped(scope, begin) {
            Ok(thread) => threads.push(thread),
            // Where no more threads may be made, those that there are do the work.
            Err(_) => return begin(),
        }
        let mut nap = NAP.0;
        let mut has_waited = false;
        while stacks.len() > 0 {
            if shared.pool.needs_help(threads.len(), has_waited)
                && let Some(own) = stacks.next()
            {
                let work = || Hand::new(shared, own, visitor()).work();
                match Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(_) => break,
                }
                (nap, has_waited) = (NAP.0, false);
                continue;
            }
            if shared.pool.wait_for_end(nap) {
                break;
            }
            (nap, has_waited) = (NAP.1.min(nap * 2), true);
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

/// How many descriptors the walk may hold. The soft limit is raised to the hard one first.
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
    // Whoever started us may have left some open.
    let open = std::fs::read_dir("/proc/self/fd").map_or(4, |open| open.count());
    usize::try_from(current).unwrap_or(0).saturating_sub(open + OTHER_DESCRIPTORS)
}
