//! The links on a volume: those of names at the top of the tree, and those that never became
//! [`DATA`].

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use rustix::fs::{AtFlags, readlinkat, symlinkat};
use rustix::io::Errno;

use super::{DATA, NEXT, Volume, unlink};

/// What stands at a name on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A link through [`DATA`] to the same name.
    Ours,
    /// Anything else.
    Foreign,
    /// Nothing.
    Missing,
}

impl Volume {
    /// What stands at `name` on the volume.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn link(&self, name: &[u8]) -> Result<Link> {
        let failure = |errno| self.place.failure("read the link", name, errno);
        match readlinkat(&self.place, OsStr::from_bytes(name), Vec::new()) {
            Ok(target) if target.to_bytes() == link_target(name) => Ok(Link::Ours),
            Ok(_) | Err(Errno::INVAL) => Ok(Link::Foreign),
            Err(Errno::NOENT) => Ok(Link::Missing),
            Err(errno) => Err(failure(errno)),
        }
    }

    /// Makes the link of a name at the top of the tree.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn add_link(&self, name: &[u8]) -> Result<()> {
        self.add_link_as(name, OsStr::from_bytes(name))
    }

    /// Makes the link of a name under another name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn add_link_as(&self, name: &[u8], at: impl AsRef<OsStr>) -> Result<()> {
        let target = link_target(name);
        match symlinkat(OsStr::from_bytes(&target), &self.place, at.as_ref()) {
            // Another writer was faster, where there is no lock. If it has just removed it instead,
            // it will see who is live now.
            Err(Errno::EXIST) if self.link(name)? != Link::Foreign => Ok(()),
            made => made.map_err(|errno| self.place.link_failure(name, errno)),
        }
    }

    /// Removes the links of names that the tree does not have any more; whether there were any.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_stale_links(&self, is_current: impl Fn(&[u8]) -> bool) -> Result<bool> {
        let stale = self.stale_links(is_current)?;
        stale.iter().try_for_each(|name| unlink(&self.place, name.to_bytes(), AtFlags::empty()))?;
        Ok(!stale.is_empty())
    }

    /// The links of names that the tree does not have any more.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub fn stale_links(&self, is_current: impl Fn(&[u8]) -> bool) -> Result<Vec<Box<CStr>>> {
        let mut stale = Vec::new();
        for name in self.names()? {
            let bytes = name.to_bytes();
            if !bytes.starts_with(b"..") && !is_current(bytes) && self.link(bytes)? == Link::Ours {
                stale.push(name);
            }
        }
        Ok(stale)
    }

    /// Removes links that were made to become [`DATA`] and did not, of those that are left over.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_unused_links(&self, is_left: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.names()? {
            if name.to_str().is_ok_and(|name| name.starts_with(NEXT) && is_left(name)) {
                unlink(&self.place, name.to_bytes(), AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

fn link_target(name: &[u8]) -> Vec<u8> {
    [DATA.as_bytes(), b"/", name].concat()
}
