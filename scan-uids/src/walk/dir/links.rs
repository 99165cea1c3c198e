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
    changed: (i64, u32),
}

impl Counted {
    /// What was looked at, with its link count and time of change.
    pub fn of(status: &Statx) -> Self {
        let time = &status.stx_mtime;
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

    /// Whether no further subdirectory can follow what was read so far; `is_full` if that fills
    /// much of the buffer.
    ///
    /// Subdirectories that were made since the links were counted use up the count of older ones,
    /// which may be still to come. So either the kernel had no more to give, or nothing may have
    /// changed in the directory since. File systems that count links fill the buffer if they can.
    pub fn has_no_more_subdirectories(&self, fd: BorrowedFd<'_>, is_full: bool) -> bool {
        if self.left.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let may_go_on = is_full || !self.volume.counts_links;
        let is_complete = !may_go_on || self.is_unchanged(fd);
        if is_complete {
            self.is_complete.store(true, Ordering::Relaxed);
        } else {
            self.left.store(i64::MAX, Ordering::Relaxed);
        }
        is_complete
    }

    fn is_unchanged(&self, fd: BorrowedFd<'_>) -> bool {
        let fields = StatxFlags::NLINK | StatxFlags::MTIME;
        statx(fd, c"", AtFlags::EMPTY_PATH, fields)
            .is_ok_and(|status| Some(Counted::of(&status)) == self.counted)
    }
}
