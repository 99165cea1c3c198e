//! `--sort`: an external merge sort of the results by the bytes of their paths, in bounded memory.
//!
//! 1. Collect records (UID, length, path) in memory, up to 16 MiB.
//! 2. When the next does not fit, sort them and write them to a temporary file: a sorted run. The
//!    file has no name, and all runs share it, so one descriptor is enough.
//! 3. At the end, merge all runs with a heap of their first records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;
use diagnostics::wording::io_failure;

/// Records held in memory, in bytes; sorting them takes about a tenth of that in addition.
const MEMORY: usize = 16 * 1024 * 1024;
/// Buffers for reading all runs, in bytes, and the smallest and the largest for one run.
const ALL_BUFFERS: usize = 16 * 1024 * 1024;
const MIN_BUFFER: usize = 4 * 1024;
const MAX_BUFFER: usize = 64 * 1024;
/// Bytes of a record before the path: the UID and the length of the path.
const HEADER: usize = 8;

/// Takes records in any order and returns them sorted.
pub struct Sorter {
    records: Vec<u8>,
    memory: usize,
    directory: PathBuf,
    file: Option<File>,
    runs: Vec<Range<u64>>,
}

/// Appends a record; `path` appends its path.
pub fn push_sort_record(out: &mut Vec<u8>, uid: u32, path: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&uid.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    path(out);
    let length = u32::try_from(out.len() - start - HEADER).expect("a path is shorter than 4 GiB");
    out[start + 4..start + HEADER].copy_from_slice(&length.to_le_bytes());
}

impl Sorter {
    /// A sorter that puts its temporary file into `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self::with_memory(directory, MEMORY)
    }

    fn with_memory(directory: PathBuf, memory: usize) -> Self {
        Self { records: Vec::new(), memory, directory, file: None, runs: Vec::new() }
    }

    /// Adds records made by [`push_sort_record`] (step 1).
    ///
    /// # Errors
    /// Fails if the temporary file cannot be written.
    pub fn add(&mut self, records: &[u8]) -> Result<()> {
        if !self.records.is_empty() && self.records.len() + records.len() > self.memory {
            self.write_run()?;
        }
        self.records.extend_from_slice(records);
        Ok(())
    }

    /// Step 2.
    fn write_run(&mut self) -> Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.directory).map_err(|error| {
                io_failure("create a temporary file for --sort in", &self.directory, &error)
            })?,
        };
        let start = self.runs.last().map_or(0, |run| run.end);
        let mut out = io::BufWriter::with_capacity(256 * 1024, &file);
        let mut length = 0;
        let mut written = Ok(());
        for at in sorted(&self.records) {
            let record = &self.records[at..at + size_of_record(&self.records[at..])];
            length += record.len() as u64;
            written = written.and_then(|()| out.write_all(record));
        }
        written.and_then(|()| out.flush()).map_err(|error| self.failure("write", &error))?;
        drop(out);
        self.file = Some(file);
        self.runs.push(start..start + length);
        self.records.clear();
        Ok(())
    }

    fn failure(&self, operation: &str, error: &io::Error) -> anyhow::Error {
        io_failure(&format!("{operation} a temporary file for --sort in"), &self.directory, error)
    }

    /// Calls `each` for every record, ordered by path and then UID (step 3).
    ///
    /// # Errors
    /// Fails if `each` does, or if the temporary file cannot be read.
    pub fn finish(mut self, mut each: impl FnMut(&[u8], u32) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            for at in sorted(&self.records) {
                let (path, uid) = parse(&self.records[at..]);
                each(path, uid)?;
            }
            return Ok(());
        }
        if !self.records.is_empty() {
            self.write_run()?;
        }
        self.records = Vec::new();
        let capacity = (ALL_BUFFERS / self.runs.len()).clamp(MIN_BUFFER, MAX_BUFFER);
        let mut heap = BinaryHeap::with_capacity(self.runs.len());
        for run in &self.runs {
            let file = self.file.as_ref().expect("made with the first run");
            let section = Section { file, range: run.clone() };
            let mut run = Run::new(BufReader::with_capacity(capacity, section));
            if run.advance().map_err(|error| self.failure("read", &error))? {
                heap.push(Reverse(run));
            }
        }
        while let Some(mut least) = heap.peek_mut() {
            let run = &mut least.0;
            each(&run.path, run.uid)?;
            if !run.advance().map_err(|error| self.failure("read", &error))? {
                PeekMut::pop(least);
            }
        }
        Ok(())
    }
}

/// Returns the offsets of all records, in sorted order.
fn sorted(records: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at < records.len() {
        starts.push(at);
        at += size_of_record(&records[at..]);
    }
    starts.sort_unstable_by(|&a, &b| parse(&records[a..]).cmp(&parse(&records[b..])));
    starts
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn size_of_record(records: &[u8]) -> usize {
    HEADER + number(&records[4..]) as usize
}

fn parse(records: &[u8]) -> (&[u8], u32) {
    (&records[HEADER..size_of_record(records)], number(records))
}

/// Reads one part of a file.
struct Section<'f> {
    file: &'f File,
    range: Range<u64>,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let limit = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..limit], self.range.start)?;
        self.range.start += count as u64;
        Ok(count)
    }
}

/// A sorted run that is being read, with its current record.
#[derive(Debug)]
struct Run<R> {
    path: Vec<u8>,
    uid: u32,
    rest: R,
}

impl<R: BufRead> Run<R> {
    fn new(rest: R) -> Self {
        Self { path: Vec::new(), uid: 0, rest }
    }

    /// Moves to the next record; returns false at the end of the run.
    fn advance(&mut self) -> io::Result<bool> {
        if self.rest.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut header = [0; HEADER];
        self.rest.read_exact(&mut header)?;
        self.uid = number(&header);
        self.path.resize(number(&header[4..]) as usize, 0);
        self.rest.read_exact(&mut self.path)?;
        Ok(true)
    }
}

impl<R> Ord for Run<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.path, self.uid).cmp(&(&other.path, other.uid))
    }
}

impl<R> PartialOrd for Run<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> PartialEq for Run<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R> Eq for Run<R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sort(results: &[(Vec<u8>, u32)], memory: usize) -> (Vec<(Vec<u8>, u32)>, usize) {
        let mut sorter = Sorter::with_memory(std::env::temp_dir(), memory);
        for (path, uid) in results {
            let mut record = Vec::new();
            push_sort_record(&mut record, *uid, |out| out.extend_from_slice(path));
            sorter.add(&record).unwrap();
        }
        let (runs, mut sorted) = (sorter.runs.len(), Vec::new());
        sorter
            .finish(|path, uid| {
                sorted.push((path.to_vec(), uid));
                Ok(())
            })
            .unwrap();
        (sorted, runs)
    }

    proptest! {
        #[test]
        fn any_results_come_out_sorted_whether_they_fit_into_memory_or_not(
            results: Vec<(Vec<u8>, u32)>,
            memory in 1usize..2000,
        ) {
            let mut expected = results.clone();
            expected.sort();
            prop_assert_eq!(sort(&results, memory).0, expected.clone());
            prop_assert_eq!(sort(&results, usize::MAX).0, expected);
        }
    }

    #[test]
    fn results_beyond_the_memory_limit_go_through_the_file() {
        let results: Vec<_> =
            (0..5000u32).map(|n| (format!("{}", n * 7919 % 5000).into_bytes(), n)).collect();
        let (sorted, runs) = sort(&results, 1000);
        assert!(runs > 50 && sorted.is_sorted() && sorted.len() == 5000, "{runs} runs");
    }

    #[test]
    fn an_unwritable_temporary_directory_is_named() {
        let mut sorter = Sorter::with_memory(PathBuf::from("/nowhere"), 1);
        sorter.add(&[0; HEADER]).unwrap();
        let error = sorter.add(&[0; HEADER]).unwrap_err().to_string();
        let expected =
            "failed to create a temporary file for --sort in `/nowhere`: no such file or directory";
        assert_eq!(error, expected);
    }
}
