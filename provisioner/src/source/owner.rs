//! The owner of published files, directories and links (`--owner`).

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use published_tree::dir::Dir;
use rustix::fs::{AtFlags, Gid, StatxFlags, Uid, chownat, fchown, statx};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities};

/// A user ID, and a group ID if one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: Option<u32>,
}

/// Parses `UID` or `UID:GID`, as in `1000` or `1000:1000`.
///
/// # Errors
/// Returns the expected form.
pub fn parse(text: &str) -> Result<Owner, String> {
    // `parse` would accept a sign. chown(2) takes the largest number for "unchanged".
    let number = |text: &str| {
        let number = text.parse().ok().filter(|&number| number != u32::MAX);
        number.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let gid = gid.map(|gid| number(gid).ok_or(())).transpose();
    match (number(uid), gid) {
        (Some(uid), Ok(gid)) => Ok(Owner { uid, gid }),
        _ => Err("not UID or UID:GID, by their numbers".to_owned()),
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.uid)?;
        self.gid.map_or(Ok(()), |gid| write!(out, ":{gid}"))
    }
}

impl Owner {
    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), self.gid.map(Gid::from_raw))
    }

    /// Changes the owner of an open file or directory.
    ///
    /// # Errors
    /// Returns the system's error, and `ENOTSUP` if the file system ignored the change.
    pub fn set_on(self, fd: impl AsFd) -> Result<(), Errno> {
        let (uid, gid) = self.ids();
        fchown(&fd, uid, gid)?;
        self.check(fd, b"")
    }

    /// Changes the owner of a symbolic link itself.
    ///
    /// # Errors
    /// As [`set_on`](Self::set_on).
    pub fn set_on_link(self, directory: impl AsFd, name: &OsStr) -> Result<(), Errno> {
        let (uid, gid) = self.ids();
        chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        self.check(directory, name.as_bytes())
    }

    /// Whether this process may give its own files to this owner.
    ///
    /// # Errors
    /// Fails if the groups or capabilities of the process cannot be read.
    pub fn may_be_set(self) -> Result<bool, Errno> {
        // chown(2): no capability is needed for a group that the process is a member of.
        let is_member = |gid: Gid| Ok(gid == getegid() || getgroups()?.contains(&gid));
        let (uid, gid) = self.ids();
        if uid == Some(geteuid()) && gid.map_or(Ok(true), is_member)? {
            return Ok(true);
        }
        Ok(capabilities(None)?.effective.contains(CapabilitySet::CHOWN))
    }

    /// Detects file systems that have a single owner and ignore changes.
    fn check(self, directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        if self.owns(directory, name)? { Ok(()) } else { Err(Errno::NOTSUP) }
    }

    /// Whether an entry of `directory`, or the directory itself if the name is empty, has this
    /// owner.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn owns(self, directory: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
        Ok(self.actual_if_wrong(directory, name)?.is_none())
    }

    /// The actual owner of an entry, if it is not this one; without a group if this one has none.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn actual_if_wrong(self, directory: impl AsFd, name: &[u8]) -> Result<Option<Self>, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::UID | StatxFlags::GID;
        let stat = statx(directory, OsStr::from_bytes(name), flags, wanted)?;
        let found = Self { uid: stat.stx_uid, gid: self.gid.map(|_| stat.stx_gid) };
        Ok((found != self).then_some(found))
    }
}

/// The context of an error when the right to change owners is missing.
pub const NEEDS_CHOWN: &str = "--owner takes the right to give files away (CAP_CHOWN)";

/// The error when the owner of `path` cannot be changed.
pub fn chown_error(dir: &Dir, path: &[u8], errno: Errno) -> anyhow::Error {
    let error = dir.error("change the owner of", path, errno);
    match errno {
        Errno::PERM => error.context(NEEDS_CHOWN),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers() {
        assert_eq!(parse("0"), Ok(Owner { uid: 0, gid: None }));
        assert_eq!(parse("1000:100"), Ok(Owner { uid: 1000, gid: Some(100) }));
        assert_eq!(parse("4294967294").unwrap().to_string(), "4294967294");
        assert_eq!(parse("1:2").unwrap().to_string(), "1:2");
        for text in ["", ":", "1:", ":1", "+1", "-1", "4294967295", "1:4294967295", "root", "1:2:3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
