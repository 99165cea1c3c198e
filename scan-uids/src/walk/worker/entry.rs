//! Visits one entry of a directory: stats it, reports it, and decides whether to enter it.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::{AtFlags, FileType, RawDirEntry, Statx, StatxAttributes};

use super::{BUFFER_SIZE, DIRECTORY_FIELDS, ENTRY_FIELDS, Subdir, Worker};
use crate::walk::Visitor;
use crate::walk::dir::{Dir, FileId, LinkCount};
use crate::walk::rate_limit::RateLimit;
use crate::walk::root::is_directory;

/// Results are not held back during a sleep of this length or longer.
const LONG_SLEEP: Duration = Duration::from_millis(50);

impl<V: Visitor> Worker<'_, V> {
    /// Visits one entry of `dir`.
    pub(super) fn visit_entry(
        &mut self,
        dir: &Dir,
        fd: BorrowedFd<'_>,
        entry: &RawDirEntry<'_>,
    ) -> Result<()> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        let reports_all = self.shared.options.entries;
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !may_be_directory && !reports_all {
            return Ok(());
        }
        self.wait_for_rate_limit()?;
        let fields = if may_be_directory { DIRECTORY_FIELDS } else { ENTRY_FIELDS };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let status = match self.shared.syscalls.stat(fd, name, flags, fields) {
            Ok(status) => status,
            Err(error) => {
                self.report_failure("stat", dir, name, error);
                return Ok(());
            }
        };
        if !is_directory(&status) {
            return if reports_all {
                self.visitor.entry(name.to_bytes(), status.stx_uid, false)
            } else {
                Ok(())
            };
        }
        dir.count_subdir();
        if self.is_excluded(name) {
            return Ok(());
        }
        self.visitor.entry(name.to_bytes(), status.stx_uid, true)?;
        if let Some(subdir) = self.subdir_to_enter(dir, name, &status) {
            self.subdirs.push(subdir);
        }
        Ok(())
    }

    /// Waits until the rate limit allows one more entry, or the walk is stopped.
    fn wait_for_rate_limit(&mut self) -> Result<()> {
        let Some(mut wait) = self.shared.rate_limit.and_then(RateLimit::reserve) else {
            return Ok(());
        };
        if wait >= LONG_SLEEP {
            self.visitor.before_idle()?;
        }
        while !wait.is_zero() && !self.shared.pool.is_stopped() {
            let part = wait.min(LONG_SLEEP);
            thread::sleep(part);
            wait -= part;
        }
        Ok(())
    }

    fn is_excluded(&self, name: &CStr) -> bool {
        let options = self.shared.options;
        (!options.snapshots && is_snapshot_directory(name))
            || options.exclude.matches(name.to_bytes(), |path| {
                self.path.iter().for_each(|stack| stack.push_child(path, name.to_bytes()));
            })
    }

    /// Returns what a task needs to enter a directory, or `None` if it is not to be entered.
    fn subdir_to_enter(&mut self, dir: &Dir, name: &CStr, status: &Statx) -> Option<Subdir> {
        let options = self.shared.options;
        if options.max_depth.is_some_and(|limit| dir.depth + 1 >= limit) {
            return None;
        }
        let id = FileId::of(status);
        let is_other_device = !id.is_on_device_of(dir.id);
        let crosses_mount = if status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
            status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        } else {
            is_other_device
        };
        let is_automount = status.stx_attributes.contains(StatxAttributes::AUTOMOUNT);
        if (crosses_mount || is_other_device || is_automount) && options.one_file_system {
            return None;
        }
        if crosses_mount && dir.is_within(id) {
            self.report_loop(dir, name);
            return None;
        }
        // The link-count rule: this directory has no subdirectories.
        let has_no_subdirs = status.stx_nlink == 2 && !crosses_mount;
        if has_no_subdirs && self.shared.trusts_link_counts(dir.file_system) {
            return None;
        }
        Some(Subdir {
            name: name.into(),
            id,
            link_count: LinkCount::of(status),
            crosses_mount,
            may_automount: is_automount || dir.file_system.may_automount,
            is_huge: status.stx_size > BUFFER_SIZE as u64,
        })
    }
}

/// Whether a directory has the name that NetApp and others (`.snapshot`) or ZFS (`.zfs`) give to
/// the directory of their snapshots, each of which holds the whole file system once more.
fn is_snapshot_directory(name: &CStr) -> bool {
    matches!(name.to_bytes(), b".snapshot" | b".zfs")
}
