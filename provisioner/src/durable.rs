//! What is written is on the disk before anybody is told so.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::Result;
use rustix::fs::{Advice, fadvise, fstatfs, fsync, syncfs};
use rustix::io::Errno;

use crate::place::Place;

/// File systems on which one call brings everything to the disk, and tells of errors: ext2 to
/// ext4, XFS, btrfs, f2fs and tmpfs (`statfs(2)`). Elsewhere it may do nothing.
const WHOLE: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Bytes of a file that the disk is told to begin with.
pub const AHEAD: u64 = 4 << 20;

/// Files after which the disk is told to begin with them.
const FILES_AHEAD: usize = 512;

/// Whether this kernel itself keeps a file system, on a disk or in memory, and it is known what it
/// can do.
///
/// # Errors
/// It cannot be asked.
pub fn is_local(place: &Place) -> Result<bool, Errno> {
    let kind = fstatfs(place)?.f_type;
    Ok(WHOLE.contains(&(kind as i64)))
}

/// How a volume is brought to its disk.
pub struct Durability {
    /// Opened before anything was written, so that it tells of all errors since; `None` if each
    /// file must be synced by itself.
    whole: Option<OwnedFd>,
    /// Tells a thread to bring to the disk what is there already, so that there is less to wait for
    /// at the end.
    ahead: Option<SyncSender<()>>,
    /// How many files and directories were written.
    count: AtomicUsize,
}

impl Durability {
    /// Starts to watch the volume of `place`, before anything is written to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn watch(place: &Place) -> Result<Self> {
        let failure = |errno| place.failure("open", b"", errno);
        let whole = is_local(place)
            .map_err(failure)?
            .then(|| place.directory(b""))
            .transpose()
            .map_err(failure)?;
        let ahead = whole.as_ref().map(|_| work_ahead(place)).transpose().map_err(failure)?;
        Ok(Self { whole, ahead, count: AtomicUsize::new(0) })
    }

    /// Brings a file or directory to the disk, unless all will be at once.
    ///
    /// # Errors
    /// It is not there.
    pub fn written(&self, fd: impl AsFd) -> Result<(), Errno> {
        let Some(ahead) = &self.ahead else { return fsync(fd) };
        if self.count.fetch_add(1, Ordering::Relaxed) % FILES_AHEAD == FILES_AHEAD - 1 {
            // It is at work still.
            let _ = ahead.try_send(());
        }
        Ok(())
    }

    /// Lets the disk begin with what has been written to a file since it was `begun` bytes long, if
    /// that is much: so there is less to wait for at the end. How far it has begun.
    pub fn begin(&self, file: impl AsFd, begun: u64, written: u64) -> u64 {
        let Some(len) = NonZeroU64::new(written - begun).filter(|len| len.get() >= AHEAD) else {
            return begun;
        };
        // What is not needed is written at once, as far as it is not yet, and stays in memory until
        // it is (mm/fadvise.c). Where that is not so, nothing is lost but time.
        let _ = fadvise(file, begun, Some(len), Advice::DontNeed);
        written
    }

    /// Brings everything to the disk that was written.
    ///
    /// # Errors
    /// It is not there.
    pub fn sync(&self) -> Result<(), Errno> {
        self.whole.as_ref().map_or(Ok(()), syncfs)
    }
}

/// Starts a thread that brings the volume of `place` to its disk whenever it is told to, until
/// nobody can tell it any more. Errors are left to whoever asks in the end: a descriptor is told of
/// each once (`syncfs(2)`), and this is another one.
fn work_ahead(place: &Place) -> Result<SyncSender<()>, Errno> {
    let own = place.directory(b"")?;
    let (ahead, told) = sync_channel(1);
    let work = move || {
        for () in told {
            let _ = syncfs(&own);
        }
    };
    // Without it, there is more to wait for at the end.
    drop(thread::Builder::new().name("sync".into()).spawn(work));
    Ok(ahead)
}
