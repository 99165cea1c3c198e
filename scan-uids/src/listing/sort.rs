//! Sorts findings by the bytes of their paths, in bounded memory.
//!
//! What does not fit into memory is written to a temporary file without a name as sorted runs,
//! which are merged at the end. All runs share that one file and its descriptor.

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

/// Findings held in memory, in bytes; their order needs about a tenth of that again.
const MEMORY: usize = 16 * 1024 * 1024;
/// Memory for reading all runs, in bytes, and the least and the most for one.
const BUFFERS: (usize, usize, usize) = (16 * 1024 * 1024, 4 * 1024, 64 * 1024);
/// Bytes before the path of a record: its UID, and how long it is.
const HEADER: usize = 8;

/// Takes findings in any order.
pub struct Sorter {
    records: Vec<u8>,
    memory: usize,
    directory: PathBuf,
    file: Option<File>,
    runs: Vec<Range<u64>>,
}

/// Appends the record of a finding, the path of which `path` appends.
pub fn push_record(out: &mut Vec<u8>, uid: u32, path: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&uid.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    path(out);
    let length = u32::try_from(out.len() - start - HEADER).expect("a path is shorter than 4 GiB");
    out[start + 4..start + HEADER].copy_from_slice(&length.to_le_bytes());
}

impl Sorter {
    /// Keeps what is too much for memory in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self::with_memory(directory, MEMORY)
    }

    fn with_memory(directory: PathBuf, memory: usize) -> Self {
        Self { records: Vec::new(), memory, directory, file: None, runs: Vec::new() }
    }

    /// Adds records made by [`push_record`].
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub fn add(&mut self, records: &[u8]) -> Result<()> {
        if !self.records.is_empty() && self.records.len() + records.len() > self.memory {
            self.write_run()?;
        }
        self.records.extend_from_slice(records);
        Ok(())
    }

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

    /// Hands all findings on in the order of their paths, then their UIDs.
    ///
    /// # Errors
    /// Those of `give`; the temporary file cannot be read.
    pub fn finish(mut self, mut give: impl FnMut(&[u8], u32) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            for at in sorted(&self.records) {
                let (path, uid) = parse(&self.records[at..]);
                give(path, uid)?;
            }
            return Ok(());
        }
        if !self.records.is_empty() {
            self.write_run()?;
        }
        self.records = Vec::new();
        let (all, least, most) = BUFFERS;
        let capacity = (all / self.runs.len()).clamp(least, most);
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
            give(&run.path, run.uid)?;
            if !run.advance().map_err(|error| self.failure("read", &error))? {
                PeekMut::pop(least);
            }
        }
        Ok(())
    }
}

/// Where the records start, in their order.
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

/// A part of a file, read from its start to its end.
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

/// A sorted run, at one of its records.
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

    /// Goes to the next record; false at the end.
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

    fn sort(findings: &[(Vec<u8>, u32)], memory: usize) -> (Vec<(Vec<u8>, u32)>, usize) {
        let mut sorter = Sorter::with_memory(std::env::temp_dir(), memory);
        for (path, uid) in findings {
            let mut record = Vec::new();
            push_record(&mut record, *uid, |out| out.extend_from_slice(path));
            sorter.add(&record).unwrap();
        }
        let (runs, mut given) = (sorter.runs.len(), Vec::new());
        sorter
            .finish(|path, uid| {
                given.push((path.to_vec(), uid));
                Ok(())
            })
            .unwrap();
        (given, runs)
    }

    proptest! {
        #[test]
        fn any_findings_come_out_sorted_whether_they_fit_or_not(
            findings: Vec<(Vec<u8>, u32)>,
            memory in 1usize..2000,
        ) {
            let mut expected = findings.clone();
            expected.sort();
            prop_assert_eq!(sort(&findings, memory).0, expected.clone());
            prop_assert_eq!(sort(&findings, usize::MAX).0, expected);
        }
    }

    #[test]
    fn what_is_too_much_for_memory_goes_through_the_file() {
        let findings: Vec<_> =
            (0..5000u32).map(|n| (format!("{}", n * 7919 % 5000).into_bytes(), n)).collect();
        let (given, runs) = sort(&findings, 1000);
        assert!(runs > 50 && given.is_sorted() && given.len() == 5000, "{runs} runs");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let mut sorter = Sorter::with_memory(PathBuf::from("/nowhere"), 1);
        sorter.add(&[0; HEADER]).unwrap();
        let error = sorter.add(&[0; HEADER]).unwrap_err().to_string();
        let expected =
            "failed to create a temporary file for --sort in `/nowhere`: no such file or directory";
        assert_eq!(error, expected);
    }
}
