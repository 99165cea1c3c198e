//! Looking at one entry: is it listed, is it entered, and can another subdirectory follow?

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};
use diagnostics::wording::one_line;
use rustix::fs::{AtFlags, FileType, RawDirEntry, Statx, StatxAttributes, statx};

use super::{DIRECTORY_FIELDS, ENTRY_FIELDS, Hand, PIECE, Seen, file_id};
use crate::walk::dir::{Counted, Dir};
use crate::walk::{Visitor, is_directory};

impl<V: Visitor> Hand<'_, V> {
    /// Looks at one entry; stops when no further subdirectory can follow.
    pub(super) fn look(
        &mut self,
        dir: &Arc<Dir>,
        fd: BorrowedFd<'_>,
        entry: &RawDirEntry<'_>,
        children: &mut Vec<(Box<CStr>, Seen)>,
    ) -> Result<ControlFlow<()>> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(ControlFlow::Continue(()));
        }
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !may_be_directory && !self.shared.below.entries {
            return Ok(ControlFlow::Continue(()));
        }
        let fields = if may_be_directory { DIRECTORY_FIELDS } else { ENTRY_FIELDS };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let status = match statx(fd, name, flags, fields) {
            Ok(status) => status,
            Err(error) => {
                self.fail("stat", dir, name, error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        let is_directory = is_directory(&status);
        if is_directory && self.is_excluded(name) {
            return Ok(self.count_down(dir, fd));
        }
        if is_directory || self.shared.below.entries {
            self.visitor.entry(name.to_bytes(), status.stx_uid)?;
        }
        if !is_directory {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(seen) = self.plan_to_enter(dir, name, &status) {
            children.push((name.into(), seen));
        }
        Ok(self.count_down(dir, fd))
    }

    /// Counts a subdirectory of `dir`, and stops after the last. Subdirectories that were made
    /// since the links were counted use up the count of older ones: only a directory that has
    /// not changed since is complete.
    fn count_down(&self, dir: &Dir, fd: BorrowedFd<'_>) -> ControlFlow<()> {
        if dir.left.load(Ordering::Relaxed) > i64::MAX / 2
            || dir.left.fetch_sub(1, Ordering::Relaxed) > 1
        {
            return ControlFlow::Continue(());
        }
        if dir.is_unchanged(fd) {
            dir.is_complete.store(true, Ordering::Relaxed);
            return ControlFlow::Break(());
        }
        dir.left.store(i64::MAX, Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    /// Tells that an entry of the current directory is mounted from above it.
    pub(super) fn refuse_loop(&mut self, name: &CStr) {
        let path = one_line(&self.path_of(name));
        self.visitor
            .failure(anyhow!("failed to enter `{path}`: a directory above it is mounted there"));
    }

    fn is_excluded(&self, name: &CStr) -> bool {
        self.shared.below.exclude.matches(name.to_bytes(), || self.path_of(name))
    }

    /// What to remember of a directory that is to be entered; nothing if it is not.
    fn plan_to_enter(&mut self, dir: &Dir, name: &CStr, status: &Statx) -> Option<Seen> {
        let below = self.shared.below;
        if below.max_depth.is_some_and(|limit| dir.depth + 1 >= limit) {
            return None;
        }
        let id = file_id(status);
        let crosses_mount = if status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
            status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        } else {
            (id.0, id.1) != (dir.id.0, dir.id.1)
        };
        let is_trigger = status.stx_attributes.contains(StatxAttributes::AUTOMOUNT);
        let leaves = crosses_mount || (id.0, id.1) != (dir.id.0, dir.id.1) || is_trigger;
        if leaves && below.one_file_system {
            return None;
        }
        if crosses_mount && dir.is_within(id) {
            self.refuse_loop(name);
            return None;
        }
        if !crosses_mount && status.stx_nlink == 2 && self.shared.believes_links(dir.volume) {
            return None;
        }
        let is_huge = status.stx_size > PIECE as u64;
        let may_automount = is_trigger || dir.volume.may_automount;
        let counted = Counted::of(status);
        Some(Seen { id, counted, crosses_mount, may_automount, is_huge })
    }
}
