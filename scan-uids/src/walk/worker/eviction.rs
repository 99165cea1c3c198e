//! Keeps a worker within its share of file descriptors.
//!
//! 1. A directory with tasks left stays open.
//! 2. Beyond the share, or when the process has no free descriptor, the oldest one is evicted: closed,
//!    with its position remembered.
//! 3. When a task needs it again, it is reopened (`dir/descriptor.rs`).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use rustix::io::Errno;

use super::Worker;
use crate::walk::Visitor;
use crate::walk::dir::{Dir, DirInUse, OpenDir};

impl<V: Visitor> Worker<'_, V> {
    /// Opens a subdirectory; evicts directories if no descriptor is left. Failures are reported.
    pub(super) fn open(&mut self, parent: &DirInUse, name: &CStr) -> Option<OwnedFd> {
        loop {
            let found =
                parent.fd(self.shared.syscalls, self.ancestors_to_keep(), self.last_read.as_ref());
            let opened = match found {
                Ok(found) => {
                    self.keep_all_open(&found.reopened);
                    self.shared.syscalls.open(found.fd.as_fd(), name)
                }
                Err(Errno::MFILE | Errno::NFILE) => Err(Errno::MFILE),
                Err(error) => {
                    self.report_lost(parent, error);
                    return None;
                }
            };
            match opened {
                Ok(fd) => return Some(fd),
                Err(Errno::MFILE | Errno::NFILE) if self.evict_oldest() => {}
                Err(error) => {
                    self.report_failure("read", parent, name, error);
                    return None;
                }
            }
        }
    }

    /// Calls `read` with the descriptor of `dir`; evicts other directories if none is left.
    /// Returns `None` if `dir` cannot be opened again, which is reported.
    ///
    /// # Errors
    /// Fails if `read` does.
    pub(super) fn with_descriptor<T>(
        &mut self,
        dir: &DirInUse,
        read: impl Fn(&mut Self, BorrowedFd<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (syscalls, keep) = (self.shared.syscalls, self.ancestors_to_keep());
        loop {
            let nearby = self.last_read.clone();
            match dir.with_fd(syscalls, keep, nearby.as_ref(), |fd| read(self, fd)) {
                Ok((outcome, found)) => {
                    self.keep_all_open(&found.reopened);
                    self.last_read = Some(OpenDir { dir: (**dir).clone(), fd: found.fd });
                    return outcome.map(Some);
                }
                Err(Errno::MFILE | Errno::NFILE) if self.evict_oldest() => {}
                Err(error) => {
                    self.report_lost(dir, error);
                    return Ok(None);
                }
            }
        }
    }

    /// Reports, once for each directory, that it cannot be read any further. This is a failure
    /// even if the directory has vanished: what it held, or holds in its new place, is missing.
    fn report_lost(&mut self, dir: &Dir, error: Errno) {
        if !dir.is_reported_lost.swap(true, Ordering::Relaxed) {
            self.report("continue reading", &dir.path(), error);
        }
    }

    /// Returns how many ancestors of a reopened directory to keep open as well.
    fn ancestors_to_keep(&self) -> usize {
        self.shared.descriptors_per_thread / 4
    }

    /// Keeps a directory open for its tasks, and evicts older ones beyond this worker's share.
    pub(super) fn keep_open(&mut self, dir: &Arc<Dir>) {
        self.kept_open.push_back(Arc::downgrade(dir));
        // Three more are for the directory being read, its subdirectory, and the one read before.
        let limit =
            self.shared.descriptors_per_thread.saturating_sub(3 + self.ancestors_to_keep()).max(1);
        self.added_since_pruned += 1;
        if self.kept_open.len() > limit && self.added_since_pruned > limit / 2 {
            // Most have no task left and are closed: those need no eviction.
            self.kept_open.retain(|dir| dir.upgrade().is_some_and(|dir| dir.is_open()));
            self.added_since_pruned = 0;
        }
        while self.kept_open.len() > limit && self.evict_oldest() {}
    }

    fn keep_all_open(&mut self, dirs: &[Arc<Dir>]) {
        dirs.iter().for_each(|dir| self.keep_open(dir));
    }

    /// Evicts the oldest directory that can be; returns false if there is none.
    fn evict_oldest(&mut self) -> bool {
        for _ in 0..self.kept_open.len() {
            let Some(oldest) = self.kept_open.pop_front() else { break };
            match oldest.upgrade() {
                Some(dir) if dir.evict() => return true,
                Some(dir) if dir.is_open() => self.kept_open.push_back(oldest),
                _ => {}
            }
        }
        false
    }
}
