//! Whom published files, directories and links belong to, if that is asked for.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Gid, StatxFlags, Uid, chownat, fchown, statx};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities};

use crate::place::Place;

/// A user, and a group if that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: Option<u32>,
}

/// A user and perhaps a group by their numbers, as `1000` or `1000:1000`.
///
/// # Errors
/// What it is instead.
pub fn parse(text: &str) -> Result<Owner, String> {
    // Signs are no digits, and the largest number stands for nobody (chown(2)).
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

    /// Gives an open file or directory to it.
    ///
    /// # Errors
    /// Those of the system; it does as if (`ENOTSUP`).
    pub fn give(self, fd: impl AsFd) -> Result<(), Errno> {
        let (uid, gid) = self.ids();
        fchown(&fd, uid, gid)?;
        self.check(fd, b"")
    }

    /// Gives a link to it, not what it leads to.
    ///
    /// # Errors
    /// As those of [`give`](Self::give).
    pub fn give_link(self, directory: impl AsFd, name: &OsStr) -> Result<(), Errno> {
        let (uid, gid) = self.ids();
        chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        self.check(directory, name.as_bytes())
    }

    /// Whether whoever runs this may give files of its own to it, as far as the system says so.
    ///
    /// # Errors
    /// It does not say.
    pub fn may_be_given(self) -> Result<bool, Errno> {
        // chown(2): to a group that one is in the right is not needed.
        let is_own = |gid: Gid| Ok(gid == getegid() || getgroups()?.contains(&gid));
        let (uid, gid) = self.ids();
        if uid == Some(geteuid()) && gid.map_or(Ok(true), is_own)? {
            return Ok(true);
        }
        Ok(capabilities(None)?.effective.contains(CapabilitySet::CHOWN))
    }

    /// Some file systems know one owner alone, and say nothing.
    fn check(self, directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        if self.has(directory, name)? { Ok(()) } else { Err(Errno::NOTSUP) }
    }

    /// Whether an entry belongs to it, or with an empty name the directory itself.
    ///
    /// # Errors
    /// Those of the system.
    pub fn has(self, directory: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
        Ok(self.other(directory, name)?.is_none())
    }

    /// Whom an entry belongs to instead of it, as [`has`](Self::has) sees it; its group only if that
    /// matters.
    ///
    /// # Errors
    /// Those of the system.
    pub fn other(self, directory: impl AsFd, name: &[u8]) -> Result<Option<Self>, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::UID | StatxFlags::GID;
        let stat = statx(directory, OsStr::from_bytes(name), flags, wanted)?;
        let found = Self { uid: stat.stx_uid, gid: self.gid.map(|_| stat.stx_gid) };
        Ok((found != self).then_some(found))
    }
}

/// What it takes to give something to an owner.
pub const RIGHT: &str = "--owner takes the right to give files away (CAP_CHOWN)";

/// The error if something cannot be given to its owner.
pub fn failure(place: &Place, path: &[u8], errno: Errno) -> anyhow::Error {
    let failure = place.failure("change the owner of", path, errno);
    match errno {
        Errno::PERM => failure.context(RIGHT),
        _ => failure,
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
