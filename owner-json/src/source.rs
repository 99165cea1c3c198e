//! The sources of the reader's bytes: any [`Read`], or a thread that reads ahead.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::Builder;

use anyhow::{Result, anyhow};
use diagnostics::wording::io_error;

/// How many bytes are read at a time, at most.
const CHUNK: usize = 256 * 1024;
/// Free bytes before a chunk that was read ahead. The start of a pair that the chunk before ends
/// with is copied there.
const HEADROOM: usize = 16 * 1024;
/// How many chunks are read ahead.
const AHEAD: usize = 2;

/// Called before a read that may block, so that the caller can flush its output.
pub type BeforeRead<'h> = &'h mut dyn FnMut() -> Result<()>;

/// A source of bytes for a [`PairReader`](crate::PairReader).
pub trait Source {
    /// Reads more bytes into `buffer`, behind those at `kept`. Other bytes may be overwritten. Returns
    /// the range of the kept and the new bytes, which are none at the end of the input.
    ///
    /// # Errors
    /// Fails with the error of the input or of `before_read`.
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        kept: Range<usize>,
        before_read: BeforeRead<'_>,
    ) -> Result<Range<usize>>;
}

impl<R: Read> Source for R {
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        kept: Range<usize>,
        before_read: BeforeRead<'_>,
    ) -> Result<Range<usize>> {
        let end = kept.len();
        buffer.copy_within(kept, 0);
        if end == buffer.len() {
            buffer.resize((2 * end).max(CHUNK), 0);
        }
        before_read()?;
        let count = read(self, &mut buffer[end..]).map_err(|error| input_error(&error))?;
        Ok(0..end + count)
    }
}

/// Reads the input in another thread, so that the kernel copies while pairs are parsed.
pub struct ReadAhead {
    /// Filled buffers, with the number of bytes after the headroom.
    chunks: Receiver<io::Result<(Vec<u8>, usize)>>,
    /// Buffers that the thread may fill again.
    used: Sender<Vec<u8>>,
}

impl ReadAhead {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (fill, chunks) = sync_channel(AHEAD);
        let (used, empty) = channel();
        Builder::new().spawn(move || read_all(input, &fill, &empty))?;
        Ok(Self { chunks, used })
    }
}

impl Source for ReadAhead {
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        kept: Range<usize>,
        before_read: BeforeRead<'_>,
    ) -> Result<Range<usize>> {
        let chunk = match self.chunks.try_recv() {
            Err(TryRecvError::Empty) => {
                before_read()?;
                self.chunks.recv().ok()
            }
            chunk => chunk.ok(),
        };
        // The thread has sent the end of the input or an error before it ended.
        let Some(chunk) = chunk else { return Ok(kept) };
        let kept_len = kept.len();
        let (mut chunk, count) = chunk.map_err(|error| input_error(&error))?;
        let (start, used) = match HEADROOM.checked_sub(kept.len()) {
            Some(start) => {
                chunk[start..HEADROOM].copy_from_slice(&buffer[kept]);
                (start, std::mem::replace(buffer, chunk))
            }
            None => {
                append(buffer, kept, &chunk[HEADROOM..][..count]);
                (0, chunk)
            }
        };
        if used.len() == HEADROOM + CHUNK {
            // The thread may have ended.
            let _ = self.used.send(used);
        }
        Ok(start..start + kept_len + count)
    }
}

/// Moves the bytes at `kept` to the start of `buffer` and appends `more`.
fn append(buffer: &mut Vec<u8>, kept: Range<usize>, more: &[u8]) {
    let end = kept.len();
    buffer.copy_within(kept, 0);
    if buffer.len() < end + more.len() {
        buffer.resize((2 * buffer.len()).max(end + more.len()), 0);
    }
    buffer[end..end + more.len()].copy_from_slice(more);
}

/// Reads until the end of the input, an error, or the end of the receiver.
fn read_all(
    mut input: impl Read,
    fill: &SyncSender<io::Result<(Vec<u8>, usize)>>,
    empty: &Receiver<Vec<u8>>,
) {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; HEADROOM + CHUNK]);
        let outcome = read(&mut input, &mut chunk[HEADROOM..]);
        let goes_on = matches!(outcome, Ok(1..));
        if fill.send(outcome.map(|count| (chunk, count))).is_err() || !goes_on {
            return;
        }
    }
}

fn read(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn input_error(error: &io::Error) -> anyhow::Error {
    anyhow!("failed to read the input: {}", io_error(error))
}
