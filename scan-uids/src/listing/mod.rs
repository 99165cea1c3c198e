//! The output: collects the results of all threads of the walk and writes them to stdout.
//!
//! Each thread encodes its results into a buffer of its own ([`thread_buffer`]). The buffer goes out when
//! it is full, when its oldest result is 50 ms old, or when the thread becomes idle. One lock
//! guards the output, the counts and the report. With `--sort` the results go to a [`Sorter`]
//! instead, which gives them back in order at the end.

pub mod format;
mod sort;
mod thread_buffer;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use diagnostics::report::Report;
use owner_json::{ObjectWriter, write_error};
use rustix::time::{ClockId, Timespec, clock_gettime};

use format::{CSV_HEADER, Encoder, Format};
use sort::{Sorter, push_sort_record};
use thread_buffer::ThreadBuffer;

/// How many bytes of output a thread collects before it writes them.
const BUFFER_SIZE: usize = 128 * 1024;
/// The longest time that a result stays in a buffer while more results come.
const MAX_AGE_MS: i64 = 50;

/// Counts of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directories listed.
    pub directories: u64,
    /// Other entries listed.
    pub others: u64,
    /// Entries that were gone when they were to be statted or opened.
    pub vanished: u64,
}

impl Counts {
    /// All entries listed.
    pub fn listed(&self) -> u64 {
        self.directories + self.others
    }

    fn add(&mut self, more: Self) {
        self.directories += more.directories;
        self.others += more.others;
        self.vanished += more.vanished;
    }
}

/// The output of a run and the report of it, shared by all threads.
pub struct Listing<'r> {
    encoder: Encoder,
    is_sorted: bool,
    shared: Mutex<Shared<'r>>,
}

struct Shared<'r> {
    sink: Sink,
    counts: Counts,
    roots: PendingRoots,
    report: &'r mut Report,
}

/// Roots that are encoded but not yet written.
#[derive(Default)]
struct PendingRoots {
    encoded: Vec<u8>,
    count: u64,
    /// When the oldest was added, in milliseconds.
    since: i64,
}

/// Where encoded results go.
enum Sink {
    Object(ObjectWriter<File>),
    Records(RecordWriter),
    Sorted(Sorter, Box<Sink>),
}

impl Sink {
    /// Takes `count` results: encoded in the output's format, or as records to sort.
    fn write(&mut self, encoded: &[u8], count: u64) -> Result<()> {
        match self {
            _ if count == 0 => Ok(()),
            Self::Object(object) => object.write_members(encoded, count),
            Self::Records(records) => records.write(encoded),
            Self::Sorted(sorter, _) => sorter.add(encoded),
        }
    }

    /// Writes sorted results and the end of the output.
    fn finish(self, encoder: &Encoder) -> Result<()> {
        match self {
            Self::Object(object) => object.finish(),
            Self::Records(mut records) => records.write(b""),
            Self::Sorted(sorter, mut sink) => {
                let (mut buffer, mut count) = (Vec::with_capacity(BUFFER_SIZE), 0);
                sorter.finish(|path, uid| {
                    encoder.push_record(&mut buffer, path, uid);
                    count += 1;
                    if buffer.len() >= BUFFER_SIZE {
                        sink.write(&buffer, count)?;
                        buffer.clear();
                        count = 0;
                    }
                    Ok(())
                })?;
                sink.write(&buffer, count)?;
                sink.finish(encoder)
            }
        }
    }
}

/// Writes records below a header, which may be empty.
///
/// The header goes out with the first record, or at the end if there is none. A run that fails
/// early leaves its output empty.
struct RecordWriter {
    out: File,
    /// The header until it is written, then nothing.
    header: &'static [u8],
}

impl RecordWriter {
    fn write(&mut self, records: &[u8]) -> Result<()> {
        let header = std::mem::take(&mut self.header);
        let written = self.out.write_all(header).and_then(|()| self.out.write_all(records));
        written.map_err(|error| write_error(&error))
    }
}

impl Shared<'_> {
    fn write_roots(&mut self) -> Result<()> {
        let directories = std::mem::take(&mut self.roots.count);
        let written = self.sink.write(&self.roots.encoded, directories);
        self.roots.encoded.clear();
        self.counts.add(Counts { directories, ..Counts::default() });
        written
    }

    /// Takes the results of a thread. Roots go first, since their entries follow them.
    fn write(&mut self, encoded: &[u8], counts: Counts) -> Result<()> {
        self.write_roots()?;
        self.counts.add(counts);
        let listed = self.counts.listed();
        self.report.progress().show(|seconds| progress(listed, seconds));
        self.sink.write(encoded, counts.listed())
    }
}

impl<'r> Listing<'r> {
    /// A listing to `out`, which must not be buffered; sorted by path if `sort`.
    pub fn new(out: File, format: Format, sort: bool, report: &'r mut Report) -> Self {
        let sink = match format {
            Format::Json => Sink::Object(ObjectWriter::new(out)),
            Format::Csv => Sink::Records(RecordWriter { out, header: CSV_HEADER }),
            Format::Ndjson | Format::Tsv | Format::Nul => {
                Sink::Records(RecordWriter { out, header: b"" })
            }
        };
        let sink = match sort {
            true => Sink::Sorted(Sorter::new(temporary_directory()), Box::new(sink)),
            false => sink,
        };
        let roots = PendingRoots::default();
        let shared = Shared { sink, counts: Counts::default(), roots, report };
        Self { encoder: format.encoder(), is_sorted: sort, shared: Mutex::new(shared) }
    }

    /// Adds a root by its path as given. The first is written at once, others together.
    ///
    /// # Errors
    /// Fails if the output cannot be written.
    pub fn add_root(&self, path: &[u8], uid: u32) -> Result<()> {
        let mut shared = self.lock();
        let is_first = shared.counts == Counts::default();
        let roots = &mut shared.roots;
        let now = now_ms();
        if roots.encoded.is_empty() {
            roots.since = now;
        }
        if self.is_sorted {
            push_sort_record(&mut roots.encoded, uid, |out| out.extend_from_slice(path));
        } else {
            self.encoder.push_record(&mut roots.encoded, path, uid);
        }
        roots.count += 1;
        if is_first || roots.encoded.len() >= BUFFER_SIZE || now - roots.since >= MAX_AGE_MS {
            return shared.write_roots();
        }
        Ok(())
    }

    /// Writes all roots added so far. To be called before anything that may take long.
    ///
    /// # Errors
    /// Fails if the output cannot be written.
    pub fn flush(&self) -> Result<()> {
        self.lock().write_roots()
    }

    /// Reports something that was skipped.
    pub fn warn(&self, warning: String) {
        self.lock().report.warn(warning);
    }

    /// Reports a failure after which the scan continues.
    pub fn fail(&self, error: &anyhow::Error) {
        self.lock().report.partial_failure("scan-uids", error);
    }

    /// The visitor for one thread of a walk.
    pub fn visitor(&self) -> ThreadBuffer<'_, 'r> {
        ThreadBuffer::new(self)
    }

    /// Completes the output if `outcome` is a success. Returns the counts in any case.
    pub fn finish(self, outcome: Result<()>) -> (Counts, Result<()>) {
        let mut shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcome
            .and_then(|()| shared.write_roots())
            .and_then(|()| shared.sink.finish(&self.encoder));
        (shared.counts, outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Shared<'r>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of the progress line.
fn progress(listed: u64, seconds: f64) -> String {
    format!("{listed} listed in {seconds:.0} s, {:.0}/s", listed as f64 / seconds)
}

/// Reads a clock that is exact to a few milliseconds and costs next to nothing.
fn now_ms() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::MonotonicCoarse);
    tv_sec * 1000 + tv_nsec / 1_000_000
}

/// `TMPDIR`, or `/tmp` if `TMPDIR` is unset or empty.
fn temporary_directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Visitor;
    use std::io::{Read, Seek, SeekFrom};

    /// What `fill` writes in a format, and the counts.
    fn listed(format: Format, sort: bool, fill: impl FnOnce(&Listing<'_>)) -> (String, Counts) {
        let mut file = tempfile::tempfile().unwrap();
        let mut report = Report::new(false);
        let listing = Listing::new(file.try_clone().unwrap(), format, sort, &mut report);
        fill(&listing);
        let (counts, outcome) = listing.finish(Ok(()));
        outcome.unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        (text, counts)
    }

    fn one_tree(listing: &Listing<'_>) {
        listing.add_root(b"b/", 1).unwrap();
        listing.add_root(b"a", 2).unwrap();
        let mut thread = listing.visitor();
        thread.enter_directory(0, b"a");
        thread.entry(b"y", 3, true).unwrap();
        thread.enter_directory(1, b"y");
        thread.entry(b"file", 3, false).unwrap();
        thread.enter_directory(0, b"a");
        thread.entry(b"x", 4, true).unwrap();
        thread.vanished();
        thread.before_idle().unwrap();
    }

    #[test]
    fn results_of_a_thread_follow_all_roots_added_before() {
        let (text, counts) = listed(Format::Tsv, false, one_tree);
        assert_eq!(text, "b/\t1\na\t2\na/y\t3\na/y/file\t3\na/x\t4\n");
        assert_eq!(counts, Counts { directories: 4, others: 1, vanished: 1 });
        assert_eq!(counts.listed(), 5);
    }

    #[test]
    fn sorted_results_of_all_roots_come_in_the_order_of_their_bytes() {
        let (text, counts) = listed(Format::Tsv, true, one_tree);
        assert_eq!(text, "a\t2\na/x\t4\na/y\t3\na/y/file\t3\nb/\t1\n");
        assert_eq!(counts.listed(), 5);
    }

    #[test]
    fn without_any_result_the_output_has_no_record() {
        for sort in [false, true] {
            assert_eq!(listed(Format::Json, sort, |_| ()).0, "{}\n");
            assert_eq!(listed(Format::Ndjson, sort, |_| ()).0, "");
            assert_eq!(listed(Format::Csv, sort, |_| ()).0, "path,uid\r\n");
        }
    }

    #[test]
    fn csv_of_a_thread_has_one_header_and_quotes_around_whole_paths() {
        let fill = |listing: &Listing<'_>| {
            listing.add_root(b"a,b", 1).unwrap();
            let mut thread = listing.visitor();
            thread.enter_directory(0, b"a,b");
            thread.entry(b"\"x\"", 2, true).unwrap();
            thread.before_idle().unwrap();
            thread.enter_directory(0, b"c");
            thread.entry(b"x", 3, true).unwrap();
            thread.entry(b"\n", 3, false).unwrap();
            thread.before_idle().unwrap();
        };
        let expected = "path,uid\r\n\"a,b\",1\r\n\"a,b/\"\"x\"\"\",2\r\nc/x,3\r\n\"c/\n\",3\r\n";
        assert_eq!(listed(Format::Csv, false, fill).0, expected);
        let sorted = "path,uid\r\n\"a,b\",1\r\n\"a,b/\"\"x\"\"\",2\r\n\"c/\n\",3\r\nc/x,3\r\n";
        assert_eq!(listed(Format::Csv, true, fill).0, sorted);
    }

    #[test]
    fn ndjson_of_a_thread_has_base64_of_the_whole_path() {
        let fill = |listing: &Listing<'_>| {
            let mut thread = listing.visitor();
            thread.enter_directory(0, b"\xff");
            thread.entry(b"x", 0, true).unwrap();
            thread.before_idle().unwrap();
        };
        let expected = "{\"path\":\"\\udcff/x\",\"uid\":0,\"path_b64\":\"/y94\"}\n";
        assert_eq!(listed(Format::Ndjson, false, fill).0, expected);
    }

    #[test]
    fn a_failure_before_the_first_result_leaves_the_output_empty() {
        for format in [Format::Json, Format::Csv] {
            let file = tempfile::tempfile().unwrap();
            let mut report = Report::new(false);
            let listing = Listing::new(file.try_clone().unwrap(), format, false, &mut report);
            let (_, outcome) = listing.finish(Err(anyhow::anyhow!("lost")));
            assert!(outcome.is_err());
            assert_eq!(file.metadata().unwrap().len(), 0, "{format:?}");
        }
    }

    #[test]
    fn an_output_after_a_failure_is_not_completed() {
        let mut file = tempfile::tempfile().unwrap();
        let mut report = Report::new(false);
        let out = file.try_clone().unwrap();
        let listing = Listing::new(out, Format::Json, false, &mut report);
        listing.add_root(b"a", 1).unwrap();
        let (_, outcome) = listing.finish(Err(anyhow::anyhow!("lost")));
        assert_eq!(outcome.unwrap_err().to_string(), "lost");
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\n  \"a\": 1");
    }
}
