//! One thread of the walk: reads directories, stats their entries, and leaves subdirectories as
//! tasks for any thread.
//!
//! For each task:
//! 1. Take this worker's newest task, or else another worker's oldest.
//! 2. Enter: open the subdirectory relative to its parent. Drop the parent, which closes it if
//!    this was its last task.
//! 3. Read up to 64 KiB of entries. If the directory is huge, or is read on, push a task to read
//!    on before anything else, so that all threads share its entries.
//! 4. Stat each entry before it is opened: mount points are recognised and automounts stay
//!    unmounted. Report it to the visitor.
//! 5. Decide whether to read on: no further subdirectory can follow if the link count says so.
//! 6. Push a task to read on, if needed, and then one task for each subdirectory to enter. The
//!    newest task runs first, so subdirectories come before the rest of their parent: pending
//!    tasks are bounded by the depth of the tree, not by the size of its directories.
//!
//! The **link-count rule** of steps 4 and 5 saves most system calls. On many file systems a
//! directory's link count is two more than its number of subdirectories. Then a directory with a
//! count of 2 is never opened, and no directory is read beyond its last subdirectory.

mod entry;
mod eviction;
mod reports;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rustix::fs::{AtFlags, RawDir, StatxFlags, statx};

use super::dir::{Dir, DirInUse, DirInfo, FileId, FileTime, LinkCount, OpenDir};
use super::file_system::FileSystem;
use super::path_stack::{PathStack, push_raw};
use super::pool::{Deque, Pool};
use super::rate_limit::RateLimit;
use super::syscalls::Syscalls;
use super::{Options, TrustLinkCounts, Visitor};

/// Bytes of directory entries read at a time: enough to make the system call cheap, little
/// enough to keep the number of pending tasks small.
pub const BUFFER_SIZE: usize = 64 * 1024;
/// A directory that fills this much of the buffer probably has more entries.
const PROBABLY_MORE: usize = BUFFER_SIZE / 2;

/// The attributes to ask for where an entry is or may be a directory.
pub const DIRECTORY_FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::UID)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);
/// The attributes to ask for of any other entry.
const ENTRY_FIELDS: StatxFlags = StatxFlags::TYPE.union(StatxFlags::UID);

/// A piece of work for any worker.
pub enum Task {
    /// Open a subdirectory and read it.
    Enter(DirInUse, Subdir),
    /// Read a directory from where reading has stopped.
    Read(DirInUse),
}

/// A directory that was statted and is to be entered.
pub struct Subdir {
    name: Box<CStr>,
    id: FileId,
    link_count: LinkCount,
    crosses_mount: bool,
    /// Opening it may mount another file system on it.
    may_automount: bool,
    is_huge: bool,
}

/// What all workers of a walk share.
pub struct Shared<'a> {
    /// The pending tasks.
    pub pool: &'a Pool<Task>,
    /// The options of the walk.
    pub options: &'a Options,
    /// Opens directories and stats entries.
    pub syscalls: &'a Syscalls,
    /// Limits how many entries a second are statted.
    pub rate_limit: Option<&'a RateLimit>,
    /// The next directory's serial number.
    pub next_serial: AtomicU64,
    /// How many descriptors each worker may hold.
    pub descriptors_per_thread: usize,
    /// When the walk started, by the clock that file systems use.
    pub started: FileTime,
}

impl Shared<'_> {
    /// Returns the link count of a directory if it tells the number of subdirectories. It does
    /// not if the directory was changed since the walk started: another change within the same
    /// tick of the clock would not show.
    pub fn trusted(&self, file_system: FileSystem, link_count: LinkCount) -> Option<LinkCount> {
        let is_old = link_count.changed < self.started;
        (self.trusts_link_counts(file_system) && link_count.links >= 2 && is_old)
            .then_some(link_count)
    }

    fn trusts_link_counts(&self, file_system: FileSystem) -> bool {
        !self.options.entries
            && match self.options.trust_link_counts {
                TrustLinkCounts::Never => false,
                TrustLinkCounts::WhereKnown => file_system.counts_links,
                TrustLinkCounts::Always => true,
            }
    }

    fn take_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// One thread of the walk.
pub struct Worker<'a, V> {
    shared: &'a Shared<'a>,
    tasks: Deque<Task>,
    visitor: V,
    /// Serial numbers of the directories from the root to the visitor's current directory.
    current: Vec<u64>,
    buffer: Vec<MaybeUninit<u8>>,
    /// The path of the visitor's current directory, if a glob is matched against paths.
    path: Option<PathStack>,
    /// Subdirectories to enter, of the entries read last.
    subdirs: Vec<Subdir>,
    /// The directory that was read last: evicted ones are found again from there.
    last_read: Option<OpenDir>,
    /// Directories kept open for their subdirectories, oldest first.
    kept_open: VecDeque<Weak<Dir>>,
    /// How many were added to `kept_open` since closed ones were last removed from it.
    added_since_pruned: usize,
}

impl<'a, V: Visitor> Worker<'a, V> {
    /// A worker with its own tasks and visitor.
    pub fn new(shared: &'a Shared<'a>, tasks: Deque<Task>, visitor: V) -> Self {
        Self {
            shared,
            tasks,
            visitor,
            current: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); BUFFER_SIZE],
            path: shared.options.exclude.needs_paths().then(|| PathStack::new(push_raw)),
            subdirs: Vec::new(),
            last_read: None,
            kept_open: VecDeque::new(),
            added_since_pruned: 0,
        }
    }

    /// Works until the walk has ended.
    ///
    /// # Errors
    /// Fails if the visitor does, and ends the walk for all threads.
    pub fn work(&mut self) -> Result<()> {
        let outcome = loop {
            // Step 1.
            let visitor = &mut self.visitor;
            match self.shared.pool.next(&self.tasks, || visitor.before_idle()) {
                Ok(None) => break self.visitor.before_idle(),
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

    /// Works until another task waits (returns true) or the walk has ended (returns false).
    ///
    /// # Errors
    /// Fails if the visitor does.
    pub fn work_alone(&mut self) -> Result<bool> {
        while let Some(task) = self.tasks.pop() {
            self.run(task)?;
            if self.shared.pool.has_several_tasks() {
                return Ok(true);
            }
        }
        self.visitor.before_idle().map(|()| false)
    }

    fn run(&mut self, task: Task) -> Result<()> {
        let outcome = match task {
            Task::Enter(parent, subdir) => self.enter(parent, subdir),
            Task::Read(dir) => self.read(&dir, true),
        };
        self.shared.pool.task_done();
        outcome
    }

    /// Step 2, and then the others.
    fn enter(&mut self, parent: DirInUse, subdir: Subdir) -> Result<()> {
        self.visitor.before_blocking()?;
        let Subdir { name, mut id, mut link_count, mut crosses_mount, may_automount, is_huge } =
            subdir;
        let Some(fd) = self.open(&parent, &name) else { return Ok(()) };
        if may_automount
            && let Ok(status) = statx(&fd, c"", AtFlags::EMPTY_PATH, DIRECTORY_FIELDS)
            && FileId::of(&status) != id
        {
            if self.shared.options.one_file_system {
                return Ok(());
            }
            (id, link_count, crosses_mount) = (FileId::of(&status), LinkCount::of(&status), true);
            if parent.is_within(id) {
                self.report_loop(&parent, &name);
                return Ok(());
            }
        }
        let file_system = if crosses_mount { FileSystem::of(&fd) } else { parent.file_system };
        if crosses_mount && file_system.is_pseudo && !parent.file_system.is_pseudo {
            return Ok(());
        }
        let serial = self.shared.take_serial();
        let link_count = self.shared.trusted(file_system, link_count);
        let info = DirInfo { name, id, file_system, serial, link_count };
        let above = Some((*parent).clone());
        // Drop before reading: a chain of directories then holds none of them open.
        drop(parent);
        self.read(&DirInUse::new(Dir::new(above, info, fd)), is_huge)
    }

    /// Steps 3 to 6: reads entries of a directory, and pushes tasks for what is left to do.
    fn read(&mut self, dir: &DirInUse, is_huge: bool) -> Result<()> {
        if dir.has_all_subdirs.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.move_to(dir);
        let read_on =
            self.with_descriptor(dir, |worker, fd| worker.read_buffer(dir, fd, is_huge))?;
        // Step 6.
        if read_on == Some(true) {
            self.shared.pool.push(&self.tasks, Task::Read(dir.clone()));
        }
        if read_on == Some(true) || !self.subdirs.is_empty() {
            self.keep_open(dir);
        }
        // Push in reverse: subdirectories are then entered in the order of the directory.
        while let Some(subdir) = self.subdirs.pop() {
            self.shared.pool.push(&self.tasks, Task::Enter(dir.clone(), subdir));
        }
        Ok(())
    }

    /// Steps 3 to 5 with this worker's buffer; returns whether this worker must read on later.
    fn read_buffer(&mut self, dir: &DirInUse, fd: BorrowedFd<'_>, is_huge: bool) -> Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.read_into(&mut buffer, dir, fd, is_huge);
        self.buffer = buffer;
        outcome
    }

    fn read_into(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        dir: &DirInUse,
        fd: BorrowedFd<'_>,
        is_huge: bool,
    ) -> Result<bool> {
        let mut raw = RawDir::new(fd, buffer);
        let mut bytes = 0;
        loop {
            match raw.next() {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.report_failure_of("read", dir, error);
                    return Ok(false);
                }
                Some(Ok(entry)) => {
                    // Step 3: this is the first entry, so the buffer has just been filled.
                    if bytes == 0 && is_huge {
                        self.shared.pool.push(&self.tasks, Task::Read(dir.clone()));
                    }
                    bytes += 24 + entry.file_name().to_bytes().len();
                    // Step 4.
                    self.visit_entry(dir, fd, &entry)?;
                }
            }
            // Step 5, when all entries in the buffer have been visited.
            if raw.is_buffer_empty() && (is_huge || bytes >= PROBABLY_MORE) {
                let is_complete = dir.check_all_subdirs_found(fd);
                return Ok(!is_huge && !is_complete);
            }
        }
    }
}

impl<V> Drop for Worker<'_, V> {
    /// Ends the walk if this thread panics: its task stays pending, and the other threads would
    /// wait for it for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.pool.stop();
        }
    }
}
