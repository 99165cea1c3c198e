//! The walk: which directories, or entries, there are, and who owns them. Knows nothing of JSON
//! or arguments.
//!
//! `hand` is what one thread does, `pool` shares the work, `dir` keeps descriptors within bounds,
//! `volume` knows file systems, `path` spells paths.

mod dir;
pub mod exclude;
mod hand;
pub mod path;
mod pool;
mod volume;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Builder};

use anyhow::Result;
use crossbeam_deque::Worker;
use diagnostics::wording::io_failure;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, openat, statx};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use dir::{Counted, Dir, Opener};
use exclude::Exclude;
use hand::{Hand, Shared, Task};
use pool::Pool;
use volume::Volume;

/// Descriptors left for everything but the walk.
const OTHER_DESCRIPTORS: u64 = 8;
/// Descriptors that a thread needs at least: its directory, that one's parent, and one to move.
const DESCRIPTORS_A_THREAD: usize = 3;
/// Longest part of a path that is looked up in one system call, in bytes.
const MAX_LOOKUP: usize = 2048;

/// What lies below the directories that are asked for.
pub struct Below {
    /// List every entry, not only directories.
    pub entries: bool,
    /// How many levels to go down; `None` for all.
    pub max_depth: Option<usize>,
    /// List mount points, but do not enter them.
    pub one_file_system: bool,
    /// What to leave out.
    pub exclude: Exclude,
    /// Believe link counts on file systems that are not known to keep them.
    pub trust_link_counts: bool,
    /// At most this many threads, at least 1.
    pub threads: usize,
}

/// Is told what the walk finds; one for each thread.
pub trait Visitor: Send {
    /// Moves to directory `name`, `depth` levels below the root (0 for the root, by its name as
    /// given). What stands above has been told before.
    fn directory(&mut self, depth: usize, name: &[u8]);

    /// An entry of the current directory, and the UID of its own inode.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn entry(&mut self, name: &[u8], uid: u32) -> Result<()>;

    /// Something could not be read; the rest is walked all the same.
    fn failure(&mut self, error: anyhow::Error);

    /// There is nothing to do for a while.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn pause(&mut self) -> Result<()>;
}

/// What a path that is asked for turned out to be.
pub enum Root {
    /// A directory, its owner, and the directory for [`walk`].
    Directory(u32, Box<Start>),
    /// No directory, or not there.
    NotADirectory,
}

/// A directory that a walk can start from.
pub struct Start {
    parent: Option<OwnedFd>,
    name: CString,
    path: CString,
    status: Statx,
}

/// Looks at a path that is asked for, following symbolic links.
///
/// # Errors
/// It exists but cannot be looked at: ``failed to stat `PATH`: ...``.
pub fn look(path: &Path) -> Result<Root> {
    match start(path) {
        Ok(start) if is_directory(&start.status) => {
            Ok(Root::Directory(start.status.stx_uid, Box::new(start)))
        }
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Root::NotADirectory),
        Err(error) => Err(io_failure("stat", path, &io::Error::from(error))),
    }
}

fn start(path: &Path) -> Result<Start, Errno> {
    let whole = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let (parent, name) = approach(path)?;
    // What is asked for by name is meant, even if it must be mounted first.
    let base = parent.as_ref().map_or(CWD, AsFd::as_fd);
    let status = statx(base, &name, AtFlags::empty(), hand::DIRECTORY_FIELDS)?;
    Ok(Start { parent, name, path: whole, status })
}

/// Opens what is above the last part of a path that is too long for one system call.
fn approach(path: &Path) -> Result<(Option<OwnedFd>, CString), Errno> {
    let mut rest = path.as_os_str().as_bytes();
    let mut parent: Option<OwnedFd> = None;
    while rest.len() > MAX_LOOKUP {
        let cut = rest[..MAX_LOOKUP].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let part = OsStr::from_bytes(&rest[..=cut]);
        let base = parent.as_ref().map_or(CWD, AsFd::as_fd);
        let next = openat(base, part, flags, Mode::empty())?;
        parent = Some(next);
        let after = &rest[cut + 1..];
        let slashes = after.iter().position(|&b| b != b'/').unwrap_or(after.len());
        rest = &after[slashes..];
    }
    // Nothing but slashes after the cut: the directory itself.
    let name = if rest.is_empty() && parent.is_some() { b"." } else { rest };
    Ok((parent, CString::new(name).map_err(|_| Errno::INVAL)?))
}

fn is_directory(status: &Statx) -> bool {
    rustix::fs::FileType::from_raw_mode(status.stx_mode.into()).is_dir()
}

/// Walks what lies below `start`, which itself is not told, and hands it to visitors made by
/// `visitor`, one for each thread.
///
/// # Errors
/// Only those of the visitors, which end the walk.
pub fn walk<V: Visitor>(
    start: &Start,
    below: &Below,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    if below.max_depth == Some(0) {
        return Ok(());
    }
    let opener = Opener::new();
    let base = start.parent.as_ref().map_or(CWD, AsFd::as_fd);
    let opened = opener.open_root(base, &start.name).and_then(|fd| {
        let status = statx(&fd, c"", AtFlags::EMPTY_PATH, hand::DIRECTORY_FIELDS)?;
        Ok((fd, status))
    });
    let (fd, status) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let path = OsStr::from_bytes(start.path.to_bytes());
            visitor().failure(io_failure("read", path, &io::Error::from(error)));
            return Ok(());
        }
    };
    let descriptors = descriptor_budget();
    let threads = below.threads.clamp(1, (descriptors / DESCRIPTORS_A_THREAD).max(1));
    let stacks: Vec<_> = (0..threads).map(|_| Worker::new_lifo()).collect();
    let pool = Pool::new(&stacks);
    let volume = Volume::of(&fd);
    let shared = Shared {
        pool: &pool,
        below,
        opener: &opener,
        serials: AtomicU64::new(1),
        descriptors_a_thread: (descriptors / threads).max(DESCRIPTORS_A_THREAD),
    };
    let name = start.path.clone().into_boxed_c_str();
    let counted = shared.believed(volume, Counted::of(&status));
    let root = Dir::new(None, name, hand::file_id(&status), volume, 0, counted, fd);
    run(&shared, stacks, Arc::new(root), visitor)
}

/// Starts alone, and calls the other threads once there is enough to do.
fn run<V: Visitor>(
    shared: &Shared<'_>,
    stacks: Vec<Worker<Task>>,
    root: Arc<Dir>,
    visitor: &(dyn Fn() -> V + Sync),
) -> Result<()> {
    thread::scope(|scope| {
        let mut stacks = stacks.into_iter();
        let Some(own) = stacks.next() else { return Ok(()) };
        shared.pool.push(&own, Task::Read(root));
        let mut first = Hand::new(shared, own, visitor());
        let alone = first.work_alone();
        let helpers: Vec<_> = if matches!(alone, Ok(true)) {
            // Where no more threads may be made, those that there are do the work.
            let hand = |own| Hand::new(shared, own, visitor());
            let spawn = |own| Builder::new().spawn_scoped(scope, move || hand(own).work()).ok();
            stacks.map_while(spawn).collect()
        } else {
            Vec::new()
        };
        let mut outcome = alone.and_then(
            |is_unfinished| {
                if is_unfinished { first.work() } else { first.finish() }
            },
        );
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

impl Shared<'_> {
    fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }
}
