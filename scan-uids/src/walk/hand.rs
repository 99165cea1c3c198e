//! What one thread of the walk does: read directories, look at what is in them, and leave the
//! rest as tasks for whoever has time.
//!
//! Every entry is looked at before it is opened, so that mount points are known for what they
//! are and automounts stay asleep. The **link-count rule** saves most of the opening: where a
//! directory's link count is two more than the number of its subdirectories, one with a count of
//! two has none and is never opened, and a directory need not be read beyond its last one.

mod descriptors;
mod look;
mod tell;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use crossbeam_deque::Worker;
use rustix::fs::{AtFlags, RawDir, Statx, StatxFlags, statx};

use super::access::Access;
use super::dir::{Counted, Dir, FileId, InUse, Open};
use super::path::{PathStack, push_raw};
use super::pool::Pool;
use super::rate::Rate;
use super::volume::Volume;
use super::{Below, LinkCounts, Visitor};

/// Bytes of directory entries read at a time: enough to make the system call cheap, little
/// enough to keep what is pending small.
pub const PIECE: usize = 64 * 1024;
/// A directory that fills this much of a piece probably goes on.
const FULL: usize = PIECE / 2;

/// What is asked about directories.
pub const DIRECTORY_FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::UID)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);
const ENTRY_FIELDS: StatxFlags = StatxFlags::TYPE.union(StatxFlags::UID);

/// Something to do.
pub enum Task {
    /// Open a directory in another, and read it.
    Enter(InUse, Box<CStr>, Seen),
    /// Read on in a directory.
    Read(InUse),
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
    /// Opens directories and looks at entries.
    pub access: &'a Access,
    /// How fast entries may be looked at.
    pub rate: Option<&'a Rate>,
    /// The next directory's serial number.
    pub serials: AtomicU64,
    /// How many descriptors a thread may leave open behind it.
    pub descriptors_a_thread: usize,
    /// When the walk started, by the clock of file systems (seconds and nanoseconds since 1970).
    pub started: (i64, u32),
}

impl Shared<'_> {
    /// The link count of a directory, where it tells how many subdirectories there are. Not of one
    /// that was changed since the walk started: within a tick of the clock, another change would
    /// not show.
    pub fn believed(&self, volume: Volume, counted: Counted) -> Option<Counted> {
        let is_old = counted.changed < self.started;
        Some(counted).filter(|counted| self.believes_links(volume) && counted.links >= 2 && is_old)
    }

    fn believes_links(&self, volume: Volume) -> bool {
        !self.below.entries
            && match self.below.link_counts {
                LinkCounts::Never => false,
                LinkCounts::WhereKnown => volume.counts_links,
                LinkCounts::Always => true,
            }
    }

    fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
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
    /// The serial numbers of the directories from the root to where the visitor is.
    current: Vec<u64>,
    buffer: Vec<MaybeUninit<u8>>,
    /// The path of where the visitor is, if some glob is matched against paths.
    path: Option<PathStack>,
    /// Subdirectories of the piece at hand that are to be entered.
    children: Vec<(Box<CStr>, Seen)>,
    /// The directory that was read last: others are found again from there.
    last: Option<Open>,
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
            current: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); PIECE],
            path: shared.below.exclude.needs_paths().then(|| PathStack::new(push_raw)),
            children: Vec::new(),
            last: None,
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
            let visitor = &mut self.visitor;
            match self.shared.pool.next(&self.own, || visitor.pause()) {
                Ok(None) => break self.visitor.pause(),
                Err(error) => break Err(error),
                Ok(Some(task)) => {
                    if let Err(error) = self.run(task) {
                        break Err(error);
                    }
                }
            }
        };
        if outcome.is_err() {
            self.shared.pool.stop();
        }
        outcome
    }

    /// Works until there is something to do for others (true), or the walk is done (false).
    ///
    /// # Errors
    /// The visitor's.
    pub fn work_alone(&mut self) -> Result<bool> {
        while let Some(task) = self.own.pop() {
            self.run(task)?;
            if self.shared.pool.has_several() {
                return Ok(true);
            }
        }
        self.visitor.pause().map(|()| false)
    }

    fn run(&mut self, task: Task) -> Result<()> {
        let outcome = match task {
            Task::Enter(parent, name, seen) => self.enter(parent, name, &seen),
            Task::Read(dir) => self.read(&dir, true),
        };
        self.shared.pool.done();
        outcome
    }

    fn enter(&mut self, parent: InUse, name: Box<CStr>, seen: &Seen) -> Result<()> {
        // Opening and reading may take long.
        self.visitor.breathe()?;
        let Some(fd) = self.open(&parent, &name) else { return Ok(()) };
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
                self.refuse_loop(&parent, &name);
                return Ok(());
            }
        }
        let volume = if crosses_mount { Volume::of(&fd) } else { parent.volume };
        if crosses_mount && volume.is_pseudo && !parent.volume.is_pseudo {
            return Ok(());
        }
        let serial = self.shared.next_serial();
        let counted = self.shared.believed(volume, counted);
        let above = Some((*parent).clone());
        // After its last child, the parent is closed before that child is read.
        drop(parent);
        let dir = Dir::new(above, name, id, volume, serial, counted, fd);
        self.read(&InUse::new(dir), seen.is_huge)
    }

    /// Reads a directory, or a piece of it, looks at what is in it, and leaves the rest as tasks.
    fn read(&mut self, dir: &InUse, is_huge: bool) -> Result<()> {
        if dir.is_complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.move_to(dir);
        let goes_on = self.with_descriptor(dir, |hand, fd| hand.read_piece(dir, fd, is_huge))?;
        if goes_on == Some(true) {
            self.shared.pool.push(&self.own, Task::Read(dir.clone()));
        }
        if goes_on == Some(true) || !self.children.is_empty() {
            self.leave_open(dir);
        }
        // The newest task is taken first: push in reverse to go in the order of the directory.
        while let Some((name, seen)) = self.children.pop() {
            self.shared.pool.push(&self.own, Task::Enter(dir.clone(), name, seen));
        }
        Ok(())
    }

    /// The loop over one piece; whether the directory probably goes on after it.
    ///
    /// Of a huge directory the next piece is offered to others as soon as this one is read, so
    /// that all threads can look at its entries.
    fn read_piece(&mut self, dir: &InUse, fd: BorrowedFd<'_>, is_huge: bool) -> Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.read_into(&mut buffer, dir, fd, is_huge);
        self.buffer = buffer;
        outcome
    }

    fn read_into(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        dir: &InUse,
        fd: BorrowedFd<'_>,
        is_huge: bool,
    ) -> Result<bool> {
        let mut raw = RawDir::new(fd, buffer);
        let mut bytes = 0;
        loop {
            match raw.next() {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.fail_in("read", dir, error);
                    return Ok(false);
                }
                Some(Ok(entry)) => {
                    if bytes == 0 && is_huge {
                        self.shared.pool.push(&self.own, Task::Read(dir.clone()));
                    }
                    bytes += 24 + entry.file_name().to_bytes().len();
                    self.look(dir, fd, &entry)?;
                }
            }
            if raw.is_buffer_empty() && (is_huge || bytes >= FULL) {
                let is_complete = dir.has_no_more_subdirectories(fd);
                return Ok(!is_huge && !is_complete);
            }
        }
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
