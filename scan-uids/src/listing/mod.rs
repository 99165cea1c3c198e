//! The walk's findings as output, with a buffer for each thread.

pub mod format;
mod sort;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use diagnostics::report::Report;
use owner_json::{ObjectWriter, write_error};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::walk::Visitor;
use crate::walk::path::{PathStack, push_raw};
use format::{Format, Spelling};
use sort::{Sorter, push_record};

/// Output collected by a thread before it is written, in bytes.
const CHUNK: usize = 128 * 1024;
/// Longest time that a finding waits in a thread's buffer while more are found.
const MAX_AGE_MS: i64 = 50;

/// How many of what were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directories that are listed.
    pub directories: u64,
    /// Anything else that is listed.
    pub others: u64,
    /// What was there and was gone when it was looked at or opened.
    pub vanished: u64,
}

impl Counts {
    /// Everything that is listed.
    pub fn listed(&self) -> u64 {
        self.directories + self.others
    }

    fn add(&mut self, more: Self) {
        self.directories += more.directories;
        self.others += more.others;
        self.vanished += more.vanished;
    }
}

/// The output that all threads write to, and the report of the run.
pub struct Listing<'r> {
    spelling: Spelling,
    is_sorted: bool,
    inner: Mutex<Inner<'r>>,
}

struct Inner<'r> {
    out: Out,
    counts: Counts,
    /// Directories that were asked for and are not written yet, and since when.
    roots: (Vec<u8>, u64, i64),
    report: &'r mut Report,
}

/// Where findings go.
enum Out {
    Object(ObjectWriter<File>),
    Records(File),
    Sorted(Sorter, Box<Out>),
}

impl Out {
    /// Takes findings that are spelt as the output wants them, or, to be sorted, as records.
    fn take(&mut self, findings: &[u8], count: u64) -> Result<()> {
        match self {
            _ if count == 0 => Ok(()),
            Self::Object(object) => object.write_members(findings, count),
            Self::Records(file) => file.write_all(findings).map_err(|error| write_error(&error)),
            Self::Sorted(sorter, _) => sorter.add(findings),
        }
    }

    fn finish(self, spelling: &Spelling) -> Result<()> {
        match self {
            Self::Object(object) => object.finish(),
            Self::Records(_) => Ok(()),
            Self::Sorted(sorter, mut out) => {
                let (mut buffer, mut count) = (Vec::with_capacity(CHUNK), 0);
                sorter.finish(|path, uid| {
                    spelling.push(&mut buffer, path, uid);
                    count += 1;
                    if buffer.len() >= CHUNK {
                        out.take(&buffer, count)?;
                        buffer.clear();
                        count = 0;
                    }
                    Ok(())
                })?;
                out.take(&buffer, count)?;
                out.finish(spelling)
            }
        }
    }
}

impl Inner<'_> {
    fn write_roots(&mut self) -> Result<()> {
        let (buffer, count, _) = &mut self.roots;
        let directories = std::mem::take(count);
        let written = self.out.take(buffer, directories);
        buffer.clear();
        self.counts.add(Counts { directories, ..Counts::default() });
        written
    }

    fn take(&mut self, findings: &[u8], counts: Counts) -> Result<()> {
        self.write_roots()?;
        self.counts.add(counts);
        let listed = self.counts.listed();
        self.report.progress().show(|seconds| progress(listed, seconds));
        self.out.take(findings, counts.listed())
    }
}

impl<'r> Listing<'r> {
    /// A listing on `out`, which should not buffer by itself; sorted by path if `sort` says so.
    pub fn new(out: File, format: Format, sort: bool, report: &'r mut Report) -> Self {
        let out = match format {
            Format::Json => Out::Object(ObjectWriter::new(out)),
            _ => Out::Records(out),
        };
        let out = match sort {
            true => Out::Sorted(Sorter::new(temporary_directory()), Box::new(out)),
            false => out,
        };
        let roots = (Vec::new(), 0, 0);
        let inner = Inner { out, counts: Counts::default(), roots, report };
        Self { spelling: format.spelling(), is_sorted: sort, inner: Mutex::new(inner) }
    }

    /// Adds a directory by the name it was asked for.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn add_root(&self, name: &[u8], uid: u32) -> Result<()> {
        let mut inner = self.lock();
        let is_first = inner.counts == Counts::default();
        let (buffer, count, since) = &mut inner.roots;
        let now = now_ms();
        if buffer.is_empty() {
            *since = now;
        }
        if self.is_sorted {
            push_record(buffer, uid, |out| out.extend_from_slice(name));
        } else {
            self.spelling.push(buffer, name, uid);
        }
        *count += 1;
        if is_first || buffer.len() >= CHUNK || now - *since >= MAX_AGE_MS {
            return inner.write_roots();
        }
        Ok(())
    }

    /// Writes the directories that were asked for and found so far, before something that may take
    /// a while.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn flush(&self) -> Result<()> {
        self.lock().write_roots()
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
    pub fn visitor(&self) -> ThreadListing<'_, 'r> {
        let path = if self.is_sorted { push_raw } else { self.spelling.path };
        ThreadListing {
            listing: self,
            buffer: Vec::new(),
            counts: Counts::default(),
            since: 0,
            prefix: PathStack::new(path),
            raw_prefix: self.needs_raw_paths().then(|| PathStack::new(push_raw)),
            last_uid: (0, self.spelling.ending(0)),
        }
    }

    fn needs_raw_paths(&self) -> bool {
        self.spelling.adds_base64 && !self.is_sorted
    }

    /// Completes the output if all went well; what was found in any case.
    pub fn finish(self, outcome: Result<()>) -> (Counts, Result<()>) {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcome
            .and_then(|()| inner.write_roots())
            .and_then(|()| inner.out.finish(&self.spelling));
        (inner.counts, outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<'r>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread has found and not written yet.
pub struct ThreadListing<'l, 'r> {
    listing: &'l Listing<'r>,
    buffer: Vec<u8>,
    counts: Counts,
    /// When the oldest finding in the buffer came, in milliseconds.
    since: i64,
    /// The current directory as it is spelt in the output.
    prefix: PathStack,
    /// The current directory's bytes, where the output may need them too.
    raw_prefix: Option<PathStack>,
    /// The last UID with the text that ends its finding: most neighbours have one owner.
    last_uid: (u32, Vec<u8>),
}

impl ThreadListing<'_, '_> {
    fn push(&mut self, name: &[u8], uid: u32) {
        let spelling = &self.listing.spelling;
        spelling.open(&mut self.buffer);
        self.prefix.push_child(&mut self.buffer, name);
        if let Some(raw) = &self.raw_prefix {
            let mut path = Vec::new();
            raw.push_child(&mut path, name);
            if std::str::from_utf8(&path).is_err() {
                return self.buffer.extend_from_slice(&spelling.ending_with_base64(uid, &path));
            }
        }
        if self.last_uid.0 != uid {
            self.last_uid = (uid, spelling.ending(uid));
        }
        self.buffer.extend_from_slice(&self.last_uid.1);
    }
}

impl Visitor for ThreadListing<'_, '_> {
    fn directory(&mut self, depth: usize, name: &[u8]) {
        self.prefix.set(depth, name);
        if let Some(raw) = &mut self.raw_prefix {
            raw.set(depth, name);
        }
    }

    fn entry(&mut self, name: &[u8], uid: u32, is_directory: bool) -> Result<()> {
        let now = now_ms();
        if self.buffer.is_empty() {
            self.since = now;
        }
        if self.listing.is_sorted {
            push_record(&mut self.buffer, uid, |out| self.prefix.push_child(out, name));
        } else {
            self.push(name, uid);
        }
        *(if is_directory { &mut self.counts.directories } else { &mut self.counts.others }) += 1;
        if self.buffer.len() >= CHUNK || now - self.since >= MAX_AGE_MS {
            return self.pause();
        }
        Ok(())
    }

    fn failure(&mut self, error: anyhow::Error) {
        self.listing.fail(&error);
    }

    fn vanished(&mut self) {
        self.counts.vanished += 1;
    }

    fn breathe(&mut self) -> Result<()> {
        if self.buffer.is_empty() || now_ms() - self.since < MAX_AGE_MS {
            return Ok(());
        }
        self.pause()
    }

    fn pause(&mut self) -> Result<()> {
        let counts = std::mem::take(&mut self.counts);
        if counts == Counts::default() {
            return Ok(());
        }
        let taken = self.listing.lock().take(&self.buffer, counts);
        self.buffer.clear();
        taken
    }
}

/// How far the scan is, in words.
fn progress(listed: u64, seconds: f64) -> String {
    format!("{listed} listed in {seconds:.0} s, {:.0}/s", listed as f64 / seconds)
}

/// A clock good to a few milliseconds, which costs next to nothing to read.
fn now_ms() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::MonotonicCoarse);
    tv_sec * 1000 + tv_nsec / 1_000_000
}

/// `TMPDIR`, or `/tmp` if that is not set, or empty.
fn temporary_directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}
