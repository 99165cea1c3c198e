//! Earlier versions, each packed into one file where no directory walker finds it.
//!
//! An archive is compressed as gzip does: a line of JSON (its [`Header`]), the manifest of the
//! version, and what its files hold, one after the other in the order of the manifest.

pub mod archived;
pub mod history;
pub mod pin;
pub mod retire;
pub mod rollback;
pub mod unpack;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use diagnostics::wording::io_error;
use published_tree::dir::Dir;
use published_tree::manifest::{self, hex, unhex};
use published_tree::progress::Progress;
use published_tree::records;
use published_tree::tree::{Hash, Totals, Tree};
use published_tree::verify::copy_verified;
use published_tree::volume::{Published, Volume};
use rustix::fs::{AtFlags, StatxFlags, fstatvfs, statx};
use serde::{Deserialize, Serialize};

use crate::shutdown::Shutdown;
use crate::state::State;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

const VERSIONS: &str = "versions";
/// Longest header, in bytes.
const MAX_HEADER: u64 = 4096;
/// Bytes that are written between two looks at the room on the volume.
const LOOK_EVERY: u64 = 256 * 1024;
/// Of all its room, the part that no archive takes: one in twenty, as ext4 keeps for root.
const SPARED: u64 = 20;

/// The archives of a volume.
pub struct Archives(Dir);

/// An archive, as its name and the file system have it.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The version.
    pub digest: Hash,
    /// When it was packed, so it was live until then or a little less.
    pub packed: SystemTime,
    /// What it takes, in bytes.
    pub size: u64,
}

/// How an archive begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// Files and links.
    pub files: u64,
    /// What the files hold.
    pub bytes: u64,
    /// The length of the manifest that follows, in bytes.
    manifest: u64,
}

/// The inside of an archive.
pub type Content = BufReader<GzDecoder<BufReader<File>>>;

impl Archives {
    /// The archives of a volume; `None` as long as there are none.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn find(volume: &Volume) -> Result<Option<Self>> {
        let Some(state) = State::find(volume)? else { return Ok(None) };
        Ok(records::find_dir(state.dir(), VERSIONS)?.map(Self))
    }

    /// [`find`](Self::find), or the place for them.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn make(volume: &Volume) -> Result<Self> {
        Ok(Self(records::create_dir(State::make(volume)?.dir(), VERSIONS)?))
    }

    /// Their directory.
    pub fn dir(&self) -> &Dir {
        &self.0
    }

    /// All of them, the last packed first.
    ///
    /// # Errors
    /// They cannot be listed.
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
        archives.sort_by_key(|archive| std::cmp::Reverse(archive.packed));
        Ok(archives)
    }

    /// Packs a version, and makes sure meanwhile that it is what was published.
    ///
    /// # Errors
    /// It is not, there is no room for it, or somebody wants an end: then there is no archive of it
    /// but one from before.
    pub fn pack(&self, published: &Published, stop: &Shutdown) -> Result<()> {
        records::replace(&self.0, &hex(&published.digest), |file| {
            let encoder =
                GzEncoder::new(Spare { volume: &self.0, file, stop, left: 0 }, Compression::fast());
            let mut out = BufWriter::with_capacity(64 * 1024, encoder);
            let Totals { files, bytes } = published.tree.totals();
            let mut length = Count(0);
            manifest::write(&published.tree, &mut length)?;
            let header = Header { files, bytes, manifest: length.0 };
            writeln!(out, "{}", serde_json::json!(header)).context("failed to begin")?;
            manifest::write(&published.tree, &mut out)?;
            copy_verified(published, &mut out, &Progress::default())?;
            let ended = out.into_inner().map_err(io::IntoInnerError::into_error);
            ended.and_then(GzEncoder::finish).map(drop).context("failed to end")
        })
    }

    /// Opens an archive, and reads what is in it. Its content follows, for
    /// [`unpack`](crate::archive::unpack::unpack).
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn open(&self, digest: &Hash) -> Result<(Tree, Content)> {
        let (header, mut content) = self.begin(digest)?;
        let (tree, found) = manifest::read((&mut content).take(header.manifest))?;
        if found != *digest {
            bail!("its manifest is that of another version");
        }
        Ok((tree, content))
    }

    /// How an archive begins.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn header(&self, digest: &Hash) -> Result<Header> {
        Ok(self.begin(digest)?.0)
    }

    fn begin(&self, digest: &Hash) -> Result<(Header, Content)> {
        let file = records::open(&self.0, &hex(digest))?.context("it is not there")?;
        let mut content = BufReader::new(GzDecoder::new(BufReader::new(file)));
        let mut line = Vec::new();
        let read = (&mut content).take(MAX_HEADER).read_until(b'\n', &mut line);
        read.map_err(|error| anyhow::anyhow!("failed to read it: {}", io_error(&error)))?;
        Ok((serde_json::from_slice(&line).context("it does not begin as archives do")?, content))
    }

    /// Removes an archive.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, digest: &Hash) -> Result<()> {
        records::remove(&self.0, &hex(digest))
    }

    /// Removes all but the last `keep` of them. What is live needs none, unless it is `pinned`: then
    /// it is repaired from it.
    ///
    /// # Errors
    /// They cannot be listed, or one cannot be removed.
    pub fn prune(&self, keep: usize, live: Option<Hash>, pinned: Option<Hash>) -> Result<()> {
        let listed = self.list()?.into_iter().map(|archive| archive.digest);
        let (earlier, of_live): (Vec<_>, Vec<_>) = listed.partition(|d| Some(*d) != live);
        let unwanted = earlier.iter().skip(keep).chain(&of_live);
        unwanted.filter(|digest| Some(**digest) != pinned).try_for_each(|d| self.remove(d))
    }

    /// Removes what runs have begun which were killed.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_incomplete(&self) -> Result<()> {
        records::remove_incomplete(&self.0)
    }
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as long as that leaves others on the volume some room, and nobody wants an end.
struct Spare<'a> {
    volume: &'a Dir,
    file: &'a mut File,
    stop: &'a Shutdown,
    /// What may be written before the next look.
    left: u64,
}

impl Write for Spare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.has_come() {
            return Err(io::Error::other("told to end"));
        }
        if self.left == 0 {
            let found = fstatvfs(self.volume)?;
            let spared = (found.f_blocks / SPARED).saturating_mul(found.f_frsize);
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < spared.saturating_add(LOOK_EVERY) {
                return Err(io::Error::other("the last of the room on the volume is for others"));
            }
            self.left = LOOK_EVERY;
        }
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let count = self.file.write(&bytes[..most])?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
