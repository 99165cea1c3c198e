//! The output buffer of one thread of the walk. It encodes the results of its thread, and writes them to
//! the shared output when it is full, when its oldest result is 50 ms old, or when the thread becomes
//! idle.

use anyhow::Result;

use super::sort::push_sort_record;
use super::{BUFFER_SIZE, Counts, Listing, MAX_AGE_MS, now_ms};
use crate::walk::Visitor;
use crate::walk::path_stack::{PathStack, push_raw};

/// The visitor of one thread, with its buffer.
pub struct ThreadBuffer<'l, 'r> {
    listing: &'l Listing<'r>,
    buffer: Vec<u8>,
    /// Counts of the results in the buffer.
    counts: Counts,
    /// When the oldest result came into the buffer, in milliseconds.
    since: i64,
    /// The path of the current directory, encoded.
    path: PathStack,
    /// The same path as bytes, if the output may need them too.
    raw_path: Option<PathStack>,
    /// The last UID and the end of its record: most neighbours have the same owner.
    last_end: (u32, Vec<u8>),
}

impl<'l, 'r> ThreadBuffer<'l, 'r> {
    /// A visitor with an empty buffer.
    pub fn new(listing: &'l Listing<'r>) -> Self {
        let encoder = &listing.encoder;
        let push_path = if listing.is_sorted { push_raw } else { encoder.push_path };
        let needs_raw_path = encoder.adds_base64 && !listing.is_sorted;
        Self {
            listing,
            buffer: Vec::new(),
            counts: Counts::default(),
            since: 0,
            path: PathStack::new(push_path),
            raw_path: needs_raw_path.then(|| PathStack::new(push_raw)),
            last_end: (0, encoder.end(0)),
        }
    }

    fn push_record(&mut self, name: &[u8], uid: u32) {
        let encoder = &self.listing.encoder;
        encoder.push_start_and_path(&mut self.buffer, |out| self.path.push_child(out, name));
        if let Some(raw_path) = &self.raw_path {
            let mut path = Vec::new();
            raw_path.push_child(&mut path, name);
            if std::str::from_utf8(&path).is_err() {
                return self.buffer.extend_from_slice(&encoder.end_with_base64(uid, &path));
            }
        }
        if self.last_end.0 != uid {
            self.last_end = (uid, encoder.end(uid));
        }
        self.buffer.extend_from_slice(&self.last_end.1);
    }

    fn flush(&mut self) -> Result<()> {
        let counts = std::mem::take(&mut self.counts);
        if counts == Counts::default() {
            return Ok(());
        }
        let written = self.listing.lock().write(&self.buffer, counts);
        self.buffer.clear();
        written
    }
}

impl Visitor for ThreadBuffer<'_, '_> {
    fn enter_directory(&mut self, depth: usize, name: &[u8]) {
        self.path.set(depth, name);
        if let Some(raw_path) = &mut self.raw_path {
            raw_path.set(depth, name);
        }
    }

    fn entry(&mut self, name: &[u8], uid: u32, is_directory: bool) -> Result<()> {
        let now = now_ms();
        if self.buffer.is_empty() {
            self.since = now;
        }
        if self.listing.is_sorted {
            push_sort_record(&mut self.buffer, uid, |out| self.path.push_child(out, name));
        } else {
            self.push_record(name, uid);
        }
        *(if is_directory { &mut self.counts.directories } else { &mut self.counts.others }) += 1;
        if self.buffer.len() >= BUFFER_SIZE || now - self.since >= MAX_AGE_MS {
            return self.flush();
        }
        Ok(())
    }

    fn failure(&mut self, error: anyhow::Error) {
        self.listing.fail(&error);
    }

    fn vanished(&mut self) {
        self.counts.vanished += 1;
    }

    fn before_blocking(&mut self) -> Result<()> {
        if self.buffer.is_empty() || now_ms() - self.since < MAX_AGE_MS {
            return Ok(());
        }
        self.flush()
    }

    fn before_idle(&mut self) -> Result<()> {
        self.flush()
    }
}
