//! The descriptors that directories are read through.
//!
//! Everything is opened relative to its parent's descriptor, since full paths cost more the
//! deeper they are and cannot be longer than `PATH_MAX`. A descriptor is closed as soon as nothing
//! is left to do in its directory. One that was given up before is found again from the nearest
//! directory that is open, up by `..` and down by name, and must then still be the same.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, SeekFrom, StatxFlags, seek, statx, tell};
use rustix::io::Errno;

use super::{Dir, FileId};
use crate::walk::access::Access;

/// A directory that is open, whether or not anybody has to do with it.
pub type Open = (Arc<Dir>, Arc<OwnedFd>);

/// A descriptor, and the directories that were opened again for it.
pub type Reopened = (Arc<OwnedFd>, Vec<Arc<Dir>>);

/// The descriptor of a directory, and where reading it goes on after it was given up.
pub(super) struct State {
    fd: Option<Arc<OwnedFd>>,
    given_up: Option<GivenUp>,
    /// How many threads read through the descriptor, so that its position may change.
    readers: usize,
}

impl State {
    pub(super) fn open(fd: OwnedFd) -> Self {
        Self { fd: Some(Arc::new(fd)), given_up: None, readers: 0 }
    }
}

/// What finding a directory again needs.
#[derive(Clone, Copy)]
struct GivenUp {
    id: FileId,
    position: u64,
}

/// A directory with something left to do in it: keeps its descriptor from being closed for good.
pub struct InUse(Arc<Dir>);

impl InUse {
    /// A directory that was just opened.
    pub fn new(dir: Dir) -> Self {
        Self(Arc::new(dir))
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Deref for InUse {
    type Target = Arc<Dir>;

    fn deref(&self) -> &Arc<Dir> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Roots stay open: everything is found again through them.
        if self.0.uses.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.parent.is_some() {
            let mut state = self.0.lock();
            (state.fd, state.given_up) = (None, None);
        }
    }
}

/// How to get to a directory.
struct Way<'d> {
    from: Arc<OwnedFd>,
    /// The last directory of `down` is the one to start from; otherwise that lies above it.
    is_climbed: bool,
    /// The directories to go through, the nearest last.
    down: Vec<&'d Arc<Dir>>,
}

impl Dir {
    /// Its descriptor, opened again and moved to where reading goes on if it was given up; and
    /// the directories that were opened again for it: this one and the nearest `keep` above, since
    /// the walk will come back to them next. `near` is where the search may start.
    ///
    /// # Errors
    /// It cannot be opened; `ESTALE` when another directory has taken its place.
    pub fn fd(
        self: &Arc<Self>,
        access: &Access,
        keep: usize,
        near: Option<&Open>,
    ) -> Result<Reopened, Errno> {
        if let Some(fd) = &self.lock().fd {
            return Ok((fd.clone(), Vec::new()));
        }
        let by_near = near.and_then(|near| self.find(access, keep, Some(near)).ok());
        by_near.map_or_else(|| self.find(access, keep, None), Ok)
    }

    fn find(
        self: &Arc<Self>,
        access: &Access,
        keep: usize,
        near: Option<&Open>,
    ) -> Result<Reopened, Errno> {
        let Way { from: mut fd, mut is_climbed, down } = self.way(access, near)?;
        let mut reopened = Vec::new();
        for (above, dir) in down.into_iter().enumerate().rev() {
            let has_climbed = std::mem::take(&mut is_climbed);
            if !has_climbed {
                fd = Arc::new(access.open(fd.as_fd(), &dir.name)?);
            }
            let mut state = dir.lock();
            if let Some(open) = &state.fd {
                fd = open.clone(); // Another thread was faster.
                continue;
            }
            let id = state.given_up.map(|given_up| given_up.id);
            let must_match = has_climbed || above <= keep && id.is_some();
            if must_match && id.unwrap_or(dir.id) != identify(fd.as_fd())? {
                return Err(Errno::STALE);
            }
            if let Some(given_up) = state.given_up.filter(|_| above <= keep) {
                seek(&*fd, SeekFrom::Start(given_up.position))?;
                state.fd = Some(fd.clone());
                reopened.push(dir.clone());
            }
        }
        Ok((fd, reopened))
    }

    /// The shortest way here, from an open directory above or from `near`.
    fn way(self: &Arc<Self>, access: &Access, near: Option<&Open>) -> Result<Way<'_>, Errno> {
        let mut down = vec![self];
        let mut low = near.map(|(dir, _)| dir);
        loop {
            let at = down[down.len() - 1];
            while let Some(dir) = low.filter(|low| low.depth > at.depth) {
                low = dir.parent.as_ref();
            }
            if let (Some(low), Some((start, fd))) = (low, near)
                && Arc::ptr_eq(low, at)
            {
                let from = climb(access, fd, start.depth - at.depth)?;
                return Ok(Way { from, is_climbed: true, down });
            }
            let parent = at.parent.as_ref().ok_or(Errno::STALE)?;
            if let Some(fd) = &parent.lock().fd {
                return Ok(Way { from: fd.clone(), is_climbed: false, down });
            }
            down.push(parent);
        }
    }

    /// Reads through its descriptor, which is not given up meanwhile. With what was read come the
    /// descriptor and the directories that were [opened again](Self::fd).
    ///
    /// # Errors
    /// As [`fd`](Self::fd).
    pub fn reading<T>(
        self: &Arc<Self>,
        access: &Access,
        keep: usize,
        near: Option<&Open>,
        read: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<(T, Reopened), Errno> {
        self.lock().readers += 1;
        let found = self.fd(access, keep, near);
        let outcome = found.map(|reopened| (read(reopened.0.as_fd()), reopened));
        self.lock().readers -= 1;
        outcome
    }

    /// Gives the descriptor up, to be closed when nobody uses it any more; false if it is being
    /// read or cannot be found again. Roots keep theirs.
    pub fn give_up_fd(&self) -> bool {
        let mut state = self.lock();
        let Some(fd) = state.fd.as_ref().filter(|_| self.parent.is_some() && state.readers == 0)
        else {
            return false;
        };
        // The number is taken from what is open: what it was called before may have changed.
        let (Ok(position), Ok(id)) = (tell(&**fd), identify(fd.as_fd())) else { return false };
        state.given_up = Some(GivenUp { id, position });
        state.fd = None;
        true
    }

    /// Whether its descriptor is open.
    pub fn is_open(&self) -> bool {
        self.lock().fd.is_some()
    }
}

/// The device and inode number of what is open.
fn identify(fd: BorrowedFd<'_>) -> Result<FileId, Errno> {
    let status = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok((status.stx_dev_major, status.stx_dev_minor, status.stx_ino))
}

/// Opens what is so many levels above.
fn climb(access: &Access, from: &Arc<OwnedFd>, levels: usize) -> Result<Arc<OwnedFd>, Errno> {
    let mut fd = from.clone();
    for _ in 0..levels {
        fd = Arc::new(access.open(fd.as_fd(), c"..")?);
    }
    Ok(fd)
}
