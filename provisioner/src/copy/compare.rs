//! Compares a source with the live tree by content, and finds live files that are no longer what was
//! published.
//!
//! 1. Entries are matched by path, type, mode, size and link target.
//! 2. For each pair of files that is left, all bytes of both are read and compared.
//! 3. The live file is hashed at the same time and compared with its manifest, unless it equals the
//!    source and has not changed since it was published ([`PublishTime`]).

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::num::NonZeroU32;

use anyhow::Result;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::publish_time::PublishTime;
use published_tree::reader::{OpenTree, Reader};
use published_tree::tree::{DirectoryRef, Hash, Node, Tree, join};
use published_tree::verify::directories_match;
use rustix::io::Errno;

use sha2::{Digest, Sha256};

/// Files compared before their results are stored.
const BATCH: usize = 1 << 16;

/// How a source differs from the live tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// For each entry of the source, the index in the live tree, plus 1, of an undamaged file with
    /// the same content.
    copies: Vec<Option<NonZeroU32>>,
    /// New files and links.
    pub added: u64,
    /// Files and links with another content, mode or type.
    pub changed: u64,
    /// Files and links that the source no longer has.
    pub removed: u64,
    /// Files and links that are equal.
    pub unchanged: u64,
    /// Live files that are not what was published.
    pub damaged: u64,
    /// Whether something else differs: directories, their modes, entries that were never published.
    pub differs_otherwise: bool,
}

impl Comparison {
    /// The index in the live tree of a file with the content of the entry `index` of the source.
    pub fn copy_of(&self, index: usize) -> Option<usize> {
        self.copies[index].map(|live| live.get() as usize - 1)
    }

    /// Counts of files and links, by what a publication does to them.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("added", self.added),
            ("changed", self.changed),
            ("removed", self.removed),
            ("unchanged", self.unchanged),
            ("repaired", self.damaged),
        ]
    }

    /// The size of those files of the source that the live tree does not have.
    pub fn new_bytes(&self, source: &Tree) -> u64 {
        let new = (0..source.len()).filter(|&index| self.copies[index].is_none());
        let sizes = new.filter_map(|index| match source.entry(index).1 {
            Node::File { size, .. } => Some(size),
            _ => None,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Whether the live tree equals the source.
    pub fn is_same(&self) -> bool {
        self.added + self.changed + self.removed + self.damaged == 0 && !self.differs_otherwise
    }
}

/// Compares a source with the live tree, as its manifest lists it. `publish_time` is that of the
/// live version.
///
/// # Errors
/// Fails if the source cannot be read. A live file that cannot be read counts as damaged.
pub fn compare(
    source: OpenTree<'_>,
    live: OpenTree<'_>,
    publish_time: Option<PublishTime>,
    progress: &Progress,
) -> Result<Comparison> {
    let mut comparison = compare_files(source, live, publish_time, progress)?;
    if comparison.is_same() && !directories_match(live.tree, live.dir) {
        comparison.differs_otherwise = true;
    }
    Ok(comparison)
}

/// Compares a source with nothing: all of it is new.
pub fn compare_with_nothing(source: &Tree) -> Comparison {
    let mut comparison = Comparison { copies: vec![None; source.len()], ..Comparison::default() };
    match_entries(source, &Tree::default(), &mut comparison);
    comparison
}

/// Compares as [`compare`] does, but takes the live directories and links for what their manifest
/// lists.
///
/// # Errors
/// Fails if the source cannot be read.
pub fn compare_files(
    source: OpenTree<'_>,
    live: OpenTree<'_>,
    publish_time: Option<PublishTime>,
    progress: &Progress,
) -> Result<Comparison> {
    let mut comparison =
        Comparison { copies: vec![None; source.tree.len()], ..Comparison::default() };
    let candidates = match_entries(source.tree, live.tree, &mut comparison);
    progress.begin("comparing", candidates.len());
    let readers = || FileComparer {
        source: source.tree,
        live: live.tree,
        source_files: Reader::new(source.dir),
        live_files: Reader::new(live.dir),
        publish_time,
        progress,
    };
    for batch in candidates.chunks(BATCH) {
        let found = in_parallel(batch.len(), readers, |comparer, range| {
            let each = |&pair: &Pair| {
                let found = comparer.compare(pair)?;
                progress.add_file();
                Ok((pair, found))
            };
            batch[range].iter().map(each).collect::<Result<Vec<_>>>()
        })?;
        for (pair, found) in found.into_iter().flatten() {
            match found {
                Found::Same => {
                    comparison.copies[pair.source as usize] = NonZeroU32::new(pair.live + 1);
                    comparison.unchanged += 1;
                }
                Found::Changed => comparison.changed += 1,
                Found::Damaged => comparison.damaged += 1,
            }
        }
    }
    Ok(comparison)
}

/// A file of the source and the live file at the same path, by their indices.
#[derive(Clone, Copy)]
struct Pair {
    source: u32,
    live: u32,
}

/// Counts the differences in name, type, mode, size and link target. Returns the pairs of files
/// whose content decides.
fn match_entries(source: &Tree, live: &Tree, comparison: &mut Comparison) -> Vec<Pair> {
    let by_path: HashMap<&[u8], DirectoryRef<'_>> =
        live.directories().map(|directory| (directory.path(), directory)).collect();
    let (mut candidates, mut is_matched) = (Vec::new(), vec![false; live.len()]);
    for directory in source.directories() {
        let published = by_path.get(directory.path()).copied();
        if directory.path().is_empty() {
            comparison.differs_otherwise |=
                published.is_none_or(|published| published.mode() != directory.mode());
        }
        let mut others = published.map_or(0..0, DirectoryRef::range).peekable();
        for index in directory.range() {
            let (name, node) = source.entry(index);
            while others.next_if(|&other| live.entry(other).0 < name).is_some() {}
            let Some(other) = others.next_if(|&other| live.entry(other).0 == name) else {
                count(node, &mut comparison.added, &mut comparison.differs_otherwise);
                continue;
            };
            is_matched[other] = true;
            match (node, live.entry(other).1) {
                (
                    Node::File { mode, size, .. },
                    Node::File { mode: other_mode, size: other_size, .. },
                ) if (mode, size) == (other_mode, other_size) => {
                    candidates.push(Pair { source: index as u32, live: other as u32 });
                }
                (Node::Link { target }, Node::Link { target: other }) if target == other => {
                    comparison.unchanged += 1;
                }
                (Node::Directory { mode }, Node::Directory { mode: other }) => {
                    comparison.differs_otherwise |= mode != other;
                }
                _ => count(node, &mut comparison.changed, &mut comparison.differs_otherwise),
            }
        }
    }
    for (index, _) in is_matched.iter().enumerate().filter(|(_, is_matched)| !**is_matched) {
        let node = live.entry(index).1;
        count(node, &mut comparison.removed, &mut comparison.differs_otherwise);
    }
    candidates
}

fn count(node: Node<'_>, files: &mut u64, otherwise: &mut bool) {
    match node {
        Node::Directory { .. } => *otherwise = true,
        _ => *files += 1,
    }
}

enum Found {
    Same,
    /// The source has changed.
    Changed,
    /// The live file is not what was published.
    Damaged,
}

/// Compares the content of files.
struct FileComparer<'c> {
    source: &'c Tree,
    live: &'c Tree,
    source_files: Reader<'c>,
    live_files: Reader<'c>,
    publish_time: Option<PublishTime>,
    progress: &'c Progress,
}

impl FileComparer<'_> {
    /// Reads both files of a pair.
    fn compare(&mut self, pair: Pair) -> Result<Found> {
        let found = self.compare_content(pair, self.publish_time)?;
        // The files differ, and the live one was not hashed: hash it to know which has changed.
        found.map_or_else(|| Ok(self.compare_content(pair, None)?.unwrap_or(Found::Damaged)), Ok)
    }

    /// Compares as [`compare`](Self::compare) does. `None` if the files differ, but the live one was
    /// not hashed since it has not changed after `publish_time`.
    fn compare_content(
        &mut self,
        pair: Pair,
        publish_time: Option<PublishTime>,
    ) -> Result<Option<Found>> {
        let index = pair.source as usize;
        let name = self.source.entry(index).0;
        let directory = self.source.directory_of(index).path();
        let dir = self.source_files.dir();
        let error = |errno| dir.error("read", &join(directory, name), errno);
        let Node::File { mode, size, hash } = self.live.entry(pair.live as usize).1 else {
            return Ok(Some(Found::Damaged));
        };
        let mut copy = match self.live_files.open(directory, name) {
            Ok((file, found)) if (found.mode, found.size) == (mode, size) => file,
            _ => return Ok(Some(Found::Damaged)),
        };
        let (mut original, found) = self.source_files.open(directory, name).map_err(error)?;
        let (mut is_same, mut left) = (found.size == size, size);
        let needs_no_hash = is_same && publish_time.is_some_and(|time| time.is_unchanged(&copy));
        let mut digest = (!needs_no_hash).then(Sha256::new);
        while left > 0 {
            let live = &mut self.live_files.buffer;
            let want = live.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if copy.read_exact(&mut live[..want]).is_err() {
                return Ok(Some(Found::Damaged));
            }
            if let Some(digest) = &mut digest {
                digest.update(&live[..want]);
            }
            self.progress.add_bytes(want as u64);
            if is_same {
                let source = &mut self.source_files.buffer[..want];
                is_same = match original.read_exact(source) {
                    Ok(()) => *source == live[..want],
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
                    Err(cause) => {
                        return Err(error(Errno::from_io_error(&cause).unwrap_or(Errno::IO)));
                    }
                };
            }
            if !is_same && digest.is_none() {
                return Ok(None);
            }
            left -= want as u64;
        }
        let digest = digest.map(|digest| Hash::from(digest.finalize()));
        Ok(Some(match (digest.is_none_or(|digest| digest == *hash), is_same) {
            (false, _) => Found::Damaged,
            (true, true) => Found::Same,
            (true, false) => Found::Changed,
        }))
    }
}

#[cfg(test)]
mod tests;
