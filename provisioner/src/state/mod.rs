//! The provisioner's own directory on a volume, closed to other users:
//!
//! ```text
//! ..provisioner/pinned               the pin (see `archive::pin`)
//! ..provisioner/history              the versions that were live (see `archive::history`)
//! ..provisioner/untold-...           pending notifications (see `then::pending`)
//! ..provisioner/versions/5f0c...     archives of earlier versions (see `archive`)
//! ..provisioner/files/               records of plain files (see `files`)
//! ```
//!
//! No name has an extension that programs look for when they load everything below a directory. A
//! damaged file here never keeps a tree from going live.

pub mod lock;
pub mod timestamp;

use std::io::{Read, Write};

use anyhow::{Result, bail};
use published_tree::dir::Dir;
use published_tree::records;
use published_tree::volume::Volume;
use rustix::io::Errno;

/// The name of the directory.
pub const STATE: &str = "..provisioner";
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The state directory of a volume.
pub struct State(Dir);

impl State {
    /// Opens the state directory; `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if it exists and cannot be opened.
    pub fn find(volume: &Volume) -> Result<Option<Self>> {
        Ok(records::find_dir(volume.dir(), STATE)?.map(Self))
    }

    /// Opens the state directory, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if it cannot be created or opened.
    pub fn find_or_create(volume: &Volume) -> Result<Self> {
        Ok(Self(records::create_dir(volume.dir(), STATE)?))
    }

    /// The open directory.
    pub fn dir(&self) -> &Dir {
        &self.0
    }

    /// Reads a file; `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if it cannot be read or is longer than any file that this program writes.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = records::open(&self.0, name)? else { return Ok(None) };
        let mut content = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut content);
        read.map_err(|error| {
            self.0.error("read", name.as_bytes(), Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        if content.len() as u64 > MAX_FILE {
            bail!("`{}` is too large", self.0.display_path(name.as_bytes()).display());
        }
        Ok(Some(content))
    }

    /// Replaces a file atomically and durably.
    ///
    /// # Errors
    /// Fails if the new file cannot be written or synced; see [`records::replace`].
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        records::replace(&self.0, name, |file| {
            let written = file.write_all(content);
            written.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.0.error("write", name.as_bytes(), errno)
            })
        })
    }

    /// Removes a file, if it exists.
    ///
    /// # Errors
    /// Fails if it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        records::remove(&self.0, name)
    }
}
