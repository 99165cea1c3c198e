//! The lower limit for any walk: only the system calls that it cannot do without, in two threads.
//! Nothing is kept or printed.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_deque::{Steal, Worker};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::Errno;

const THREADS: usize = 2;

/// Which system calls to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Read every directory.
    Names,
    /// Read every directory and stat each entry.
    Owners,
    /// Stat every directory, and read those that have subdirectories.
    Links,
}

enum Task {
    Enter(Arc<OwnedFd>, CString),
    /// Read a directory. Whether all threads may share it.
    Read(Arc<OwnedFd>, bool),
}

/// Makes the calls for everything below `root`; returns the number of entries.
pub fn walk(root: &Path, calls: Calls) -> Result<usize, Errno> {
    let root = open(CWD, &CString::new(root.as_os_str().as_encoded_bytes()).expect("a path"))?;
    let stacks: [Worker<Task>; THREADS] = std::array::from_fn(|_| Worker::new_lifo());
    let is_huge = statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::SIZE)?.stx_size > 64 * 1024;
    stacks[0].push(Task::Read(Arc::new(root), is_huge));
    let stealers: Vec<_> = stacks.iter().map(Worker::stealer).collect();
    let (pending, seen) = (AtomicUsize::new(1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for own in stacks {
            let (stealers, pending, seen) = (&stealers, &pending, &seen);
            scope.spawn(move || {
                let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
                while pending.load(Ordering::Acquire) > 0 {
                    let stolen = || stealers.iter().map(|s| s.steal()).find_map(Steal::success);
                    let Some(task) = own.pop().or_else(stolen) else {
                        std::thread::yield_now();
                        continue;
                    };
                    let dir = match task {
                        Task::Enter(parent, name) => {
                            open(parent.as_fd(), &name).map(|fd| (Arc::new(fd), false))
                        }
                        Task::Read(dir, is_shared) => Ok((dir, is_shared)),
                    };
                    let push = |task| {
                        pending.fetch_add(1, Ordering::Relaxed);
                        own.push(task);
                    };
                    let count = dir.and_then(|(dir, is_shared)| {
                        read(&dir, is_shared, &mut buffer, calls, push)
                    });
                    seen.fetch_add(count.expect("readable"), Ordering::Relaxed);
                    pending.fetch_sub(1, Ordering::Release);
                }
            });
        }
    });
    Ok(seen.into_inner())
}

fn open(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
    openat(parent, name, flags, Mode::empty())
}

/// Reads a directory, or one buffer of it if threads share it.
fn read(
    dir: &Arc<OwnedFd>,
    is_shared: bool,
    buffer: &mut [MaybeUninit<u8>],
    calls: Calls,
    mut push: impl FnMut(Task),
) -> Result<usize, Errno> {
    let (mut raw, mut count) = (RawDir::new(dir, buffer), 0);
    while let Some(entry) = raw.next() {
        let entry = entry?;
        if is_shared && count == 0 {
            push(Task::Read(dir.clone(), true));
        }
        count += 1;
        let name = entry.file_name();
        let is_directory = entry.file_type() == FileType::Directory;
        let mut is_read = is_directory && !matches!(name.to_bytes(), b"." | b"..");
        if calls == Calls::Owners || calls == Calls::Links && is_read {
            let fields = StatxFlags::UID | StatxFlags::TYPE | StatxFlags::NLINK;
            let status = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, fields)?;
            is_read &= calls == Calls::Owners || status.stx_nlink > 2;
        }
        if is_read {
            push(Task::Enter(dir.clone(), name.to_owned()));
        }
        if is_shared && raw.is_buffer_empty() {
            break;
        }
    }
    Ok(count)
}
