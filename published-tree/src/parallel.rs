//! Runs many small jobs, such as one file each, on a few threads.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

/// The most jobs that a thread takes at a time: enough to stay in one directory for a while.
const MAX_CHUNK: usize = 32;
/// Each thread gets at least this many chunks, so that a few large files are shared between threads.
const CHUNKS_PER_THREAD: usize = 8;
/// The most threads. With more, they wait for each other inside the file system.
const MAX_THREADS: usize = 8;

/// Calls `work` for chunks of `0..count` and returns the results in any order. Each thread has its
/// own `state` and starts in a different part of the range, since threads that create files in one
/// directory wait for each other. After an error no new chunk is started.
///
/// # Errors
/// Returns the first error of `work`.
pub fn in_parallel<S, T: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, Range<usize>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.clamp(2, MAX_THREADS).min(count);
    let chunk = (count / (threads.max(1) * CHUNKS_PER_THREAD)).clamp(1, MAX_CHUNK);
    let parts: Vec<_> = (0..threads)
        .map(|part| (AtomicUsize::new(part * count / threads), (part + 1) * count / threads))
        .collect();
    let has_failed = AtomicBool::new(false);
    let run = |first: usize| -> Result<Vec<T>> {
        let (mut state, mut done) = (state(), Vec::new());
        for (next, end) in parts[first..].iter().chain(&parts[..first]) {
            while !has_failed.load(Ordering::Relaxed) {
                let start = next.fetch_add(chunk, Ordering::Relaxed);
                if start >= *end {
                    break;
                }
                let outcome = work(&mut state, start..(start + chunk).min(*end));
                has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                done.push(outcome?);
            }
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<T>>> = thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|_| Err(anyhow!("a worker thread panicked")))
        };
        handles.into_iter().map(join).collect()
    });
    Ok(outcomes.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Runs `one` on another thread while this one runs `other`.
pub fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let handle = scope.spawn(one);
        let other = other();
        (handle.join().unwrap_or_else(|panic| resume_unwind(panic)), other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once() {
        for count in [0, 1, 7, 8, 9, 1000] {
            let done =
                in_parallel(count, || (), |(), range| Ok(range.collect::<Vec<_>>())).unwrap();
            let mut done = done.concat();
            done.sort_unstable();
            assert_eq!(done, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_chunk_starts_after_an_error() {
        let began = AtomicUsize::new(0);
        let outcome = in_parallel(
            1_000_000,
            || (),
            |(), _| -> Result<()> {
                began.fetch_add(1, Ordering::Relaxed);
                Err(anyhow!("no"))
            },
        );
        assert_eq!(outcome.unwrap_err().to_string(), "no");
        assert!(began.into_inner() <= MAX_THREADS);
    }
}
