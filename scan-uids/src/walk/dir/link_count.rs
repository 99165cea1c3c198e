//! The link-count rule for one directory: counts down its subdirectories as they are found, so that
//! reading can stop after the last one.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

use super::Dir;

/// A point in time by the clock of file systems, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, in nanoseconds.
    pub nanos: u32,
}

/// The link count of a directory, and when the directory was last changed at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCount {
    /// Two more than the number of subdirectories, where the rule holds.
    pub links: u32,
    /// The time of the last change.
    pub changed: FileTime,
}

impl LinkCount {
    /// The link count of a file whose count and time of change were asked for.
    pub fn of(status: &Statx) -> Self {
        // Not the time of modification, which programs set back.
        let time = &status.stx_ctime;
        let changed = FileTime { seconds: time.tv_sec, nanos: time.tv_nsec };
        Self { links: status.stx_nlink, changed }
    }
}

impl Dir {
    /// Counts a subdirectory that was found.
    pub fn count_subdir(&self) {
        if self.link_count.is_some() {
            self.subdirs_left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Checks whether the entries read so far hold all subdirectories.
    ///
    /// The count is valid only if the directory has not been changed since its links were counted:
    /// new subdirectories would otherwise use up the count of older ones that are still to come.
    /// That the kernel did not fill the buffer proves nothing: a signal can end a read early.
    pub fn check_all_subdirs_found(&self, fd: BorrowedFd<'_>) -> bool {
        if self.subdirs_left.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let is_unchanged = self.is_unchanged(fd);
        if is_unchanged {
            self.has_all_subdirs.store(true, Ordering::Relaxed);
        } else {
            self.subdirs_left.store(i64::MAX, Ordering::Relaxed);
        }
        is_unchanged
    }

    fn is_unchanged(&self, fd: BorrowedFd<'_>) -> bool {
        let fields = StatxFlags::NLINK | StatxFlags::CTIME;
        statx(fd, c"", AtFlags::EMPTY_PATH, fields)
            .is_ok_and(|status| Some(LinkCount::of(&status)) == self.link_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::dir::{DirInfo, FileId};
    use crate::walk::file_system::FileSystem;
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    fn link_count(fd: &OwnedFd) -> LinkCount {
        let fields = StatxFlags::NLINK | StatxFlags::CTIME;
        LinkCount::of(&statx(fd, c"", AtFlags::EMPTY_PATH, fields).unwrap())
    }

    /// A directory that has one subdirectory left to be found, and a descriptor of it.
    fn with_one_left(path: &Path) -> (Dir, OwnedFd) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).unwrap();
        let status = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO).unwrap();
        let info = DirInfo {
            name: c"root".into(),
            id: FileId::of(&status),
            file_system: FileSystem::default(),
            serial: 0,
            link_count: Some(link_count(&fd)),
        };
        let dir = Dir::new(None, info, fd.try_clone().unwrap());
        // Not by the count: not every file system that tests run on has one.
        dir.subdirs_left.store(1, Ordering::Relaxed);
        dir.has_all_subdirs.store(false, Ordering::Relaxed);
        (dir, fd)
    }

    #[test]
    fn an_unchanged_directory_is_complete_with_its_last_subdirectory() {
        let place = tempfile::tempdir().unwrap();
        let (dir, fd) = with_one_left(place.path());
        assert!(!dir.check_all_subdirs_found(fd.as_fd()));
        dir.count_subdir();
        assert!(dir.check_all_subdirs_found(fd.as_fd()));
        assert!(dir.has_all_subdirs.load(Ordering::Relaxed));
    }

    #[test]
    fn a_directory_that_has_changed_is_read_to_its_end() {
        let place = tempfile::tempdir().unwrap();
        let (dir, fd) = with_one_left(place.path());
        let before = link_count(&fd);
        // Changes within one tick of the clock have the same time.
        e2e::wait_for("a change to show", || {
            let name = place.path().join("new");
            fs::create_dir(&name).and_then(|()| fs::remove_dir(&name)).unwrap();
            link_count(&fd) != before
        });
        dir.count_subdir();
        assert!(!dir.check_all_subdirs_found(fd.as_fd()), "what was found may be new");
        dir.count_subdir();
        assert!(!dir.check_all_subdirs_found(fd.as_fd()), "the count is void for good");
        assert!(!dir.has_all_subdirs.load(Ordering::Relaxed));
    }
}
