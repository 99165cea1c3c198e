//! Keeping within a thread's share of descriptors: which directories stay open for their children,
//! and which are given up and found again.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use rustix::io::Errno;

use super::Hand;
use crate::walk::Visitor;
use crate::walk::dir::{Dir, InUse};

impl<V: Visitor> Hand<'_, V> {
    /// Opens a child, with descriptors given up if there are none left. Failures are told.
    pub(super) fn open(&mut self, parent: &InUse, name: &CStr) -> Option<OwnedFd> {
        loop {
            let found = parent.fd(self.shared.access, self.keep(), self.last.as_ref());
            let opened = match found {
                Ok((fd, reopened)) => {
                    self.leave_all_open(&reopened);
                    self.shared.access.open(fd.as_fd(), name)
                }
                Err(Errno::MFILE | Errno::NFILE) => Err(Errno::MFILE),
                Err(error) => {
                    self.lose(parent, error);
                    return None;
                }
            };
            match opened {
                Ok(fd) => return Some(fd),
                Err(Errno::MFILE | Errno::NFILE) if self.give_up_oldest() => {}
                Err(error) => {
                    self.fail("read", parent, name, error);
                    return None;
                }
            }
        }
    }

    /// Reads in a directory, with descriptors given up if there are none left; `None` if that
    /// failed, which is told.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn with_descriptor<T>(
        &mut self,
        dir: &InUse,
        read: impl Fn(&mut Self, BorrowedFd<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (access, keep) = (self.shared.access, self.keep());
        loop {
            let near = self.last.clone();
            match dir.reading(access, keep, near.as_ref(), |fd| read(self, fd)) {
                Ok((outcome, (fd, reopened))) => {
                    self.leave_all_open(&reopened);
                    self.last = Some(((**dir).clone(), fd));
                    return outcome.map(Some);
                }
                Err(Errno::MFILE | Errno::NFILE) if self.give_up_oldest() => {}
                Err(error) => {
                    self.lose(dir, error);
                    return Ok(None);
                }
            }
        }
    }

    /// Tells, once, that a directory cannot be gone on with. Even if it is gone: part of what was
    /// in it is missing, or what is below it wherever it was moved to.
    pub(super) fn lose(&mut self, dir: &Dir, error: Errno) {
        if !dir.is_lost.swap(true, Ordering::Relaxed) {
            self.report("read on in", &dir.path(), error);
        }
    }

    /// How many directories above one that is opened again to keep open as well.
    pub(super) fn keep(&self) -> usize {
        self.shared.descriptors_a_thread / 4
    }

    /// Keeps a directory open for its children, and gives up older ones beyond our share.
    pub(super) fn leave_open(&mut self, dir: &Arc<Dir>) {
        self.left_open.push_back(Arc::downgrade(dir));
        // Beside these: the directory being read, its child, the one read before, and what is
        // opened again.
        let limit = self.shared.descriptors_a_thread.saturating_sub(3 + self.keep()).max(1);
        self.since_pruned += 1;
        if self.left_open.len() > limit && self.since_pruned > limit / 2 {
            // Most are done with and closed already: those need no giving up.
            self.left_open.retain(|dir| dir.upgrade().is_some_and(|dir| dir.is_open()));
            self.since_pruned = 0;
        }
        while self.left_open.len() > limit && self.give_up_oldest() {}
    }

    pub(super) fn leave_all_open(&mut self, dirs: &[Arc<Dir>]) {
        dirs.iter().for_each(|dir| self.leave_open(dir));
    }

    /// Closes the oldest directory that can be spared; false if there is none.
    pub(super) fn give_up_oldest(&mut self) -> bool {
        for _ in 0..self.left_open.len() {
            let Some(oldest) = self.left_open.pop_front() else { break };
            match oldest.upgrade() {
                Some(dir) if dir.give_up_fd() => return true,
                Some(dir) if dir.is_open() => self.left_open.push_back(oldest),
                _ => {}
            }
        }
        false
    }
}
