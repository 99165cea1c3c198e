//! What one thread of the walk does: read directories, look at what is in them, and leave the
//! rest as tasks for whoever has time.
//!
//! Every entry is looked at before it is opened, so that mount points are known for what they
//! are and automounts stay asleep. The **link-count rule** saves most of the opening: where a
//! directory's link count is two more than the number of its subdirectories, one with a count of
//! two has none and is never opened, and a directory need not be read beyond its last one.

mod descriptors;
mod look;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_deque::Worker;
use diagnostics::wording::io_failure;
use rustix::fs::{AtFlags, RawDir, Statx, StatxFlags, statx};
use rustix::io::Errno;

use super::dir::{Counted, Dir, FileId, Opener};
use super::path::PathStack;
use super::pool::Pool;
use super::volume::Volume;
use super::{Below, Visitor};

/// Bytes of directory entries read at a time: enough to make the system call cheap, little
/// enough to keep what is pending small.
const PIECE: usize = 64 * 1024;
/// A directory that fills this much of a piece probably goes on.
const FULL: usize = PIECE / 2;
/// A thread works alone until this many tasks wait, or until this much time has passed.
const ALONE: (usize, Duration) = (32, Duration::from_millis(2));

/// What is asked about directories.
pub const DIRECTORY_FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::UID)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);
const ENTRY_FIELDS: StatxFlags = StatxFlags::TYPE.union(StatxFlags::UID);

/// Something to do.
pub enum Task {
    /// Open a directory and read it.
    Enter(Arc<Dir>, Box<CStr>, Seen),
    /// Read on in an open directory.
    Read(Arc<Dir>),
}

/// What is known of a directory before it is opened.
pub struct Seen {
    id: FileId,
    counted: Counted,
    crosses_mount: bool,
    /// Opening it may have mounted something else there.
    may_automount: bool,
    is_huge: bool,
}

/// What the threads of a walk share.
pub struct Shared<'a> {
    /// The tasks.
    pub pool: &'a Pool<Task>,
    /// What is asked for.
    pub below: &'a Below,
    /// Opens directories.
    pub opener: &'a Opener,
    /// The next directory's serial number.
    pub serials: AtomicU64,
    /// How many descriptors a thread may leave open behind it.
    pub descriptors_a_thread: usize,
}

impl Shared<'_> {
    /// The link count of a directory, where it tells how many subdirectories there are.
    pub fn believed(&self, volume: Volume, counted: Counted) -> Option<Counted> {
        Some(counted).filter(|counted| self.believes_links(volume) && counted.links >= 2)
    }

    fn believes_links(&self, volume: Volume) -> bool {
        !self.below.entries && (volume.counts_links || self.below.trust_link_counts)
    }
}

/// The device and inode number of what was looked at.
pub fn file_id(status: &Statx) -> FileId {
    (status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

/// One thread of the walk.
pub struct Hand<'a, V> {
    shared: &'a Shared<'a>,
    own: Worker<Task>,
    visitor: V,
    path: PathStack,
    /// The serial numbers of the directories that `path` leads through.
    current: Vec<u64>,
    buffer: Vec<MaybeUninit<u8>>,
    /// Directories left open for their children, oldest first.
    left_open: VecDeque<Weak<Dir>>,
    /// How many were left open since the list was last rid of those that are done with.
    since_pruned: usize,
}

impl<'a, V: Visitor> Hand<'a, V> {
    /// A thread with its own stack and visitor.
    pub fn new(shared: &'a Shared<'a>, own: Worker<Task>, visitor: V) -> Self {
        Self {
            shared,
            own,
            visitor,
            path: PathStack::new(|out, name| out.extend_from_slice(name)),
            current: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); PIECE],
            left_open: VecDeque::new(),
            since_pruned: 0,
        }
    }

    /// Works until the walk is done.
    ///
    /// # Errors
    /// The visitor's, which end the walk for all threads.
    pub fn work(&mut self) -> Result<()> {
        let outcome = loop {
            let mut paused = Ok(());
            let visitor = &mut self.visitor;
            let task = self.shared.pool.next(&self.own, || paused = visitor.pause());
            if paused.is_err() {
                break paused;
            }
            let Some(task) = task else { break self.visitor.pause() };
            if let Err(error) = self.run(task) {
                break Err(error);
            }
        };
        if outcome.is_err() {
            self.shared.pool.stop();
        }
        outcome
    }

    /// Works until the walk is done (false) or there is work for others (true).
    ///
    /// # Errors
    /// As [`work`](Self::work).
    pub fn work_alone(&mut self) -> Result<bool> {
        let start = Instant::now();
        while let Some(task) = self.own.pop() {
            self.run(task)?;
            let waiting = self.shared.pool.pending();
            if waiting >= ALONE.0 || waiting > 0 && start.elapsed() >= ALONE.1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends a walk that needed no other threads.
    ///
    /// # Errors
    /// The visitor's.
    pub fn finish(&mut self) -> Result<()> {
        self.visitor.pause()
    }

    fn run(&mut self, task: Task) -> Result<()> {
        let outcome = match task {
            Task::Enter(parent, name, seen) => self.enter(&parent, name, &seen),
            Task::Read(dir) => self.read(&dir, true),
        };
        self.shared.pool.done();
        outcome
    }

    fn enter(&mut self, parent: &Arc<Dir>, name: Box<CStr>, seen: &Seen) -> Result<()> {
        let Some(fd) = self.open(parent, &name) else { return Ok(()) };
        let (mut id, mut counted, mut crosses_mount) = (seen.id, seen.counted, seen.crosses_mount);
        if seen.may_automount
            && let Ok(status) = statx(&fd, c"", AtFlags::EMPTY_PATH, DIRECTORY_FIELDS)
            && file_id(&status) != seen.id
        {
            if self.shared.below.one_file_system {
                return Ok(());
            }
            (id, counted, crosses_mount) = (file_id(&status), Counted::of(&status), true);
            if parent.is_within(id) {
                self.move_to(parent);
                self.refuse_loop(&name);
                return Ok(());
            }
        }
        let volume = if crosses_mount { Volume::of(&fd) } else { parent.volume };
        if crosses_mount && volume.is_pseudo && !parent.volume.is_pseudo {
            return Ok(());
        }
        let serial = self.shared.next_serial();
        let counted = self.shared.believed(volume, counted);
        let dir = Dir::new(Some(parent.clone()), name, id, volume, serial, counted, fd);
        self.read(&Arc::new(dir), seen.is_huge)
    }

    /// Reads a piece of a directory, looks at what is in it, and leaves the rest as tasks.
    fn read(&mut self, dir: &Arc<Dir>, is_huge: bool) -> Result<()> {
        if dir.is_complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.move_to(dir);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut children = Vec::new();
        let (opener, keep) = (self.shared.opener, self.keep());
        let read = loop {
            let piece =
                |fd: BorrowedFd<'_>| self.read_piece(dir, fd, &mut buffer, is_huge, &mut children);
            match dir.reading(opener, keep, piece) {
                Err(Errno::MFILE | Errno::NFILE) if self.give_up_oldest() => {}
                outcome => break outcome,
            }
        };
        self.buffer = buffer;
        let goes_on = match read {
            Ok((outcome, reopened)) => {
                self.leave_all_open(&reopened);
                outcome?
            }
            Err(error) => {
                self.lose(dir, error);
                false
            }
        };
        if goes_on {
            self.shared.pool.push(&self.own, Task::Read(dir.clone()));
        }
        if goes_on || !children.is_empty() {
            self.leave_open(dir);
        }
        // The newest task is taken first: push in reverse to go in the order of the directory.
        for (name, seen) in children.into_iter().rev() {
            self.shared.pool.push(&self.own, Task::Enter(dir.clone(), name, seen));
        }
        Ok(())
    }

    /// The loop over one piece; whether the directory probably goes on after it.
    ///
    /// Of a huge directory the next piece is offered to others as soon as this one is read, so
    /// that all threads can look at its entries.
    fn read_piece(
        &mut self,
        dir: &Arc<Dir>,
        fd: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
        is_huge: bool,
        children: &mut Vec<(Box<CStr>, Seen)>,
    ) -> Result<bool> {
        let mut raw = RawDir::new(fd, buffer);
        let mut bytes = 0;
        loop {
            match raw.next() {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.fail_here("read", error);
                    return Ok(false);
                }
                Some(Ok(entry)) => {
                    if bytes == 0 && is_huge {
                        self.shared.pool.push(&self.own, Task::Read(dir.clone()));
                    }
                    bytes += 24 + entry.file_name().to_bytes().len();
                    if self.look(dir, fd, &entry, children)?.is_break() {
                        return Ok(false);
                    }
                }
            }
            if raw.is_buffer_empty() && (is_huge || bytes >= FULL) {
                return Ok(!is_huge);
            }
        }
    }

    /// Makes `dir` the current directory, of the visitor too.
    fn move_to(&mut self, dir: &Dir) {
        let mut ahead = Vec::new();
        let mut at = dir;
        while self.current.get(at.depth) != Some(&at.serial) {
            ahead.push(at);
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        if ahead.is_empty() && self.current.len() > dir.depth + 1 {
            ahead.push(dir); // Back to a directory that the path leads through.
        }
        for dir in ahead.into_iter().rev() {
            self.current.truncate(dir.depth);
            self.current.push(dir.serial);
            self.path.set(dir.depth, dir.name.to_bytes());
            self.visitor.directory(dir.depth, dir.name.to_bytes());
        }
    }

    /// Reports a failure with an entry of `dir`, unless it has merely vanished meanwhile.
    fn fail(&mut self, operation: &str, dir: &Dir, name: &CStr, error: Errno) {
        if is_gone(error) {
            return;
        }
        self.move_to(dir);
        self.report(operation, &self.path_of(name), error);
    }

    /// The path of an entry of the current directory.
    fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = Vec::new();
        self.path.push_child(&mut path, name.to_bytes());
        path
    }

    /// Reports a failure with the current directory.
    fn fail_here(&mut self, operation: &str, error: Errno) {
        if !is_gone(error) {
            let path = self.path.text().to_vec();
            self.report(operation, &path, error);
        }
    }

    fn report(&mut self, operation: &str, path: &[u8], error: Errno) {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(path);
        self.visitor.failure(io_failure(operation, path, &io::Error::from(error)));
    }
}

impl<V> Drop for Hand<'_, V> {
    /// A thread that panics leaves a task undone, for which the others would wait for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.pool.stop();
        }
    }
}

/// What errors say of an entry that was replaced or removed since its directory was read.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::STALE)
}
