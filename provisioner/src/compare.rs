//! What is different between a source and what is live, by content, and whether what is live is
//! still what was published.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::parallel::in_parallel;
use crate::place::{Place, open_unseen};
use crate::progress;
use crate::seal::Seal;
use crate::tree::scan::{mode_of, names};
use crate::tree::{DirectoryRef, Hash, Node, Tree, join};

/// Bytes compared at a time.
const PIECE: usize = 128 * 1024;
/// Files whose outcome is kept in memory before it is noted.
const BATCH: usize = 1 << 16;

/// What a publication would change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// For each entry of the source, the place in the live tree of a file that holds the same, and
    /// is what was published.
    copies: Vec<Option<NonZeroU32>>,
    /// Files and links that are new.
    pub added: u64,
    /// Those of another content, mode or type.
    pub changed: u64,
    /// Those that are there no more.
    pub removed: u64,
    /// Those that are the same.
    pub unchanged: u64,
    /// Files of the live tree that are not what was published.
    pub damaged: u64,
    /// Something else is different: directories, their modes, what does not belong there.
    pub differs_otherwise: bool,
}

impl Comparison {
    /// The place in the live tree of a file that holds what this one of the source does.
    pub fn copy_of(&self, index: usize) -> Option<usize> {
        self.copies[index].map(|place| place.get() as usize - 1)
    }

    /// Counts of files and links, by what became of them.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("added", self.added),
            ("changed", self.changed),
            ("removed", self.removed),
            ("unchanged", self.unchanged),
            ("repaired", self.damaged),
        ]
    }

    /// How many bytes of the source are not in the live tree.
    pub fn new_bytes(&self, source: &Tree) -> u64 {
        let new = (0..source.len()).filter(|&index| self.copies[index].is_none());
        let sizes = new.filter_map(|index| match source.entry(index).1 {
            Node::File { size, .. } => Some(size),
            _ => None,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Whether there is nothing to publish.
    pub fn is_same(&self) -> bool {
        self.added + self.changed + self.removed + self.damaged == 0 && !self.differs_otherwise
    }
}

/// Compares a source with a live tree, given with the manifest and the seal it was published with.
///
/// All bytes of both are read. That live files hold what their hashes say is looked at too, but for
/// those that hold what the source does and that nobody has touched since they were hashed.
///
/// # Errors
/// The source cannot be read. What is wrong with the live tree is no error, but damage.
pub fn compare(
    source: (&Tree, &Place),
    live: (&Tree, &Place),
    seal: Option<Seal>,
) -> Result<Comparison> {
    let mut comparison = compare_files(source, live, seal)?;
    if comparison.is_same() && !is_sound(live.0, live.1) {
        comparison.differs_otherwise = true;
    }
    Ok(comparison)
}

/// [`compare`], but for the directories and links of the live tree: they are taken for what was
/// published.
///
/// # Errors
/// As there.
pub fn compare_files(
    source: (&Tree, &Place),
    live: (&Tree, &Place),
    seal: Option<Seal>,
) -> Result<Comparison> {
    let mut comparison = Comparison { copies: vec![None; source.0.len()], ..Comparison::default() };
    let candidates = match_entries(source.0, live.0, &mut comparison);
    progress::begin("comparing", candidates.len());
    let readers = || (Reader::new(source.1, PIECE), Reader::new(live.1, PIECE));
    for batch in candidates.chunks(BATCH) {
        let found = in_parallel(batch.len(), readers, |readers, range| {
            let each = |&(index, published): &(u32, u32)| {
                let pair = (index as usize, published as usize);
                let found = look(source.0, live.0, pair, seal, readers)?;
                progress::add_file();
                Ok((index, published, found))
            };
            batch[range].iter().map(each).collect::<Result<Vec<_>>>()
        })?;
        for (index, published, found) in found.into_iter().flatten() {
            match found {
                Found::Same => {
                    comparison.copies[index as usize] = NonZeroU32::new(published + 1);
                    comparison.unchanged += 1;
                }
                Found::Other => comparison.changed += 1,
                Found::Damaged => comparison.damaged += 1,
            }
        }
    }
    Ok(comparison)
}

/// Counts what is different by name, type, mode, size or target; the places, in both trees, of the
/// files whose content decides.
fn match_entries(source: &Tree, live: &Tree, comparison: &mut Comparison) -> Vec<(u32, u32)> {
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
                    candidates.push((index as u32, other as u32));
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
    Other,
    /// The live file is not what was published.
    Damaged,
}

/// Reads a file of the source and its live copy, given by their places.
fn look(
    source: &Tree,
    live: &Tree,
    (index, published): (usize, usize),
    seal: Option<Seal>,
    readers: &mut (Reader<'_>, Reader<'_>),
) -> Result<Found> {
    let (ours, theirs) = &mut *readers;
    let (name, _) = source.entry(index);
    let directory = source.directory_of(index).path();
    let place = ours.place;
    let failure = |errno| place.failure("read", &join(directory, name), errno);
    let Node::File { mode, size, hash } = live.entry(published).1 else {
        return Ok(Found::Damaged);
    };
    let Ok((mut copy, ..)) = theirs.open(directory, name).and_then(|found| match found {
        (_, m, s) if (m, s) == (mode, size) => Ok(found),
        _ => Err(Errno::INVAL),
    }) else {
        return Ok(Found::Damaged);
    };
    let (mut original, _, length) = ours.open(directory, name).map_err(failure)?;
    let (mut is_same, mut left) = (length == size, size);
    let is_sealed = is_same && seal.is_some_and(|seal| seal.holds(&copy));
    let mut digest = (!is_sealed).then(Sha256::new);
    while left > 0 {
        let want = theirs.piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if copy.read_exact(&mut theirs.piece[..want]).is_err() {
            return Ok(Found::Damaged);
        }
        let piece = &theirs.piece[..want];
        if let Some(digest) = &mut digest {
            digest.update(piece);
        }
        progress::add_bytes(want as u64);
        if is_same {
            let piece = &mut ours.piece[..want];
            is_same = match original.read_exact(piece) {
                Ok(()) => *piece == theirs.piece[..want],
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
                Err(error) => {
                    return Err(failure(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
            };
        }
        if !is_same && digest.is_none() {
            // Which of them is not what it was?
            return look(source, live, (index, published), None, readers);
        }
        left -= want as u64;
    }
    let digest = digest.map(|digest| Hash::from(digest.finalize()));
    Ok(match (digest.is_none_or(|digest| digest == *hash), is_same) {
        (false, _) => Found::Damaged,
        (true, true) => Found::Same,
        (true, false) => Found::Other,
    })
}

/// Opens files of a tree, and keeps the directory of the last one open.
pub struct Reader<'p> {
    place: &'p Place,
    directory: Option<(Vec<u8>, OwnedFd)>,
    /// What was read last.
    pub piece: Vec<u8>,
}

impl<'p> Reader<'p> {
    /// A reader of the tree at `place`, with a buffer of `size` bytes.
    pub fn new(place: &'p Place, size: usize) -> Self {
        Self { place, directory: None, piece: vec![0; size] }
    }

    /// Where the tree is.
    pub fn place(&self) -> &'p Place {
        self.place
    }

    /// Opens a file for reading, without a trace in its time of access if that is allowed; its
    /// permission bits and size.
    ///
    /// # Errors
    /// Those of the system; it is no regular file (`ESTALE`): it was one when the tree was read.
    pub fn open(&mut self, directory: &[u8], name: &[u8]) -> Result<(File, u16, u64), Errno> {
        let fd = self.directory(directory)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open_unseen(fd, OsStr::from_bytes(name), flags)?;
        match mode_of(&fd, c"")? {
            (FileType::RegularFile, mode, size) => Ok((File::from(fd), mode, size)),
            _ => Err(Errno::STALE),
        }
    }

    /// The directory `path` of the tree.
    ///
    /// # Errors
    /// Those of the system.
    pub fn directory(&mut self, path: &[u8]) -> Result<&OwnedFd, Errno> {
        if self.directory.as_ref().is_none_or(|(open, _)| open != path) {
            self.directory = Some((path.to_vec(), self.place.directory(path)?));
        }
        self.directory.as_ref().map(|(_, fd)| fd).ok_or(Errno::BADF)
    }
}

/// Whether the directories of a live tree hold what they were published with, and nothing else.
/// What is in its files is not looked at.
pub fn is_sound(tree: &Tree, place: &Place) -> bool {
    tree.directories().all(|directory| {
        place.directory(directory.path()).is_ok_and(|fd| is_as_published(&fd, directory))
    })
}

/// Whether a directory holds what it was published with, and nothing else. What is in its files is
/// not looked at.
pub fn is_as_published(fd: impl AsFd, directory: DirectoryRef<'_>) -> bool {
    let Ok(found) = names(fd.as_fd()) else { return false };
    let has_mode = |wanted| mode_of(&fd, c"").is_ok_and(|(_, mode, _)| mode == wanted);
    let is_root_sound = !directory.path().is_empty() || has_mode(directory.mode());
    let is_same = |(found, (name, node)): (&CStr, (&[u8], Node<'_>))| {
        found.to_bytes() == name
            && match node {
                Node::Directory { mode } => mode_of(&fd, found)
                    .is_ok_and(|(kind, m, _)| kind == FileType::Directory && m == mode),
                // Files were looked at for their content.
                Node::File { .. } => true,
                Node::Link { target } => readlinkat(&fd, found, Vec::new())
                    .is_ok_and(|found: CString| found.to_bytes() == target),
            }
    };
    is_root_sound
        && found.len() == directory.range().len()
        && found.iter().map(|name| &**name).zip(directory.entries()).all(is_same)
}
