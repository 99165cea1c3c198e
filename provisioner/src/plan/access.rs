//! Checks whether this process may write to the volume and set owners, as a run would. The volume may be
//! mounted read-only for a dry run, so nothing is tried out.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use published_tree::volume::Volume;
use rustix::fs::{Access, AtFlags, accessat, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::source::owner::{self, Owner};

/// Checks that this process may write to the volume, and change owners to `owner`. A read-only mount
/// is no error: only the dry run may have it.
///
/// # Errors
/// Fails if a permission is missing.
pub fn check_volume(volume: &Volume, owner: Option<Owner>) -> Result<()> {
    match accessat(volume, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
        Ok(()) | Err(Errno::ROFS) => {}
        Err(errno) => return Err(volume.dir().error("write to", b"", errno)),
    }
    if owner.is_some_and(|owner| !owner.may_be_set().unwrap_or(true)) {
        bail!(owner::NEEDS_CHOWN);
    }
    Ok(())
}

/// Checks that this process may write to the existing directories among `paths`, or owns them, so that
/// it can make them writable.
///
/// # Errors
/// Fails if a permission is missing.
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
