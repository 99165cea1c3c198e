//! What a worker tells its visitor besides entries: the directory that it reads now, failures, and
//! entries that have vanished.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use anyhow::anyhow;
use diagnostics::wording::{io_failure, one_line};
use rustix::io::Errno;

use super::Worker;
use crate::walk::Visitor;
use crate::walk::dir::Dir;

impl<V: Visitor> Worker<'_, V> {
    /// Moves the visitor to `dir`: enters each ancestor that differs, and `dir` itself.
    pub(super) fn move_to(&mut self, dir: &Dir) {
        let mut ahead = Vec::new();
        let mut at = dir;
        while self.current.get(at.depth) != Some(&at.serial) {
            ahead.push(at);
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        if ahead.is_empty() && self.current.len() > dir.depth + 1 {
            ahead.push(dir); // Back to an ancestor.
        }
        for dir in ahead.into_iter().rev() {
            self.current.truncate(dir.depth);
            self.current.push(dir.serial);
            self.visitor.enter_directory(dir.depth, dir.name.to_bytes());
            if let Some(path) = &mut self.path {
                path.set(dir.depth, dir.name.to_bytes());
            }
        }
    }

    /// Reports a failure with an entry of `dir`, or counts it as vanished.
    pub(super) fn report_failure(&mut self, operation: &str, dir: &Dir, name: &CStr, error: Errno) {
        if is_gone(error) {
            return self.visitor.vanished();
        }
        self.report(operation, &dir.path_of(name), error);
    }

    /// Reports a failure with `dir` itself, or counts it as vanished.
    pub(super) fn report_failure_of(&mut self, operation: &str, dir: &Dir, error: Errno) {
        if is_gone(error) {
            return self.visitor.vanished();
        }
        self.report(operation, &dir.path(), error);
    }

    pub(super) fn report(&mut self, operation: &str, path: &[u8], error: Errno) {
        let path = OsStr::from_bytes(path);
        self.visitor.failure(io_failure(operation, path, &io::Error::from(error)));
    }

    /// Reports an entry of `dir` on which one of its own ancestors is mounted.
    pub(super) fn report_loop(&mut self, dir: &Dir, name: &CStr) {
        let path = one_line(&dir.path_of(name));
        self.visitor
            .failure(anyhow!("failed to enter `{path}`: a directory above it is mounted there"));
    }
}

/// Whether the error means that an entry was replaced or removed since its directory was read.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}
