//! Keeping within a thread's share of descriptors: which directories stay open for their children,
//! and which are given up and found again.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::Hand;
use crate::walk::Visitor;
use crate::walk::dir::Dir;

impl<V: Visitor> Hand<'_, V> {
    /// Opens a child, with descriptors given up if there are none left. Failures are told.
    pub(super) fn open(&mut self, parent: &Arc<Dir>, name: &CStr) -> Option<OwnedFd> {
        loop {
            let found = parent.fd(self.shared.opener, self.keep());
            let opened = match found {
                Ok((fd, reopened)) => {
                    self.leave_all_open(&reopened);
                    self.shared.opener.open(fd.as_fd(), name)
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

    /// Tells, once, that a directory cannot be gone on with. Even if it is gone: part of what was
    /// in it is missing, or what is below it wherever it was moved to.
    pub(super) fn lose(&mut self, dir: &Dir, error: Errno) {
        if !dir.is_lost.swap(true, Ordering::Relaxed) {
            self.move_to(dir);
            let path = self.path.text().to_vec();
            self.report("read on in", &path, error);
        }
    }

    /// How many directories above one that is opened again to keep open as well.
    pub(super) fn keep(&self) -> usize {
        self.shared.descriptors_a_thread / 4
    }

    /// Keeps a directory open for its children, and gives up older ones beyond our share.
    pub(super) fn leave_open(&mut self, dir: &Arc<Dir>) {
        self.left_open.push_back(Arc::downgrade(dir));
        // Beside these: the directory being read, its child, and what is opened again.
        let limit = self.shared.descriptors_a_thread.saturating_sub(2 + self.keep()).max(1);
        self.since_pruned += 1;
        if self.left_open.len() > limit && self.since_pruned > limit / 2 {
            // Most are done with and closed already: those need no giving up.
            self.left_open.retain(|dir| dir.strong_count() > 0);
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
