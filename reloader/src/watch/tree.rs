//! Reads a directory that provisioner has not published. Its digest covers names, types, link targets
//! and the bytes of files, but not times, owners, modes and sizes.
//!
//! Any user may have filled the directory, so depth, names and bytes are limited. Parts beyond the
//! limits cause warnings. For a file that is not read, the digest covers its size and times instead
//! of its bytes.

use std::ffi::CStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use diagnostics::wording::one_line;
use published_tree::dir::{Dir, Metadata, names, open_beneath, open_noatime};
use published_tree::tree::{Hash, join};
use rustix::fs::{AtFlags, FileType, OFlags, fstat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// The link to the live version in ConfigMap volumes.
const DATA: &CStr = c"..data";
/// Bytes read at a time.
const BUFFER_SIZE: usize = 64 * 1024;
/// How many warnings are listed.
const MAX_WARNINGS: usize = 5;

/// Limits of one directory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of directories below the root.
    pub depth: usize,
    /// Files, directories and links.
    pub names: usize,
    /// Bytes to read.
    pub bytes: u64,
}

/// The kind of an entry, by the letter that stands for it in the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A directory.
    Directory = b'd',
    /// A file, hashed by its bytes.
    File = b'f',
    /// A file that was not read, hashed by its size and times.
    Unread = b'm',
    /// A symbolic link.
    Link = b'l',
    /// A FIFO, a socket or a device.
    Other = b'o',
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path below the root.
    pub path: Box<[u8]>,
    /// The kind.
    pub kind: Kind,
    /// The hash of the content.
    pub hash: Hash,
}

/// The content of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The entries in the order of a walk, names sorted.
    pub entries: Vec<Entry>,
    /// What is not covered, and why.
    pub warnings: Vec<String>,
}

impl Tree {
    /// The digest of all entries.
    pub fn digest(&self) -> Hash {
        let mut digest = Sha256::new();
        for Entry { path, kind, hash } in &self.entries {
            digest.update((path.len() as u64).to_le_bytes());
            digest.update(path);
            digest.update([*kind as u8]);
            digest.update(hash);
        }
        digest.finalize().into()
    }
}

/// Reads the tree below `root`. `watch` is called with each directory before it is read.
///
/// # Errors
/// Fails if a part cannot be read for another reason than missing permission, or disappears.
pub fn read(root: &Dir, limits: Limits, watch: &mut dyn FnMut(BorrowedFd<'_>)) -> Result<Tree> {
    let mut reader = Reader {
        root,
        max_depth: limits.depth,
        names_left: limits.names,
        bytes_left: limits.bytes,
        buffer: vec![0; BUFFER_SIZE],
        tree: Tree::default(),
        unlisted: 0,
        watch,
    };
    reader.directory(b"", 0)?;
    if reader.unlisted > 0 {
        reader.tree.warnings.push(format!("and {} more", reader.unlisted));
    }
    Ok(reader.tree)
}

struct Reader<'r> {
    root: &'r Dir,
    max_depth: usize,
    names_left: usize,
    bytes_left: u64,
    buffer: Vec<u8>,
    tree: Tree,
    /// Warnings beyond [`MAX_WARNINGS`].
    unlisted: usize,
    watch: &'r mut dyn FnMut(BorrowedFd<'_>),
}

impl Reader<'_> {
    fn directory(&mut self, path: &[u8], depth: usize) -> Result<()> {
        let opened = match path {
            // The only directory link that is followed: it leads to the live version.
            b"..data" => open_beneath(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY),
            _ => self.root.open_fd(path),
        };
        let fd = match opened {
            Err(Errno::ACCESS) => return self.skip(path, "may not be read"),
            opened => opened.map_err(|errno| self.root.error("open", path, errno))?,
        };
        (self.watch)(fd.as_fd());
        let names = match names(fd.as_fd()) {
            Err(Errno::ACCESS) => return self.skip(path, "may not be read"),
            names => names.map_err(|errno| self.root.error("read", path, errno))?,
        };
        // In a ConfigMap volume, other names with `..` are old versions and temporary files.
        let is_config_map = path.is_empty() && is_link(&fd, DATA);
        for name in names {
            if is_config_map && name.to_bytes().starts_with(b"..") && *name != *DATA {
                continue;
            }
            let Some(left) = self.names_left.checked_sub(1) else {
                return self.skip(path, "holds more names than --max-files allows");
            };
            self.names_left = left;
            self.entry(&fd, &name, &join(path, name.to_bytes()), depth, is_config_map)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        fd: impl AsFd,
        name: &CStr,
        path: &[u8],
        depth: usize,
        is_config_map: bool,
    ) -> Result<()> {
        let failure = |errno| self.root.error("stat", path, errno);
        let Metadata { kind, size, .. } = Metadata::at(&fd, name).map_err(failure)?;
        match kind {
            FileType::Symlink if is_config_map && *name == *DATA => self.directory(path, depth),
            FileType::Directory => {
                self.add(path, Kind::Directory, Hash::default());
                if depth < self.max_depth {
                    return self.directory(path, depth + 1);
                }
                self.skip(path, "lies deeper than --max-depth allows")
            }
            FileType::RegularFile => {
                let (kind, hash) = self.file(fd, name, path, size, OFlags::NOFOLLOW)?;
                self.add(path, kind, hash);
                Ok(())
            }
            FileType::Symlink => self.link(fd, name, path),
            _ => {
                self.add(path, Kind::Other, Sha256::digest([kind as u8]).into());
                Ok(())
            }
        }
    }

    /// Adds a link by its target. A link to a file outside of the tree also stands for that file;
    /// files within the tree are entries themselves.
    fn link(&mut self, fd: impl AsFd, name: &CStr, path: &[u8]) -> Result<()> {
        let target = readlinkat(&fd, name, Vec::new());
        let target = target.map_err(|errno| self.root.error("read the link", path, errno))?;
        let mut digest = Sha256::new_with_prefix(target.to_bytes());
        if let Err(Errno::XDEV) = open_beneath(self.root, path, OFlags::PATH) {
            match statat(&fd, name, AtFlags::empty()) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    let (kind, hash) = self.file(fd, name, path, size, OFlags::empty())?;
                    digest.update([0, kind as u8]);
                    digest.update(hash);
                }
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    self.skip(path, "leads to a directory elsewhere, which is not read")?;
                }
                _ => {}
            }
        }
        self.add(path, Kind::Link, digest.finalize().into());
        Ok(())
    }

    /// The hash of a file, by its bytes if they may be read.
    fn file(
        &mut self,
        fd: impl AsFd,
        name: &CStr,
        path: &[u8],
        size: u64,
        flags: OFlags,
    ) -> Result<(Kind, Hash)> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let failure = |errno| self.root.error("read", path, errno);
        if size > self.bytes_left {
            self.skip(path, "is more than --max-bytes leaves to be read")?;
            return metadata_hash(fd, name).map_err(failure);
        }
        let opened = match open_noatime(&fd, name, flags) {
            Err(Errno::ACCESS) => {
                self.skip(path, "may not be read")?;
                return metadata_hash(fd, name).map_err(failure);
            }
            opened => opened.map_err(failure)?,
        };
        let mut file = File::from(opened);
        let mut digest = Sha256::new();
        // A file that grows during the scan gets another hash, and is read again by the next.
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match file.read(&mut self.buffer[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    digest.update(&self.buffer[..count]);
                    left -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(failure(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
            }
        }
        let grown = fstat(&file).is_ok_and(|stat| stat.st_size as u64 != size);
        digest.update(if grown { &b"grown"[..] } else { b"" });
        self.bytes_left -= size - left;
        Ok((Kind::File, digest.finalize().into()))
    }

    fn add(&mut self, path: &[u8], kind: Kind, hash: Hash) {
        self.tree.entries.push(Entry { path: path.into(), kind, hash });
    }

    /// Records a part that is not covered. Always `Ok`, so that a caller can return it.
    fn skip(&mut self, path: &[u8], why: &str) -> Result<()> {
        if self.tree.warnings.len() == MAX_WARNINGS {
            self.unlisted += 1;
        } else {
            let shown = self.root.display_path(path);
            self.tree.warnings.push(format!("`{}` {why}", one_line(shown.as_os_str().as_bytes())));
        }
        Ok(())
    }
}

fn is_link(fd: impl AsFd, name: &CStr) -> bool {
    Metadata::at(fd, name).is_ok_and(|found| found.kind == FileType::Symlink)
}

/// The hash of a file that is not read: its device, inode, size and times.
fn metadata_hash(fd: impl AsFd, name: &CStr) -> Result<(Kind, Hash), Errno> {
    let stat = statat(fd, name, AtFlags::empty())?;
    let parts = [
        stat.st_dev as u64,
        stat.st_ino as u64,
        stat.st_size as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec as u64,
        stat.st_ctime as u64,
        stat.st_ctime_nsec as u64,
    ];
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part.to_le_bytes()));
    Ok((Kind::Unread, digest.finalize().into()))
}
