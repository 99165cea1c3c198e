//! Syncs written files to the disk, all at once where the file system can, else one by one.
//!
//! Waiting only at the end would leave the disk idle while files are copied. So the kernel is asked to
//! start writing early: large files every [`WRITEBACK_SIZE`] bytes, small ones every [`WRITEBACK_FILES`]
//! files.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::Result;
use published_tree::dir::Dir;
use rustix::fs::{Advice, fadvise, fstatfs, fsync, syncfs};
use rustix::io::Errno;

/// File systems on which `syncfs(2)` writes everything and reports errors: ext2 to ext4, XFS, btrfs,
/// f2fs and tmpfs (magic numbers of `statfs(2)`). Others, such as FUSE, may ignore it.
const SYNCFS_WORKS: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// How many bytes of a file are written before the kernel is asked to start writing them back.
pub const WRITEBACK_SIZE: u64 = 4 << 20;

/// How many files are written before the kernel is asked to start writing them back.
const WRITEBACK_FILES: usize = 512;

/// Whether `dir` is on a local file system on which `syncfs(2)` works.
///
/// # Errors
/// Returns the system's error.
pub fn is_local(dir: &Dir) -> Result<bool, Errno> {
    let kind = fstatfs(dir)?.f_type;
    Ok(SYNCFS_WORKS.contains(&(kind as i64)))
}

/// Syncs the files of one publication.
pub struct Durability {
    /// For `syncfs(2)`. Opened before the first write, so that it reports all errors since then.
    /// `None` if each file must be synced on its own.
    volume: Option<OwnedFd>,
    /// Wakes a thread that syncs early.
    early_sync: Option<SyncSender<()>>,
    /// Files and directories written so far.
    count: AtomicUsize,
}

impl Durability {
    /// Must be called before the first write below `dir`.
    ///
    /// # Errors
    /// Fails if the directory cannot be opened.
    pub fn start(dir: &Dir) -> Result<Self> {
        let error = |errno| dir.error("open", b"", errno);
        let volume =
            is_local(dir).map_err(error)?.then(|| dir.open_fd(b"")).transpose().map_err(error)?;
        let early_sync =
            volume.as_ref().map(|_| start_early_sync(dir)).transpose().map_err(error)?;
        Ok(Self { volume, early_sync, count: AtomicUsize::new(0) })
    }

    /// Syncs a complete file or directory, unless [`sync`](Self::sync) will.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn written(&self, fd: impl AsFd) -> Result<(), Errno> {
        let Some(early_sync) = &self.early_sync else { return fsync(fd) };
        if self.count.fetch_add(1, Ordering::Relaxed) % WRITEBACK_FILES == WRITEBACK_FILES - 1 {
            // If the thread is still busy, it need not be woken.
            let _ = early_sync.try_send(());
        }
        Ok(())
    }

    /// Asks the kernel to write back a file from the offset `started` to `written`, if that is at
    /// least [`WRITEBACK_SIZE`]. Returns the new `started`.
    pub fn start_writeback(&self, file: impl AsFd, started: u64, written: u64) -> u64 {
        let Some(len) =
            NonZeroU64::new(written - started).filter(|len| len.get() >= WRITEBACK_SIZE)
        else {
            return started;
        };
        // POSIX_FADV_DONTNEED starts writing dirty pages (mm/fadvise.c). Where it does not, only time
        // is lost.
        let _ = fadvise(file, started, Some(len), Advice::DontNeed);
        written
    }

    /// Syncs everything written since [`start`](Self::start).
    ///
    /// # Errors
    /// Returns the system's error: some of it may not be on the disk.
    pub fn sync(&self) -> Result<(), Errno> {
        self.volume.as_ref().map_or(Ok(()), syncfs)
    }
}

/// Starts a thread that syncs the file system of `dir` each time it is woken, until the sender is
/// dropped. It ignores errors: `syncfs(2)` reports each error once per descriptor, so the descriptor
/// of [`Durability::sync`] reports them as well.
fn start_early_sync(dir: &Dir) -> Result<SyncSender<()>, Errno> {
    let volume = dir.open_fd(b"")?;
    let (early_sync, wakeups) = sync_channel(1);
    let work = move || {
        for () in wakeups {
            let _ = syncfs(&volume);
        }
    };
    // If the thread cannot start, the last sync takes longer.
    drop(thread::Builder::new().name("sync".into()).spawn(work));
    Ok(early_sync)
}
