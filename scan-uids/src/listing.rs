//! The walk's findings as JSON, with a buffer for each thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use diagnostics::report::Report;
use owner_json::{ObjectWriter, SEPARATOR, push_fragment, push_string};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::walk::Visitor;
use crate::walk::path::PathStack;

/// Output collected by a thread before it is written, in bytes.
const CHUNK: usize = 128 * 1024;
/// Longest time that a finding waits in a thread's buffer while more are found.
const MAX_AGE_MS: i64 = 50;

/// The output that all threads write to, and the report of the run.
pub struct Listing<'r, W> {
    inner: Mutex<Inner<'r, W>>,
}

struct Inner<'r, W> {
    object: ObjectWriter<W>,
    count: u64,
    report: &'r mut Report,
}

impl<'r, W: std::io::Write + Send> Listing<'r, W> {
    /// A listing on `out`, which should not buffer by itself.
    pub fn new(out: W, report: &'r mut Report) -> Self {
        Self { inner: Mutex::new(Inner { object: ObjectWriter::new(out), count: 0, report }) }
    }

    /// Adds a directory by the name it was asked for.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn add_root(&self, name: &[u8], uid: u32) -> Result<()> {
        let mut inner = self.lock();
        inner.count += 1;
        let member = inner.object.member()?;
        push_string(member, name);
        member.extend_from_slice(format!(": {uid}").as_bytes());
        Ok(())
    }

    /// Notes something that was skipped.
    pub fn warn(&self, warning: String) {
        self.lock().report.warn(warning);
    }

    /// Notes a failure that the scan survives.
    pub fn fail(&self, error: &anyhow::Error) {
        self.lock().report.partial_failure("scan-uids", error);
    }

    /// A visitor for one thread.
    pub fn visitor(&self) -> ThreadListing<'_, 'r, W> {
        ThreadListing {
            listing: self,
            buffer: Vec::with_capacity(CHUNK + CHUNK / 8),
            count: 0,
            since: 0,
            prefix: PathStack::new(push_fragment),
            last_uid: (0, b"\": 0".to_vec()),
        }
    }

    /// Closes the object; how many directories or entries it lists.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn finish(self) -> Result<u64> {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.object.finish()?;
        Ok(inner.count)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<'r, W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread has found and not written yet.
pub struct ThreadListing<'l, 'r, W> {
    listing: &'l Listing<'r, W>,
    buffer: Vec<u8>,
    count: u64,
    /// When the oldest finding in the buffer came, in milliseconds.
    since: i64,
    /// The current directory, escaped.
    prefix: PathStack,
    /// The last UID with the text that ends its member: most neighbours have one owner.
    last_uid: (u32, Vec<u8>),
}

impl<W: std::io::Write + Send> Visitor for ThreadListing<'_, '_, W> {
    fn directory(&mut self, depth: usize, name: &[u8]) {
        self.prefix.set(depth, name);
    }

    fn entry(&mut self, name: &[u8], uid: u32) -> Result<()> {
        let now = now_ms();
        if self.count == 0 {
            self.since = now;
        }
        self.buffer.extend_from_slice(SEPARATOR);
        self.buffer.push(b'"');
        self.prefix.push_child(&mut self.buffer, name);
        if self.last_uid.0 != uid {
            self.last_uid = (uid, format!("\": {uid}").into_bytes());
        }
        self.buffer.extend_from_slice(&self.last_uid.1);
        self.count += 1;
        if self.buffer.len() >= CHUNK || now - self.since >= MAX_AGE_MS {
            return self.pause();
        }
        Ok(())
    }

    fn failure(&mut self, error: anyhow::Error) {
        self.listing.fail(&error);
    }

    fn pause(&mut self) -> Result<()> {
        if self.count > 0 {
            let mut inner = self.listing.lock();
            inner.count += self.count;
            inner.object.write_members(&self.buffer, self.count)?;
        }
        self.buffer.clear();
        self.count = 0;
        Ok(())
    }
}

/// A clock good to a few milliseconds, which costs next to nothing to read.
fn now_ms() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::MonotonicCoarse);
    tv_sec * 1000 + tv_nsec / 1_000_000
}
