//! Carries pairs from stdin to stdout, in input order and in bounded memory.
//!
//! Three threads work at the same time, so that a slow scan is resolved while it runs and a distant
//! server is asked many questions at once:
//!
//! 1. [`reader`] parses pairs, hands them on in blocks, and sends each UID that it has not sent before.
//! 2. The [`Directory`] looks the UIDs up.
//! 3. [`writer`], on the calling thread, writes each pair once its answers are there.
//!
//! They meet in [`queue`], which makes the reader wait when too many bytes of pairs are pending.

pub mod answers;
mod block;
mod queue;
mod reader;
mod recent;
mod writer;

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread::Builder;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc::unbounded_channel;

use crate::directory::{Directory, LookupStats};
use answers::AnswerCache;
use queue::Queue;
use writer::PairWriter;

/// How a run ended.
pub struct Finished {
    /// Paths that were written, or were about to be written when the run failed.
    pub paths: u64,
    /// Counts and warnings of the directory.
    pub stats: LookupStats,
    /// The error that ended the run, if it failed.
    pub result: Result<()>,
}

/// Reads ownership JSON from `input`, and writes each path with its owners to `output`.
///
/// Finished lines are flushed before the writer waits for input or for an answer. The closing brace
/// is written only if everything succeeded: a bad input, a failed lookup or a failed write leaves the
/// object open, with all lines that were complete by then. In that case the reader may still be
/// reading `input` when this returns.
pub fn resolve(
    input: impl Read + Send + 'static,
    output: impl Write,
    directory: Box<dyn Directory>,
    answers: &mut AnswerCache<'_>,
) -> Finished {
    let queue = Arc::new(Queue::default());
    let mut writer = PairWriter::new(output, &queue, answers);
    let mut result = start_threads(&queue, input, directory)
        .and_then(|()| writer.write_all())
        .and_then(|()| queue.wait_for_last_answer());
    let stats = queue.close();
    let paths = writer.paths();
    if result.is_ok() {
        result = writer.finish();
    } else {
        // The first error is the one to report.
        let _ = writer.flush();
    }
    Finished { paths, stats, result }
}

/// Starts the thread that reads pairs and the one that looks UIDs up.
fn start_threads(
    queue: &Arc<Queue>,
    input: impl Read + Send + 'static,
    mut directory: Box<dyn Directory>,
) -> Result<()> {
    let (uid_sender, uids) = unbounded_channel();
    let end = EndOnPanic(queue.clone());
    let look_up = move || {
        let queue = &end.0;
        let result = directory.answer(uids, &|answers| queue.add_answers(answers));
        queue.end_answers(result, directory.stats());
    };
    let end = EndOnPanic(queue.clone());
    let read = move || {
        let queue = &end.0;
        let result = reader::read_pairs(input, queue, &uid_sender);
        queue.end_input(result);
    };
    Builder::new().spawn(look_up).context("failed to start a thread")?;
    Builder::new().spawn(read).context("failed to start a thread")?;
    Ok(())
}

/// Ends the queue if its thread panics, so that no other thread waits forever.
struct EndOnPanic(Arc<Queue>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = anyhow!("a thread of the lookup panicked, which is a bug");
            self.0.end_answers(Err(error), LookupStats::default());
        }
    }
}
