//! Reads what a command prints, in a thread, and keeps the end of it.
//!
//! The thread reads until all writers have closed the pipe. Once the command has ended, it reads only
//! what is in the pipe already: a process in the background may hold the pipe open, or write forever.

use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How much is kept, in bytes.
pub const MAX_OUTPUT: usize = 2048;

/// What stands for the part that was not kept.
pub const CUT: &[u8] = b"... ";

/// What a pipe of Linux holds by default, in bytes: read at most so much after the command's end.
const PIPE_SIZE: usize = 64 * 1024;

/// How long the thread waits before it looks again whether the command has ended.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The thread that reads.
pub struct Capture {
    reader: JoinHandle<Vec<u8>>,
    has_ended: Arc<AtomicBool>,
}

impl Capture {
    /// Starts to read.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(pipe: PipeReader) -> io::Result<Self> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = has_ended.clone();
        let reader = thread::Builder::new().spawn(move || read(pipe, &ended))?;
        Ok(Self { reader, has_ended })
    }

    /// The end of the output, once the command has ended. [`CUT`] comes first if it is not all.
    pub fn finish(self) -> Vec<u8> {
        self.has_ended.store(true, Ordering::Relaxed);
        self.reader.join().unwrap_or_default()
    }
}

fn read(mut pipe: PipeReader, has_ended: &AtomicBool) -> Vec<u8> {
    let (mut kept, mut is_cut) = (Vec::new(), false);
    let mut buffer = vec![0; PIPE_SIZE];
    let mut left_after_end = PIPE_SIZE;
    while left_after_end > 0 {
        let is_last_look = has_ended.load(Ordering::Relaxed);
        let timeout = if is_last_look { Timespec::default() } else { POLL_INTERVAL };
        let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if is_last_look => break,
            Ok(0) => continue,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        let count = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if is_last_look {
            left_after_end = left_after_end.saturating_sub(count);
        }
        kept.extend_from_slice(&buffer[..count]);
        if let Some(excess @ 1..) = kept.len().checked_sub(MAX_OUTPUT) {
            kept.drain(..excess);
            is_cut = true;
        }
    }
    if is_cut { [CUT, &kept].concat() } else { kept }
}
