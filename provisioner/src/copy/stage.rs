//! Copies a tree, file by file, from the source or the live version to its
//! [`destination`](super::destination).
//!
//! Files that have not changed come from the live version, by a reflink where the file system can, and
//! keep their modification time. The others come from the source, and are hashed as they are read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use published_tree::dir::Dir;
use published_tree::parallel::in_parallel;
use published_tree::reader::{OpenTree, Reader};
use published_tree::tree::{Content, Node, Tree};
use rustix::fs::{Timespec, Timestamps, fstat, futimens, ioctl_ficlone};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::copy::compare::Comparison;
use crate::copy::destination::{
    Destination, StagedFile, Writer, create_directories, finish_directories,
};
use crate::copy::durable::{Durability, WRITEBACK_SIZE};

/// Files copied before their results are stored in the tree.
const BATCH: usize = 1 << 16;

/// Where the content of files comes from.
pub struct Origin<'o> {
    /// The source.
    pub source: &'o Dir,
    /// The live tree, with the comparison that tells which of its files can be copied.
    pub live: Option<(OpenTree<'o>, &'o Comparison)>,
}

/// Copies a tree, and stores in it the size and hash of each file as it was written. Returns the
/// number of bytes that came from the source.
///
/// # Errors
/// Fails if an entry cannot be read or written, or changes while it is read.
pub fn stage(tree: &mut Tree, origin: &Origin<'_>, to: &Destination<'_>) -> Result<u64> {
    to.progress.begin("copying", tree.files());
    create_directories(tree, to)?;
    let mut bytes = 0;
    for start in (0..tree.len()).step_by(BATCH) {
        let count = BATCH.min(tree.len() - start);
        bytes += stage_files(tree, start..start + count, origin, to)?;
    }
    finish_directories(tree, to)?;
    Ok(bytes)
}

/// Copies the files among the entries of `batch`, and stores their content's size and hash.
fn stage_files(
    tree: &mut Tree,
    batch: Range<usize>,
    origin: &Origin<'_>,
    to: &Destination<'_>,
) -> Result<u64> {
    let copiers = || Copier {
        source: Reader::new(origin.source),
        live: origin.live.map(|(live, _)| LiveFiles::new(live.dir)),
        target: Writer::new(*to),
    };
    let written = in_parallel(batch.len(), copiers, |copier, range| {
        let mut written = Vec::new();
        for index in range.map(|index| batch.start + index) {
            let (name, node) = tree.entry(index);
            let Node::File { mode, size, .. } = node else { continue };
            let file = StagedFile { directory: tree.directory_of(index).path(), name, mode, size };
            let copy = origin
                .live
                .and_then(|(live, comparison)| Some(live.tree.entry(comparison.copy_of(index)?).1));
            written.push(match (copy, &mut copier.live) {
                (Some(Node::File { hash, .. }), Some(live)) => {
                    copy_from_live(&file, live, &mut copier.target)?;
                    to.progress.add_bytes(size);
                    Written { index, content: Content { size, hash: *hash }, is_new: false }
                }
                _ => {
                    let content = copy_from_source(&file, &mut copier.source, &mut copier.target)?;
                    Written { index, content, is_new: true }
                }
            });
            to.progress.add_file();
        }
        Ok(written)
    })?;
    let mut bytes = 0;
    for Written { index, content, is_new } in written.into_iter().flatten() {
        tree.set_content(index, content);
        bytes += if is_new { content.size } else { 0 };
    }
    Ok(bytes)
}

/// The open files of one thread.
struct Copier<'c> {
    source: Reader<'c>,
    live: Option<LiveFiles<'c>>,
    target: Writer<'c>,
}

/// A file that was copied.
struct Written {
    index: usize,
    content: Content,
    /// Whether it came from the source.
    is_new: bool,
}

/// Copies a file from the source. Returns the content as it was written.
fn copy_from_source(
    staged: &StagedFile<'_>,
    source: &mut Reader<'_>,
    target: &mut Writer<'_>,
) -> Result<Content> {
    let dir = source.dir();
    let read_error = |errno| dir.error("read", &staged.path(), errno);
    let (mut original, _) = source.open(staged.directory, staged.name).map_err(read_error)?;
    let mut copy = target.create(staged)?;
    let (mut size, mut writeback, mut digest) = (0, 0, Sha256::new());
    while size <= staged.size {
        let count = match original.read(&mut source.buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(read_error(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
            }
        };
        let read = &source.buffer[..count];
        digest.update(read);
        copy.write_all(read).map_err(|error| target.write_error(staged, &error))?;
        size += count as u64;
        target.destination().progress.add_bytes(count as u64);
        writeback = target.destination().disk.start_writeback(&copy, writeback, size);
    }
    if size != staged.size {
        let path = dir.display_path(&staged.path());
        bail!("`{}` has changed while it was read", one_line(path.as_os_str().as_bytes()));
    }
    target.finish(staged, &copy)?;
    Ok(Content { size, hash: digest.finalize().into() })
}

/// Copies an unchanged file from the live tree, with its modification time, from which web servers
/// derive what they tell caches.
fn copy_from_live(
    staged: &StagedFile<'_>,
    live: &mut LiveFiles<'_>,
    target: &mut Writer<'_>,
) -> Result<()> {
    let dir = live.files.dir();
    let read_error = |errno| dir.error("read", &staged.path(), errno);
    let (original, _) = live.files.open(staged.directory, staged.name).map_err(read_error)?;
    let mut copy = target.create(staged)?;
    live.copy(&original, &mut copy, staged.size, target.destination().disk)
        .map_err(|error| target.write_error(staged, &error))?;
    let stat = fstat(&original).map_err(read_error)?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    futimens(&copy, &times).map_err(|errno| target.error(staged, "set the time of", errno))?;
    target.finish(staged, &copy)
}

/// The files of the live tree, as the origin of copies.
struct LiveFiles<'p> {
    files: Reader<'p>,
    /// Whether copies may share blocks with their originals (reflinks).
    can_clone: bool,
}

impl<'p> LiveFiles<'p> {
    fn new(dir: &'p Dir) -> Self {
        Self { files: Reader::new(dir), can_clone: true }
    }

    /// Copies `size` bytes, by a reflink where the file system can.
    fn copy(&mut self, from: &File, to: &mut File, size: u64, disk: &Durability) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.can_clone {
            match ioctl_ficlone(&*to, from) {
                Ok(()) => return Ok(()),
                // ioctl_ficlone(2): this file system never can.
                Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV) => self.can_clone = false,
                Err(_) => {}
            }
        }
        match usize::try_from(size).ok().and_then(|size| self.files.buffer.get_mut(..size)) {
            // For small files, splicing within the kernel is slower than a buffer.
            Some(buffer) => (&mut &*from).read_exact(buffer).and_then(|()| to.write_all(buffer)),
            None => copy_range(from, to, size, disk),
        }
    }
}

/// Copies `size` bytes, within the kernel where possible.
fn copy_range(from: &File, to: &mut File, size: u64, disk: &Durability) -> io::Result<()> {
    let (mut copied, mut writeback) = (0, 0);
    while copied < size {
        // io::copy uses copy_file_range(2), and falls back to reading and writing.
        let count = io::copy(&mut from.take(WRITEBACK_SIZE.min(size - copied)), to)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        copied += count;
        writeback = disk.start_writeback(&*to, writeback, copied);
    }
    Ok(())
}
