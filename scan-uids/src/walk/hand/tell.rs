//! Telling the visitor where a thread is, and what went wrong there.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use diagnostics::wording::io_failure;
use rustix::io::Errno;

use super::Hand;
use crate::walk::Visitor;
use crate::walk::dir::Dir;

impl<V: Visitor> Hand<'_, V> {
    /// Moves the visitor to `dir`.
    pub(super) fn move_to(&mut self, dir: &Dir) {
        let mut ahead = Vec::new();
        let mut at = dir;
        while self.current.get(at.depth) != Some(&at.serial) {
            ahead.push(at);
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        if ahead.is_empty() && self.current.len() > dir.depth + 1 {
            ahead.push(dir); // Back to a directory above.
        }
        for dir in ahead.into_iter().rev() {
            self.current.truncate(dir.depth);
            self.current.push(dir.serial);
            self.visitor.directory(dir.depth, dir.name.to_bytes());
            if let Some(path) = &mut self.path {
                path.set(dir.depth, dir.name.to_bytes());
            }
        }
    }

    /// Reports a failure with an entry of `dir`, unless it has merely vanished meanwhile.
    pub(super) fn fail(&mut self, operation: &str, dir: &Dir, name: &CStr, error: Errno) {
        if is_gone(error) {
            return self.visitor.vanished();
        }
        self.report(operation, &dir.path_of(name), error);
    }

    /// Reports a failure with `dir` itself, unless it has vanished.
    pub(super) fn fail_in(&mut self, operation: &str, dir: &Dir, error: Errno) {
        if is_gone(error) {
            return self.visitor.vanished();
        }
        self.report(operation, &dir.path(), error);
    }

    pub(super) fn report(&mut self, operation: &str, path: &[u8], error: Errno) {
        let path = OsStr::from_bytes(path);
        self.visitor.failure(io_failure(operation, path, &io::Error::from(error)));
    }
}

/// What errors say of an entry that was replaced or removed since its directory was read.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}
