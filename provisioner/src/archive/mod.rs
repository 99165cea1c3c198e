//! Archives of earlier versions: one compressed file for each, named by its digest.
//!
//! An archive is a gzip file with three parts:
//!
//! 1. a line of JSON, the [`Header`];
//! 2. the manifest of the version;
//! 3. the content of its files, one after the other in the order of the manifest.
//!
//! Their directory is closed to other users, and their names have no extension, so programs that load
//! everything below a directory do not find them.

pub mod archived;
pub mod change_time;
pub mod history;
pub mod leftovers;
mod pack;
pub mod pin;
pub mod retire;
pub mod rollback;
pub mod unpack;

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use diagnostics::wording::io_error;
use flate2::read::GzDecoder;
use published_tree::dir::Dir;
use published_tree::manifest::{self, hex, unhex};
use published_tree::records;
use published_tree::tree::{Hash, Tree};
use published_tree::volume::Volume;
use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use crate::state::State;

/// The name of their directory below the state directory.
const VERSIONS: &str = "versions";
/// Longest header, in bytes.
const MAX_HEADER: u64 = 4096;

/// The directory of a volume's archives.
pub struct Archives(Dir);

/// An archive in the directory, not opened yet.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The digest of the version.
    pub digest: Hash,
    /// When it was packed. The version was live until shortly before.
    pub packed: SystemTime,
    /// Its size, in bytes.
    pub size: u64,
}

/// The first line of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// The number of files and links.
    pub files: u64,
    /// The size of the files.
    pub bytes: u64,
    /// The length of the manifest that follows, in bytes.
    manifest: u64,
}

/// The decompressed content of an archive.
pub type Content = BufReader<GzDecoder<BufReader<File>>>;

impl Archives {
    /// Opens the archives of a volume; `None` if it has no directory for them yet.
    ///
    /// # Errors
    /// Fails if the directory exists and cannot be opened.
    pub fn find(volume: &Volume) -> Result<Option<Self>> {
        let Some(state) = State::find(volume)? else { return Ok(None) };
        Ok(records::find_dir(state.dir(), VERSIONS)?.map(Self))
    }

    /// Opens the archives of a volume, and creates their directory if it does not exist.
    ///
    /// # Errors
    /// Fails if the directory cannot be created or opened.
    pub fn find_or_create(volume: &Volume) -> Result<Self> {
        Ok(Self(records::create_dir(State::find_or_create(volume)?.dir(), VERSIONS)?))
    }

    /// Their directory.
    pub fn dir(&self) -> &Dir {
        &self.0
    }

    /// Lists all archives, the newest first.
    ///
    /// # Errors
    /// Fails if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Archive>> {
        let mut archives = Vec::new();
        for name in self.0.names()? {
            let digest = name.to_str().ok().and_then(unhex);
            let wanted = StatxFlags::MTIME | StatxFlags::SIZE;
            let stat = statx(&self.0, &*name, AtFlags::SYMLINK_NOFOLLOW, wanted);
            if let (Some(digest), Ok(stat)) = (digest, stat) {
                let seconds = u64::try_from(stat.stx_mtime.tv_sec).unwrap_or_default();
                let packed =
                    SystemTime::UNIX_EPOCH + Duration::new(seconds, stat.stx_mtime.tv_nsec);
                archives.push(Archive { digest, packed, size: stat.stx_size });
            }
        }
        archives.sort_by_key(|archive| Reverse(archive.packed));
        Ok(archives)
    }

    /// Opens an archive and reads its tree. The content of the files follows, for
    /// [`unpack`](crate::archive::unpack::unpack).
    ///
    /// # Errors
    /// Fails if the archive does not exist or is damaged.
    pub fn open(&self, digest: &Hash) -> Result<(Tree, Content)> {
        let (header, mut content) = self.read_header(digest)?;
        let (tree, found) = manifest::read((&mut content).take(header.manifest))?;
        if found != *digest {
            bail!("its manifest is that of another version");
        }
        Ok((tree, content))
    }

    /// Reads the header of an archive.
    ///
    /// # Errors
    /// Fails if the archive does not exist or is damaged.
    pub fn header(&self, digest: &Hash) -> Result<Header> {
        Ok(self.read_header(digest)?.0)
    }

    fn read_header(&self, digest: &Hash) -> Result<(Header, Content)> {
        let file = records::open(&self.0, &hex(digest))?.context("it does not exist")?;
        let mut content = BufReader::new(GzDecoder::new(BufReader::new(file)));
        let mut line = Vec::new();
        let read = (&mut content).take(MAX_HEADER).read_until(b'\n', &mut line);
        read.map_err(|error| anyhow!("failed to read its header: {}", io_error(&error)))?;
        Ok((serde_json::from_slice(&line).context("its header cannot be parsed")?, content))
    }

    /// Removes an archive.
    ///
    /// # Errors
    /// Fails if it cannot be removed.
    pub fn remove(&self, digest: &Hash) -> Result<()> {
        records::remove(&self.0, &hex(digest))
    }

    /// Removes all but the newest `keep` archives of earlier versions, and the archive of the live
    /// version. The archive of a pinned version stays, because the version is repaired from it.
    ///
    /// # Errors
    /// Fails if the archives cannot be listed or one cannot be removed.
    pub fn prune(&self, keep: usize, live: Option<Hash>, pinned: Option<Hash>) -> Result<()> {
        let archived: Vec<Hash> = self.list()?.iter().map(|archive| archive.digest).collect();
        unwanted(&archived, keep, live, pinned).iter().try_for_each(|digest| self.remove(digest))
    }

    /// Removes the incomplete archives that killed runs have left.
    ///
    /// # Errors
    /// Fails if one cannot be removed.
    pub fn remove_incomplete(&self) -> Result<()> {
        records::remove_incomplete(&self.0)
    }
}

/// The archives that [`Archives::prune`] removes. `archived` has the newest first.
fn unwanted(archived: &[Hash], keep: usize, live: Option<Hash>, pinned: Option<Hash>) -> Vec<Hash> {
    let (earlier, of_live): (Vec<Hash>, Vec<Hash>) =
        archived.iter().partition(|digest| Some(**digest) != live);
    let unwanted = earlier.into_iter().skip(keep).chain(of_live);
    unwanted.filter(|digest| Some(*digest) != pinned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_archives_and_the_pinned_one_stay() {
        let [a, b, c, d] = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let archived = [a, b, c, d];
        assert_eq!(unwanted(&archived, 2, None, None), [c, d]);
        assert_eq!(unwanted(&archived, 4, None, None), [[0; 32]; 0]);
        assert_eq!(unwanted(&archived, 0, None, None), archived);
        // The archive of the live version does not count as an earlier version.
        assert_eq!(unwanted(&archived, 2, Some(a), None), [d, a]);
        assert_eq!(unwanted(&archived, 2, Some(a), Some(a)), [d]);
        assert_eq!(unwanted(&archived, 2, None, Some(d)), [c]);
    }
}
