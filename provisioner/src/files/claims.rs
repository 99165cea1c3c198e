//! What on a volume of plain files is ours, and so may be replaced and removed. It stands beside
//! what else is remembered (see `state`):
//!
//! ```text
//! ..provisioner/files/published      what was published
//! ..provisioner/files/pending-...    what was to be, before anything of it was put in place
//! ..provisioner/files/next-...       what is to be put in place, as far as it is there
//! ```
//!
//! A record begins with a line of JSON, the manifest of the tree follows. A publication that is
//! complete makes its pending record the published one. Until then both are claims, and those of
//! runs that were killed before: so no run loses sight of what another has put in place.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use diagnostics::report::Report;
use published_tree::dir::{Dir, open_noatime};
use published_tree::manifest::{self, hex};
use published_tree::records;
use published_tree::tree::{Hash, Node, Tree};
use published_tree::volume::Volume;
use rustix::fs::{AtFlags, FileType, OFlags, readlinkat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::state::{STATE, State};
use sha2::{Digest, Sha256};

/// The directory of all this.
pub const FILES: &str = "files";
/// What was published.
const PUBLISHED: &str = "published";
/// What the names of records begin with of what was to be published.
const PENDING: &str = "pending-";
/// Longest first line of a record, in bytes.
const MAX_HEADER: u64 = 4096;
/// Bytes read at a time.
const BUFFER_SIZE: usize = 128 * 1024;

/// The permission bits that a volume gives to everything, whatever was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedModes {
    /// To files.
    pub file: u16,
    /// To directories.
    pub directory: u16,
}

#[derive(Serialize, Deserialize)]
struct Header {
    digest: String,
    /// In seconds since 1970.
    published: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fixed_modes: Option<FixedModes>,
}

/// A tree that was published, or was to be.
pub struct Record {
    /// What it was then.
    pub tree: Tree,
    /// The digest of its manifest.
    pub digest: Hash,
    /// When it was published.
    pub since: SystemTime,
    /// The modes of the volume, if it knows no others.
    pub fixed_modes: Option<FixedModes>,
}

/// All that is ours on a volume.
#[derive(Default)]
pub struct Claims {
    /// What was published, and not yet replaced as a whole.
    pub published: Option<Record>,
    /// What was to be published by runs that did not come to their end: it may be there or not.
    pub pending: Vec<Tree>,
    /// The names of all these records but that of what was published, and of broken ones.
    pub unsettled: Vec<String>,
}

impl Claims {
    /// Reads the claims on a volume. What cannot be read is warned of: it is nobody's then.
    ///
    /// # Errors
    /// They cannot be looked for.
    pub fn of(volume: &Volume, report: &mut Report) -> Result<Self> {
        let mut claims = Self::default();
        let Some(dir) = find(volume)? else { return Ok(claims) };
        let records = records(&dir)?;
        for name in &records {
            match read(&dir, name) {
                Ok(record) if name == PUBLISHED => claims.published = Some(record),
                Ok(record) => claims.pending.push(record.tree),
                Err(error) => report.warn(format!(
                    "what was published and is not in the tree stays on the volume: {error:#}"
                )),
            }
        }
        let is_settled = |name: &String| name == PUBLISHED && claims.published.is_some();
        claims.unsettled = records.into_iter().filter(|name| !is_settled(name)).collect();
        Ok(claims)
    }

    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        self.published.is_some() || !self.pending.is_empty()
    }

    /// The modes of the volume, if it knew no others when it was published to.
    pub fn fixed_modes(&self) -> Option<FixedModes> {
        self.published.as_ref().and_then(|record| record.fixed_modes)
    }

    /// Whether something at this path was ours, or was to be.
    pub fn have(&self, path: &[u8]) -> bool {
        self.trees().any(|tree| tree.find(path).is_some())
    }

    /// Whether what stands at `name` in an open directory is ours: of the kind that was published
    /// at this path. What only was to be published must be just that, since somebody else may have
    /// been there before.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn own(&self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool, Errno> {
        let published = self.published.as_ref().map(|record| &record.tree);
        let claimed = |tree: &Tree, is_certain: bool| match tree.find(path) {
            Some(index) => is(directory, name, tree.entry(index).1, is_certain),
            None => Ok(false),
        };
        if let Some(tree) = published
            && claimed(tree, true)?
        {
            return Ok(true);
        }
        for tree in &self.pending {
            if claimed(tree, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All trees that are claimed.
    pub fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.published.iter().map(|record| &record.tree).chain(&self.pending)
    }
}

/// Whether there are any claims on a volume.
///
/// # Errors
/// They cannot be looked for.
pub fn are_any(volume: &Volume) -> Result<bool> {
    Ok(!all(volume)?.is_empty())
}

/// The names of all records on a volume.
///
/// # Errors
/// They cannot be looked for.
pub fn all(volume: &Volume) -> Result<Vec<String>> {
    Ok(find(volume)?.map(|dir| records(&dir)).transpose()?.unwrap_or_default())
}

/// What tells plain files that were published from those before: how their record begins. `None` if
/// there are none.
///
/// # Errors
/// It cannot be read.
pub fn published_header(volume: &Volume) -> Result<Option<Vec<u8>>> {
    let Some(dir) = find(volume)? else { return Ok(None) };
    let Some(file) = records::open(&dir, PUBLISHED)? else { return Ok(None) };
    let mut line = Vec::new();
    let read = BufReader::new(file).take(MAX_HEADER).read_until(b'\n', &mut line);
    read.map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        dir.error("read", PUBLISHED.as_bytes(), errno)
    })?;
    Ok(Some(line))
}

/// The directory of all this, if it is there.
///
/// # Errors
/// It cannot be opened.
pub fn find(volume: &Volume) -> Result<Option<Dir>> {
    let state = State::find(volume)?;
    Ok(state.map(|state| records::find_dir(state.dir(), FILES)).transpose()?.flatten())
}

fn records(dir: &Dir) -> Result<Vec<String>> {
    let listed = dir.names()?;
    let names = listed.iter().filter_map(|name| name.to_str().ok());
    let is_record = |name: &&str| *name == PUBLISHED || name.starts_with(PENDING);
    Ok(names.filter(is_record).map(str::to_owned).collect())
}

fn read(dir: &Dir, name: &str) -> Result<Record> {
    let shown = dir.display_path(name.as_bytes());
    let record = || -> Result<Record> {
        let file = records::open(dir, name)?.context("it is not there")?;
        let (mut input, mut line) = (BufReader::new(file), Vec::new());
        (&mut input).take(MAX_HEADER).read_until(b'\n', &mut line)?;
        let header: Header = serde_json::from_slice(&line)?;
        let (tree, digest) = manifest::read(input)?;
        let is_hidden = |index| tree.entry(index).0.starts_with(b"..");
        if hex(&digest) != header.digest || (0..tree.len()).any(is_hidden) {
            bail!("it is not what was written");
        }
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(header.published));
        let since = since.context("it is from too late")?;
        Ok(Record { tree, digest, since, fixed_modes: header.fixed_modes })
    };
    record().with_context(|| format!("`{}` cannot be understood", shown.display()))
}

/// Writes down that a tree, whose files have their hashes, is about to be published; its digest.
/// It is on the disk then.
///
/// # Errors
/// It is not.
pub fn claim(dir: &Dir, tag: &str, tree: &Tree, fixed_modes: Option<FixedModes>) -> Result<Hash> {
    let digest = manifest::write(tree, std::io::sink())?;
    let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = Header { digest: hex(&digest), published, fixed_modes };
    let name = format!("{PENDING}{tag}");
    records::replace(dir, &name, |file| {
        let mut out = std::io::BufWriter::new(file);
        writeln!(out, "{}", serde_json::json!(header))
            .and_then(|()| manifest::write(tree, &mut out))
            .and_then(|_| out.flush())
            .map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                dir.error("write", name.as_bytes(), errno)
            })
    })?;
    Ok(digest)
}

/// What was claimed is published, and there are none of the other claims any more.
///
/// # Errors
/// That is not on the disk.
pub fn settle(dir: &Dir, tag: &str, others: &[String]) -> Result<()> {
    let name = format!("{PENDING}{tag}");
    renameat(dir, &name, dir, PUBLISHED)
        .map_err(|errno| dir.error("replace", PUBLISHED.as_bytes(), errno))?;
    sync(dir)?;
    others.iter().filter(|name| *name != PUBLISHED).try_for_each(|name| records::remove(dir, name))
}

/// Brings the names of records to the disk.
///
/// # Errors
/// They are not there.
pub fn sync(dir: &Dir) -> Result<()> {
    rustix::fs::fsync(dir).map_err(|errno| dir.error("sync", b"", errno))
}

/// Removes directories that nothing was ever published from, if they are empty.
pub fn tidy(volume: &Volume) {
    if let Ok(Some(state)) = State::find(volume) {
        let _ = unlinkat(state.dir(), FILES, AtFlags::REMOVEDIR);
        let _ = unlinkat(volume, STATE, AtFlags::REMOVEDIR);
    }
}

/// Whether something is what a tree says. If it is certain that it was put there, for a file its
/// kind is enough: it may be damaged.
fn is(directory: &OwnedFd, name: &[u8], node: Node<'_>, is_certain: bool) -> Result<bool, Errno> {
    let Some((kind, size)) = super::look(directory, name)?.map(|found| (found.kind, found.size))
    else {
        return Ok(false);
    };
    match node {
        Node::Directory { .. } => Ok(kind == FileType::Directory),
        Node::Link { target } if kind == FileType::Symlink => {
            let found = readlinkat(directory, OsStr::from_bytes(name), Vec::new())?;
            Ok(found.to_bytes() == target)
        }
        Node::File { size: expected, hash, .. } if kind == FileType::RegularFile => {
            Ok(is_certain || size == expected && content(directory, name)? == *hash)
        }
        Node::Link { .. } | Node::File { .. } => Ok(false),
    }
}

/// What a file in an open directory holds.
///
/// # Errors
/// Those of the system.
pub fn content(directory: impl AsFd, name: &[u8]) -> Result<Hash, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open_noatime(directory, OsStr::from_bytes(name), flags)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; BUFFER_SIZE]);
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(count) => digest.update(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
