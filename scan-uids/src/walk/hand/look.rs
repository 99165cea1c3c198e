//! Looking at one entry: is it listed, is it entered, and can another subdirectory follow?

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::wording::one_line;
use rustix::fs::{AtFlags, FileType, RawDirEntry, Statx, StatxAttributes};

use super::{DIRECTORY_FIELDS, ENTRY_FIELDS, Hand, PIECE, Seen, file_id};
use crate::walk::Visitor;
use crate::walk::dir::{Counted, Dir};
use crate::walk::rate::Rate;
use crate::walk::root::is_directory;

/// What is found is not kept back for longer than this.
const LONG_WAIT: Duration = Duration::from_millis(50);

impl<V: Visitor> Hand<'_, V> {
    /// Looks at one entry.
    pub(super) fn look(
        &mut self,
        dir: &Dir,
        fd: BorrowedFd<'_>,
        entry: &RawDirEntry<'_>,
    ) -> Result<()> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        let lists_all = self.shared.below.entries;
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !may_be_directory && !lists_all {
            return Ok(());
        }
        self.keep_to_the_rate()?;
        let fields = if may_be_directory { DIRECTORY_FIELDS } else { ENTRY_FIELDS };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let status = match self.shared.access.look(fd, name, flags, fields) {
            Ok(status) => status,
            Err(error) => {
                self.fail("stat", dir, name, error);
                return Ok(());
            }
        };
        if !is_directory(&status) {
            return if lists_all {
                self.visitor.entry(name.to_bytes(), status.stx_uid, false)
            } else {
                Ok(())
            };
        }
        dir.count_down();
        if self.is_excluded(name) {
            return Ok(());
        }
        self.visitor.entry(name.to_bytes(), status.stx_uid, true)?;
        if let Some(seen) = self.plan_to_enter(dir, name, &status) {
            self.children.push((name.into(), seen));
        }
        Ok(())
    }

    /// Waits until another entry may be looked at.
    fn keep_to_the_rate(&mut self) -> Result<()> {
        let Some(mut wait) = self.shared.rate.and_then(Rate::take) else { return Ok(()) };
        if wait >= LONG_WAIT {
            self.visitor.pause()?;
        }
        while !wait.is_zero() && !self.shared.pool.is_stopped() {
            let part = wait.min(LONG_WAIT);
            thread::sleep(part);
            wait -= part;
        }
        Ok(())
    }

    /// Tells that an entry of `dir` is mounted from above it.
    pub(super) fn refuse_loop(&mut self, dir: &Dir, name: &CStr) {
        let path = one_line(&dir.path_of(name));
        self.visitor
            .failure(anyhow!("failed to enter `{path}`: a directory above it is mounted there"));
    }

    fn is_excluded(&self, name: &CStr) -> bool {
        let below = self.shared.below;
        (!below.snapshots && is_snapshots(name))
            || below.exclude.matches(name.to_bytes(), |path| {
                self.path.iter().for_each(|stack| stack.push_child(path, name.to_bytes()));
            })
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
            self.refuse_loop(dir, name);
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

/// Whether NetApp and others, or ZFS, call the directory of their snapshots that: each of these
/// holds the whole file system once more.
fn is_snapshots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b".snapshot" | b".zfs")
}
