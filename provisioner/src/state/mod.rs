//! What is remembered on a volume, in a directory that nobody else may look into:
//!
//! ```text
//! ..provisioner/pinned               the version that is to stay (see `pin`)
//! ..provisioner/history              what was published when (see `history`)
//! ..provisioner/untold-...           what is still to be told (see `then`)
//! ..provisioner/versions/5f0c...     earlier versions, packed (see `archive`)
//! ..provisioner/files/               what is ours among plain files (see `files`)
//! ```
//!
//! No name here ends with what directory walkers look for. None of these files decides whether a tree
//! can go live.

pub mod lock;
pub mod time;

use std::io::{Read, Write};

use anyhow::{Result, bail};
use published_tree::dir::Dir;
use published_tree::records;
use published_tree::volume::Volume;
use rustix::io::Errno;

/// The directory on the volume.
pub const STATE: &str = "..provisioner";
/// Longest file that is read at once, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The directory of what is remembered.
pub struct State(Dir);

impl State {
    /// What is remembered on a volume; `None` as long as that is nothing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn find(volume: &Volume) -> Result<Option<Self>> {
        Ok(records::find_dir(volume.dir(), STATE)?.map(Self))
    }

    /// [`find`](Self::find), or the beginning of it.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn make(volume: &Volume) -> Result<Self> {
        Ok(Self(records::create_dir(volume.dir(), STATE)?))
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.0
    }

    /// What a file holds; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is too large to be ours.
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

    /// Replaces a file.
    ///
    /// # Errors
    /// It is as it was, or not on the disk.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        records::replace(&self.0, name, |file| {
            let written = file.write_all(content);
            written.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.0.error("write", name.as_bytes(), errno)
            })
        })
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        records::remove(&self.0, name)
    }
}
