//! The walk: which directories, or entries, there are, and who owns them. Knows nothing of JSON
//! or arguments.
//!
//! `root` is where it starts, `hand` what one thread does, `pool` shares the work, `dir` keeps
//! descriptors within bounds, `access` and `rate` are how file systems are touched, `volume` knows
//! them.

mod access;
mod dir;
pub mod exclude;
mod hand;
mod pool;
mod rate;
pub mod root;
mod volume;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::thread::{self, Builder};
use std::time::Instant;

use anyhow::Result;
use crossbeam_deque::Worker;
use diagnostics::wording::io_failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use access::Access;
use dir::{Counted, Dir, InUse};
use exclude::Exclude;
use hand::{Hand, Shared, Task};
use pool::Pool;
use rate::Rate;
use root::{Root, Start};
use volume::Volume;

/// Descriptors left for everything but the walk.
const OTHER_DESCRIPTORS: u64 = 8;
/// Descriptors that a thread needs at least: its directory, that one's parent, the one before,
/// and one to move.
const DESCRIPTORS_A_THREAD: usize = 4;

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
}

impl Walk {
    /// A walk of what is `below`. Raises the soft limit of descriptors to the hard one.
    pub fn new(below: Below) -> Self {
        let access = Access::new(below.dont_sync);
        let rate = below.max_rate.map(Rate::new);
        Self { below, access, rate, descriptors: descriptor_budget() }
    }

    /// Looks at a path that is asked for, following symbolic links.
    ///
    /// # Errors
    /// It exists but cannot be looked at: ``failed to stat `PATH`: ...``.
    pub fn look(&self, path: &Path) -> Result<Root> {
        if let Some(wait) = self.rate.as_ref().and_then(Rate::take) {
            thread::sleep(wait);
        }
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
        };
        let name = start.path.clone().into_boxed_c_str();
        let counted = shared.believed(volume, Counted::of(&status));
        let root = Dir::new(None, name, hand::file_id(&status), volume, 0, counted, fd);
        run(&shared, stacks, InUse::new(root), visitor)
    }
}

/// Starts alone, and calls the other threads one by one as there is enough to do.
fn run<V: Visitor>(
    shared: &Shared<'_>,
    stacks: Vec<Worker<Task>>,
    root: InUse,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    thread::scope(|scope| {
        let mut stacks = stacks.into_iter();
        let Some(own) = stacks.next() else { return Ok(()) };
        shared.pool.push(&own, Task::Read(root));
        let (mut helpers, mut last_call) = (Vec::new(), Instant::now());
        let call_for_help = || {
            if stacks.len() == 0 || !shared.pool.needs_help(helpers.len(), last_call.elapsed()) {
                return;
            }
            let hand = |own| Hand::new(shared, own, visitor());
            let spawn = |own| Builder::new().spawn_scoped(scope, move || hand(own).work(|| {}));
            match stacks.next().map(spawn) {
                Some(Ok(helper)) => helpers.push(helper),
                // Where no more threads may be made, those that there are do the work.
                _ => stacks = Vec::new().into_iter(),
            }
            last_call = Instant::now();
        };
        let mut outcome = Hand::new(shared, own, visitor()).work(call_for_help);
        for helper in helpers {
            // A panic of a helper is a panic of the walk.
            let ended = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
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
    usize::try_from(current.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(0)
}
