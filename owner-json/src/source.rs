//! Where the reader's bytes come from: anything that can be read, or a thread that reads ahead.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::Builder;

use anyhow::{Result, anyhow};
use diagnostics::wording::io_error;

/// Bytes read at a time, at most.
const CHUNK: usize = 256 * 1024;
/// Room before a chunk that was read ahead, for the start of a pair from the chunk before it.
const HEADROOM: usize = 16 * 1024;
/// Chunks that wait to be taken.
const AHEAD: usize = 2;

/// Called before waiting for input, so that a caller can write out what is there before it blocks.
pub type BeforeRead<'h> = &'h mut dyn FnMut() -> Result<()>;

/// Gives bytes to a [`PairReader`](crate::PairReader).
pub trait Source {
    /// Adds bytes after those at `kept` in `buffer`, and tells where both stand then; the others
    /// are lost. Nothing is added at the end of the input.
    ///
    /// # Errors
    /// That of the input, or of `before_read`.
    fn more(
        &mut self,
        buffer: &mut Vec<u8>,
        kept: Range<usize>,
        before_read: BeforeRead<'_>,
    ) -> Result<Range<usize>>;
}

impl<R: Read> Source for R {
    fn more(
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

/// Reads in a thread of its own, so that the kernel copies while pairs are looked at.
pub struct ReadAhead {
    /// Buffers with so many bytes after their headroom.
    chunks: Receiver<io::Result<(Vec<u8>, usize)>>,
    /// Buffers to be filled again.
    used: Sender<Vec<u8>>,
}

impl ReadAhead {
    /// Starts to read.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (fill, chunks) = sync_channel(AHEAD);
        let (used, empty) = channel();
        Builder::new().spawn(move || read_all(input, &fill, &empty))?;
        Ok(Self { chunks, used })
    }
}

impl Source for ReadAhead {
    fn more(
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
        // A thread that is gone has told of the end before.
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
            // There may be nobody to fill it.
            let _ = self.used.send(used);
        }
        Ok(start..start + kept_len + count)
    }
}

/// Makes `buffer` start with what stands at `kept`, followed by `more`.
fn append(buffer: &mut Vec<u8>, kept: Range<usize>, more: &[u8]) {
    let end = kept.len();
    buffer.copy_within(kept, 0);
    if buffer.len() < end + more.len() {
        buffer.resize((2 * buffer.len()).max(end + more.len()), 0);
    }
    buffer[end..end + more.len()].copy_from_slice(more);
}

/// Reads to the end, an error, or until nobody takes the chunks.
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
