//! What a directory's link count tells: how many subdirectories are still to come.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

use super::Dir;

/// The link count of a directory, and the time of its last change when it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Two more than there are subdirectories.
    pub links: u32,
    /// In seconds and nanoseconds since 1970.
    pub changed: (i64, u32),
}

impl Counted {
    /// What was looked at, with its link count and time of change.
    pub fn of(status: &Statx) -> Self {
        // Not the time of modification, which programs set back.
        let time = &status.stx_ctime;
        Self { links: status.stx_nlink, changed: (time.tv_sec, time.tv_nsec) }
    }
}

impl Dir {
    /// Counts a subdirectory.
    pub fn count_down(&self) {
        if self.counted.is_some() {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether no further subdirectory can follow what was read so far.
    ///
    /// Subdirectories that were made since the links were counted use up the count of older ones,
    /// which may be still to come: so nothing may have changed in the directory since. That the
    /// kernel has not filled the buffer means nothing: a signal is enough for that.
    pub fn has_no_more_subdirectories(&self, fd: BorrowedFd<'_>) -> bool {
        if self.left.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let is_unchanged = self.is_unchanged(fd);
        if is_unchanged {
            self.is_complete.store(true, Ordering::Relaxed);
        } else {
            self.left.store(i64::MAX, Ordering::Relaxed);
        }
        is_unchanged
    }

    fn is_unchanged(&self, fd: BorrowedFd<'_>) -> bool {
        let fields = StatxFlags::NLINK | StatxFlags::CTIME;
        statx(fd, c"", AtFlags::EMPTY_PATH, fields)
            .is_ok_and(|status| Some(Counted::of(&status)) == self.counted)
    }
}
