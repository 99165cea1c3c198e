//! The symbolic links at the top of a volume: one for each name at the top of the tree, through
//! [`DATA`], and temporary ones that were not renamed to [`DATA`].

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use rustix::fs::{AtFlags, readlinkat, symlinkat};
use rustix::io::Errno;

use super::{DATA, NEXT, Volume, unlink};

/// Whether the volume has the link for a name at the top of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A link through [`DATA`] to the same name.
    Ours,
    /// Another link, a file or a directory.
    Foreign,
    /// No entry.
    Missing,
}

impl Volume {
    /// Whether the volume has the link for `name`, another entry, or none.
    ///
    /// # Errors
    /// Fails if the entry cannot be read.
    pub fn link_state(&self, name: &[u8]) -> Result<LinkState> {
        match readlinkat(&self.dir, OsStr::from_bytes(name), Vec::new()) {
            Ok(target) if target.to_bytes() == link_target(name) => Ok(LinkState::Ours),
            Ok(_) | Err(Errno::INVAL) => Ok(LinkState::Foreign),
            Err(Errno::NOENT) => Ok(LinkState::Missing),
            Err(errno) => Err(self.dir.error("read the link", name, errno)),
        }
    }

    /// Creates the link for a name at the top of the tree.
    ///
    /// # Errors
    /// Fails if another entry is there or the link cannot be created.
    pub fn add_link(&self, name: &[u8]) -> Result<()> {
        self.add_link_as(name, OsStr::from_bytes(name))
    }

    /// Creates the link for `name`, but at the name `at`.
    ///
    /// # Errors
    /// As [`add_link`](Self::add_link).
    pub fn add_link_as(&self, name: &[u8], at: impl AsRef<OsStr>) -> Result<()> {
        let target = link_target(name);
        match symlinkat(OsStr::from_bytes(&target), &self.dir, at.as_ref()) {
            // On a volume without locks, another writer was faster. If it has just removed the link
            // again, it repairs the links afterwards.
            Err(Errno::EXIST) if self.link_state(name)? != LinkState::Foreign => Ok(()),
            made => made.map_err(|errno| self.dir.link_error(name, errno)),
        }
    }

    /// Removes our links whose names are not current. Returns whether there were any.
    ///
    /// # Errors
    /// Fails if a link cannot be removed.
    pub fn remove_stale_links(&self, is_current: impl Fn(&[u8]) -> bool) -> Result<bool> {
        let stale = self.stale_links(is_current)?;
        stale.iter().try_for_each(|name| unlink(&self.dir, name.to_bytes(), AtFlags::empty()))?;
        Ok(!stale.is_empty())
    }

    /// The names of our links that are not current.
    ///
    /// # Errors
    /// Fails if the volume cannot be read.
    pub fn stale_links(&self, is_current: impl Fn(&[u8]) -> bool) -> Result<Vec<Box<CStr>>> {
        let mut stale = Vec::new();
        for name in self.dir.names()? {
            let bytes = name.to_bytes();
            if !bytes.starts_with(b"..")
                && !is_current(bytes)
                && self.link_state(bytes)? == LinkState::Ours
            {
                stale.push(name);
            }
        }
        Ok(stale)
    }

    /// Removes temporary links that were never renamed to [`DATA`] and that `is_abandoned`.
    ///
    /// # Errors
    /// Fails if a link cannot be removed.
    pub fn remove_next_links(&self, is_abandoned: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.dir.names()? {
            if name.to_str().is_ok_and(|name| name.starts_with(NEXT) && is_abandoned(name)) {
                unlink(&self.dir, name.to_bytes(), AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

fn link_target(name: &[u8]) -> Vec<u8> {
    [DATA.as_bytes(), b"/", name].concat()
}
