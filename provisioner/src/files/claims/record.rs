//! The records of published trees: a line of JSON (the [`Header`]), then the manifest of the tree.
//!
//! 1. [`write_pending`] writes a pending record before any file of its tree is put in place.
//! 2. [`complete`] renames it to `published` when all files are in place, and removes the pending
//!    records of runs that were killed.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use published_tree::dir::Dir;
use published_tree::manifest::{self, hex};
use published_tree::records;
use published_tree::tree::{Hash, Tree};
use published_tree::volume::Volume;
use rustix::fs::{fsync, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::find_dir;

/// The record of the published tree.
pub const PUBLISHED: &str = "published";
/// Prefix of the records of trees whose publication is not complete.
const PENDING: &str = "pending-";
/// Longest header, in bytes.
const MAX_HEADER: u64 = 4096;

/// The permission bits that a volume gives to every entry, even if other ones are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedModes {
    /// Of files.
    pub file: u16,
    /// Of directories.
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

/// A tree that was published, or whose publication was started.
#[derive(Debug)]
pub struct Record {
    /// The tree.
    pub tree: Tree,
    /// The hash of its manifest.
    pub digest: Hash,
    /// When it was published.
    pub since: SystemTime,
    /// The modes that the volume gives to every entry, if it keeps no others.
    pub fixed_modes: Option<FixedModes>,
}

/// The names of all records in the directory of claims.
pub(super) fn names(dir: &Dir) -> Result<Vec<String>> {
    let listed = dir.names()?;
    let names = listed.iter().filter_map(|name| name.to_str().ok());
    let is_record = |name: &&str| *name == PUBLISHED || name.starts_with(PENDING);
    Ok(names.filter(is_record).map(str::to_owned).collect())
}

/// Reads a record.
pub(super) fn read(dir: &Dir, name: &str) -> Result<Record> {
    let opened = records::open(dir, name).and_then(|file| file.context("it is missing"));
    opened.and_then(|file| parse(BufReader::new(file))).with_context(|| {
        format!("`{}` cannot be read", dir.display_path(name.as_bytes()).display())
    })
}

fn parse(mut input: impl BufRead) -> Result<Record> {
    let header: Header = serde_json::from_slice(&read_header(&mut input)?)?;
    let (tree, digest) = manifest::read(input)?;
    let is_reserved = |index| tree.entry(index).0.starts_with(b"..");
    if hex(&digest) != header.digest || (0..tree.len()).any(is_reserved) {
        bail!("it was changed after it was written");
    }
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(header.published));
    let since = since.context("its time is too late")?;
    Ok(Record { tree, digest, since, fixed_modes: header.fixed_modes })
}

fn read_header(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(MAX_HEADER).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn write_record(
    tree: &Tree,
    digest: &Hash,
    fixed_modes: Option<FixedModes>,
    mut out: impl Write,
) -> io::Result<()> {
    let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = Header { digest: hex(digest), published, fixed_modes };
    writeln!(out, "{}", serde_json::json!(header))?;
    manifest::write(tree, &mut out)?;
    out.flush()
}

/// The header of the published record, which identifies a publication of plain files; `None` if
/// there is no such record.
///
/// # Errors
/// Fails if the record cannot be read.
pub fn published_header(volume: &Volume) -> Result<Option<Vec<u8>>> {
    let Some(dir) = find_dir(volume)? else { return Ok(None) };
    let Some(file) = records::open(&dir, PUBLISHED)? else { return Ok(None) };
    let line = read_header(&mut BufReader::new(file));
    Ok(Some(line.map_err(|error| io_error(&dir, "read", PUBLISHED, &error))?))
}

/// Writes the pending record of a tree whose files have their hashes, and syncs it. Returns the
/// digest of the tree.
///
/// # Errors
/// Fails if the record cannot be written or synced.
pub fn write_pending(
    dir: &Dir,
    suffix: &str,
    tree: &Tree,
    fixed_modes: Option<FixedModes>,
) -> Result<Hash> {
    let digest = manifest::write(tree, io::sink())?;
    let name = pending_name(suffix);
    records::replace(dir, &name, |file| {
        write_record(tree, &digest, fixed_modes, BufWriter::new(file))
            .map_err(|error| io_error(dir, "write", &name, &error))
    })?;
    Ok(digest)
}

/// Makes a pending record the published one, and then removes `stale_records`.
///
/// # Errors
/// Fails if the records cannot be changed or synced.
pub fn complete(dir: &Dir, suffix: &str, stale_records: &[String]) -> Result<()> {
    renameat(dir, pending_name(suffix), dir, PUBLISHED)
        .map_err(|errno| dir.error("replace", PUBLISHED.as_bytes(), errno))?;
    sync(dir)?;
    let mut pending = stale_records.iter().filter(|name| *name != PUBLISHED);
    pending.try_for_each(|name| records::remove(dir, name))
}

/// Syncs the names in a directory to the disk.
///
/// # Errors
/// Fails if they may not be on the disk.
pub fn sync(dir: &Dir) -> Result<()> {
    fsync(dir).map_err(|errno| dir.error("sync", b"", errno))
}

fn pending_name(suffix: &str) -> String {
    format!("{PENDING}{suffix}")
}

fn io_error(dir: &Dir, operation: &str, name: &str, error: &io::Error) -> anyhow::Error {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    dir.error(operation, name.as_bytes(), errno)
}

#[cfg(test)]
mod tests {
    use published_tree::tree::Node;

    use super::*;

    fn tree(name: &[u8]) -> Tree {
        let mut tree = Tree::default();
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(name, Node::File { mode: 0o644, size: 3, hash: &[7; 32] }).unwrap();
        tree
    }

    fn formatted(tree: &Tree, fixed_modes: Option<FixedModes>) -> String {
        let digest = manifest::write(tree, io::sink()).unwrap();
        let mut out = Vec::new();
        write_record(tree, &digest, fixed_modes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn failure(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).expect_err("a broken record"))
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for modes in [None, Some(FixedModes { file: 0o640, directory: 0o750 })] {
            let record = parse(formatted(&tree(b"a"), modes).as_bytes()).unwrap();
            assert_eq!((record.fixed_modes, record.tree.find(b"a")), (modes, Some(0)));
            assert_eq!(record.digest, manifest::write(&tree(b"a"), io::sink()).unwrap());
        }
    }

    #[test]
    fn a_changed_record_is_refused() {
        let text = formatted(&tree(b"a"), None);
        assert!(failure(&text.replacen("0644", "0600", 1)).contains("changed after"));
        assert!(parse("".as_bytes()).is_err());
        assert!(parse("{}\n".as_bytes()).is_err());
        assert!(parse(&text.as_bytes()[..text.len() / 2]).is_err());
    }

    #[test]
    fn a_record_with_reserved_names_is_refused() {
        assert!(failure(&formatted(&tree(b"..data"), None)).contains("changed after"));
    }

    #[test]
    fn a_time_that_does_not_fit_is_refused() {
        let text = formatted(&tree(b"a"), None);
        let (before, rest) = text.split_once("\"published\":").unwrap();
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let late = format!("{before}\"published\":{}{rest}", u64::MAX);
        assert_eq!(failure(&late), "its time is too late");
    }

    #[test]
    fn a_header_without_an_end_is_not_read_further_than_its_limit() {
        let text = " ".repeat(MAX_HEADER as usize + 1);
        let line = read_header(&mut text.as_bytes()).unwrap();
        assert_eq!(line.len() as u64, MAX_HEADER);
    }
}
