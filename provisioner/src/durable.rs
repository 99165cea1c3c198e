//! What is written is on the disk before anybody is told so.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use rustix::fs::{Advice, fadvise, fstatfs, fsync, syncfs};
use rustix::io::Errno;

use crate::place::Place;

/// File systems on which one call brings everything to the disk, and tells of errors: ext2 to
/// ext4, XFS, btrfs, f2fs and tmpfs (`statfs(2)`). Elsewhere it may do nothing.
const WHOLE: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Bytes of a file that the disk is told to begin with.
pub const AHEAD: u64 = 4 << 20;

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
        Ok(Self { whole })
    }

    /// Brings a file or directory to the disk, unless all will be at once.
    ///
    /// # Errors
    /// It is not there.
    pub fn written(&self, fd: impl AsFd) -> Result<(), Errno> {
        if self.whole.is_none() { fsync(fd) } else { Ok(()) }
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
