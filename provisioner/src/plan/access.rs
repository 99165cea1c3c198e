//! Whether whoever runs this may do what a run would have to do.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use published_tree::volume::Volume;
use rustix::fs::{Access, AtFlags, accessat, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::source::owner::{self, Owner};

/// Makes sure that whoever runs this may write to the volume, and give to an owner what it writes.
/// That it is mounted read-only here says nothing of a run.
///
/// # Errors
/// It may not.
pub fn check(volume: &Volume, owner: Option<Owner>) -> Result<()> {
    match accessat(volume, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
        Ok(()) | Err(Errno::ROFS) => {}
        Err(errno) => return Err(volume.dir().error("write to", b"", errno)),
    }
    if owner.is_some_and(|owner| !owner.may_be_set().unwrap_or(true)) {
        bail!(owner::NEEDS_CHOWN);
    }
    Ok(())
}

/// Makes sure that it may write to those of some directories that are there, or may let itself.
///
/// # Errors
/// As [`check`].
pub fn check_directories(volume: &Volume, paths: &BTreeSet<&[u8]>) -> Result<()> {
    let dir = volume.dir();
    for path in paths {
        let Ok(fd) = dir.open_fd(path) else { continue };
        match accessat(&fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) | Err(Errno::ROFS) => {}
            Err(Errno::ACCESS) if fstat(&fd).is_ok_and(|s| s.st_uid == geteuid().as_raw()) => {}
            Err(errno) => return Err(dir.error("write to", path, errno)),
        }
    }
    Ok(())
}
