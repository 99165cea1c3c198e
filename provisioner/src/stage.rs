//! Copies a tree, file by file, to where no reader looks yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use rustix::fs::{
    Mode, OFlags, Timespec, Timestamps, fchmod, fstat, futimens, ioctl_ficlone, mkdirat, openat,
    symlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::compare::{Comparison, Reader};
use crate::durable::{AHEAD, Durability};
use crate::owner::{self, Owner};
use crate::parallel::in_parallel;
use crate::place::Place;
use crate::progress;
use crate::tree::{DirectoryRef, Hash, Node, Tree, join};

/// Bytes copied at a time.
const PIECE: usize = 128 * 1024;
/// Entries whose outcome is kept in memory before it is noted in the tree.
const BATCH: usize = 1 << 16;

/// Where the content comes from.
pub struct Origin<'o> {
    /// The source.
    pub source: &'o Place,
    /// What is live, and how it differs.
    pub live: Option<(&'o Place, &'o Tree, &'o Comparison)>,
}

/// Makes the tree in the empty directory `to`, gives its files the hashes of what was written,
/// and returns how many bytes of new content that is.
///
/// # Errors
/// Something cannot be read or written.
pub fn stage(tree: &mut Tree, origin: &Origin<'_>, to: &Place, disk: &Durability) -> Result<u64> {
    progress::begin("copying", tree.files());
    for directory in tree.directories() {
        make_directory(tree, directory, to)?;
    }
    let mut bytes = 0;
    for start in (0..tree.len()).step_by(BATCH) {
        let count = BATCH.min(tree.len() - start);
        bytes += stage_files(tree, start..start + count, origin, to, disk)?;
    }
    finish_directories(tree, to, disk)?;
    Ok(bytes)
}

/// Copies the files among some entries, and notes what they hold.
fn stage_files(
    tree: &mut Tree,
    batch: Range<usize>,
    origin: &Origin<'_>,
    to: &Place,
    disk: &Durability,
) -> Result<u64> {
    let readers = || {
        let live = origin.live.map(|(place, ..)| Live::new(place));
        (Reader::new(origin.source, PIECE), live, Reader::new(to, 0))
    };
    let written = in_parallel(batch.len(), readers, |(source, live, to), range| {
        let mut written = Vec::new();
        for index in range.map(|index| batch.start + index) {
            let (name, node) = tree.entry(index);
            let Node::File { mode, size, .. } = node else { continue };
            let directory = tree.directory_of(index).path();
            let at = At { directory, name, mode, size, owner: tree.owner() };
            let copy = origin.live.and_then(|(_, published, comparison)| {
                Some(published.entry(comparison.copy_of(index)?).1)
            });
            written.push(match (copy, &mut *live) {
                (Some(Node::File { hash, .. }), Some(live)) => {
                    at.copy_again(live, to, disk)?;
                    progress::add_bytes(size);
                    (index, (size, *hash), 0)
                }
                _ => {
                    let content = at.copy_new(source, to, disk)?;
                    (index, content, content.0)
                }
            });
            progress::add_file();
        }
        Ok(written)
    })?;
    let mut bytes = 0;
    for (index, content, new) in written.into_iter().flatten() {
        tree.set_content(index, content);
        bytes += new;
    }
    Ok(bytes)
}

/// Makes what is in a directory, as far as it is no file.
///
/// # Errors
/// Something cannot be made.
pub fn make_directory(tree: &Tree, directory: DirectoryRef<'_>, to: &Place) -> Result<()> {
    let path = directory.path();
    let fd = to.directory(path).map_err(|errno| to.failure("open", path, errno))?;
    for index in directory.range() {
        let (name, node) = tree.entry(index);
        let at = OsStr::from_bytes(name);
        match node {
            Node::Directory { .. } => mkdirat(&fd, at, Mode::RWXU)
                .map_err(|errno| to.failure("create", &join(path, name), errno))?,
            Node::Link { target } => {
                let path = || join(path, name);
                symlinkat(OsStr::from_bytes(target), &fd, at)
                    .map_err(|errno| to.link_failure(&path(), errno))?;
                let given = tree.owner().map_or(Ok(()), |owner| owner.give_link(&fd, at));
                given.map_err(|errno| owner::failure(to, &path(), errno))?;
            }
            Node::File { .. } => {}
        }
    }
    Ok(())
}

/// Gives directories below the root their modes, from the deepest up: one that must not be written
/// cannot be filled.
///
/// # Errors
/// One cannot be changed, or is not on the disk.
pub fn finish_directories(tree: &Tree, to: &Place, disk: &Durability) -> Result<()> {
    let directories: Vec<_> = tree.directories().collect();
    for directory in directories.iter().rev() {
        let path = directory.path();
        let failure = |operation: &str, errno| to.failure(operation, path, errno);
        let fd = to.directory(path).map_err(|errno| failure("open", errno))?;
        let mode = Mode::from_raw_mode(u32::from(directory.mode()));
        fchmod(&fd, mode).map_err(|errno| failure("set the mode of", errno))?;
        let given = tree.owner().map_or(Ok(()), |owner| owner.give(&fd));
        given.map_err(|errno| owner::failure(to, path, errno))?;
        disk.written(&fd).map_err(|errno| failure("sync", errno))?;
    }
    Ok(())
}

/// A file of the tree.
pub struct At<'t> {
    /// The path of its directory.
    pub directory: &'t [u8],
    /// Its name there.
    pub name: &'t [u8],
    /// Permission bits.
    pub mode: u16,
    /// In bytes.
    pub size: u64,
    /// Whom it is to belong to, if not to whoever runs this.
    pub owner: Option<Owner>,
}

impl At<'_> {
    /// Copies it from the source, and tells what was written.
    fn copy_new(
        &self,
        source: &mut Reader<'_>,
        to: &mut Reader<'_>,
        disk: &Durability,
    ) -> Result<(u64, Hash)> {
        let read_error = |place: &Place, errno| place.failure("read", &self.path(), errno);
        let opened = source.open(self.directory, self.name);
        let mut original = opened.map_err(|errno| read_error(source.place(), errno))?.0;
        let mut copy = self.create(to)?;
        let (mut size, mut begun, mut digest) = (0, 0, Sha256::new());
        while size <= self.size {
            let count = match original.read(&mut source.piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(read_error(source.place(), errno));
                }
            };
            let piece = &source.piece[..count];
            digest.update(piece);
            let written = copy.write_all(piece);
            written.map_err(|error| self.write_error(to, &error))?;
            size += count as u64;
            progress::add_bytes(count as u64);
            begun = disk.begin(&copy, begun, size);
        }
        if size != self.size {
            let shown = source.place().shown(&self.path());
            bail!("`{}` has changed while it was read", one_line(shown.as_os_str().as_bytes()));
        }
        self.finish(&copy, to, disk)?;
        Ok((size, digest.finalize().into()))
    }

    /// Copies it from what is live, where it has been found to be the same, and with its time of
    /// change, by which web servers tell clients that it is the same.
    fn copy_again(
        &self,
        live: &mut Live<'_>,
        to: &mut Reader<'_>,
        disk: &Durability,
    ) -> Result<()> {
        let failure = |place: &Place, errno| place.failure("read", &self.path(), errno);
        let original = live.files.open(self.directory, self.name);
        let original = original.map_err(|errno| failure(live.files.place(), errno))?.0;
        let mut copy = self.create(to)?;
        live.copy(&original, &mut copy, self.size, disk)
            .map_err(|error| self.write_error(to, &error))?;
        let stat = fstat(&original).map_err(|errno| failure(live.files.place(), errno))?;
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        futimens(&copy, &times).map_err(|errno| self.failure(to, "set the time of", errno))?;
        self.finish(&copy, to, disk)
    }

    /// Makes it, for its owner alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self, to: &mut Reader<'_>) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let created = to.directory(self.directory).and_then(|fd| {
            openat(fd, OsStr::from_bytes(self.name), flags | OFlags::NOFOLLOW, Mode::RUSR)
        });
        created.map(File::from).map_err(|errno| self.failure(to, "create", errno))
    }

    /// Gives it its mode and its owner, and brings it to the disk.
    ///
    /// # Errors
    /// One of that cannot be done.
    pub fn finish(&self, copy: &File, to: &Reader<'_>, disk: &Durability) -> Result<()> {
        let mode = Mode::from_raw_mode(u32::from(self.mode));
        fchmod(copy, mode).map_err(|errno| self.failure(to, "set the mode of", errno))?;
        // Afterwards, since who gives a file away may not set its mode any more.
        let given = self.owner.map_or(Ok(()), |owner| owner.give(copy));
        given.map_err(|errno| owner::failure(to.place(), &self.path(), errno))?;
        disk.written(copy).map_err(|errno| self.failure(to, "sync", errno))
    }

    /// Its path below the root.
    pub fn path(&self) -> Vec<u8> {
        join(self.directory, self.name)
    }

    fn failure(&self, to: &Reader<'_>, operation: &str, errno: Errno) -> anyhow::Error {
        to.place().failure(operation, &self.path(), errno)
    }

    /// The error for a write that failed.
    pub fn write_error(&self, to: &Reader<'_>, error: &io::Error) -> anyhow::Error {
        self.failure(to, "write", Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

/// The files that are live, to be copied from.
struct Live<'p> {
    files: Reader<'p>,
    /// Whether the file system may let copies share blocks.
    can_clone: bool,
}

impl<'p> Live<'p> {
    fn new(place: &'p Place) -> Self {
        Self { files: Reader::new(place, PIECE), can_clone: true }
    }

    /// Copies `size` bytes, and as few as the file system can.
    fn copy(&mut self, from: &File, to: &mut File, size: u64, disk: &Durability) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.can_clone {
            match ioctl_ficlone(&*to, from) {
                Ok(()) => return Ok(()),
                // ioctl_ficlone(2): it can not, not only not here.
                Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV) => self.can_clone = false,
                Err(_) => {}
            }
        }
        match usize::try_from(size).ok().and_then(|size| self.files.piece.get_mut(..size)) {
            // It would take a pipe to move a few pages within the kernel.
            Some(piece) => (&mut &*from).read_exact(piece).and_then(|()| to.write_all(piece)),
            None => copy_range(from, to, size, disk),
        }
    }
}

/// Copies `size` bytes, within the kernel if it can.
fn copy_range(from: &File, to: &mut File, size: u64, disk: &Durability) -> io::Result<()> {
    let (mut copied, mut begun) = (0, 0);
    while copied < size {
        // io::copy does so, and reads and writes where the kernel cannot.
        let count = io::copy(&mut from.take(AHEAD.min(size - copied)), to)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        copied += count;
        begun = disk.begin(&*to, begun, copied);
    }
    Ok(())
}
