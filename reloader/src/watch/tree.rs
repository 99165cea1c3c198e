//! Reads what is in a directory, whoever put it there: names, types, where links lead, and what
//! is in the files. That, and not what a file system says of times and sizes, is the content.

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

/// The link to what is live, after the convention of ConfigMap volumes.
const DATA: &CStr = c"..data";
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;
/// How many places that were left out are named.
const MAX_NOTES: usize = 5;

/// How much is read, so that a tree that somebody filled up cannot keep the machine busy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Directories within each other, the root not counted.
    pub depth: usize,
    /// Names in all.
    pub names: usize,
    /// Content in all, in bytes.
    pub bytes: u64,
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root.
    pub path: Box<[u8]>,
    /// What it is: `d`irectory, `f`ile, `l`ink, `o`ther; `m` is a file that only its size and
    /// times stand for.
    pub kind: u8,
    /// Of what it holds.
    pub hash: Hash,
}

/// What is in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// By path, as a walk takes them.
    pub entries: Vec<Entry>,
    /// What is not covered, and why.
    pub notes: Vec<String>,
}

impl Tree {
    /// What stands for all of it.
    pub fn digest(&self) -> Hash {
        let mut digest = Sha256::new();
        for Entry { path, kind, hash } in &self.entries {
            digest.update((path.len() as u64).to_le_bytes());
            digest.update(path);
            digest.update([*kind]);
            digest.update(hash);
        }
        digest.finalize().into()
    }
}

/// Reads the tree at `dir`; `arm` sees each directory before that is read.
///
/// # Errors
/// Something cannot be read for another reason than missing rights, or is gone meanwhile.
pub fn read(dir: &Dir, limits: Limits, arm: &mut dyn FnMut(BorrowedFd<'_>)) -> Result<Tree> {
    let mut reading = Reading {
        dir,
        names_left: limits.names,
        limits,
        bytes_left: limits.bytes,
        piece: vec![0; PIECE],
        tree: Tree::default(),
        dropped: 0,
        arm,
    };
    reading.directory(b"", 0)?;
    if reading.dropped > 0 {
        reading.tree.notes.push(format!("and {} more", reading.dropped));
    }
    Ok(reading.tree)
}

struct Reading<'r> {
    dir: &'r Dir,
    limits: Limits,
    names_left: usize,
    bytes_left: u64,
    piece: Vec<u8>,
    tree: Tree,
    /// Notes there was no room for.
    dropped: usize,
    arm: &'r mut dyn FnMut(BorrowedFd<'_>),
}

impl Reading<'_> {
    fn directory(&mut self, path: &[u8], depth: usize) -> Result<()> {
        let opened = match path {
            // The one link that is followed: what is behind it is what is live.
            b"..data" => open_beneath(self.dir, path, OFlags::RDONLY | OFlags::DIRECTORY),
            _ => self.dir.open_fd(path),
        };
        let fd = match opened {
            Err(Errno::ACCESS) => return self.note(path, "may not be read"),
            opened => opened.map_err(|errno| self.dir.error("open", path, errno))?,
        };
        (self.arm)(fd.as_fd());
        let names = match names(fd.as_fd()) {
            Err(Errno::ACCESS) => return self.note(path, "may not be read"),
            names => names.map_err(|errno| self.dir.error("read", path, errno))?,
        };
        // Beside what is live there are the versions before it, and what their writer keeps.
        let hides = path.is_empty() && is_link(&fd, DATA);
        for name in names {
            if hides && name.to_bytes().starts_with(b"..") && *name != *DATA {
                continue;
            }
            let Some(left) = self.names_left.checked_sub(1) else {
                return self.note(path, "holds more names than --max-files allows");
            };
            self.names_left = left;
            self.entry(&fd, &name, &join(path, name.to_bytes()), depth, hides)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        fd: impl AsFd,
        name: &CStr,
        path: &[u8],
        depth: usize,
        hides: bool,
    ) -> Result<()> {
        let failure = |errno| self.dir.error("stat", path, errno);
        let Metadata { kind, size, .. } = Metadata::at(&fd, name).map_err(failure)?;
        match kind {
            FileType::Symlink if hides && *name == *DATA => self.directory(path, depth),
            FileType::Directory => {
                self.add(path, b'd', Hash::default());
                if depth < self.limits.depth {
                    return self.directory(path, depth + 1);
                }
                self.note(path, "lies deeper than --max-depth allows")
            }
            FileType::RegularFile => {
                let (kind, hash) = self.file(fd, name, path, size, OFlags::NOFOLLOW)?;
                self.add(path, kind, hash);
                Ok(())
            }
            FileType::Symlink => self.link(fd, name, path),
            _ => {
                self.add(path, b'o', Sha256::digest([kind as u8]).into());
                Ok(())
            }
        }
    }

    /// What a link holds. One that leads to a file outside of the tree stands for that, too;
    /// everything within is read where it is.
    fn link(&mut self, fd: impl AsFd, name: &CStr, path: &[u8]) -> Result<()> {
        let target = readlinkat(&fd, name, Vec::new());
        let target = target.map_err(|errno| self.dir.error("read the link", path, errno))?;
        let mut digest = Sha256::new_with_prefix(target.to_bytes());
        if let Err(Errno::XDEV) = open_beneath(self.dir, path, OFlags::PATH) {
            match statat(&fd, name, AtFlags::empty()) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    let (kind, hash) = self.file(fd, name, path, size, OFlags::empty())?;
                    digest.update([0, kind]);
                    digest.update(hash);
                }
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    self.note(path, "leads to a directory elsewhere, which is not read")?;
                }
                _ => {}
            }
        }
        self.add(path, b'l', digest.finalize().into());
        Ok(())
    }

    /// What is in a file, as far as it may be read.
    fn file(
        &mut self,
        fd: impl AsFd,
        name: &CStr,
        path: &[u8],
        size: u64,
        flags: OFlags,
    ) -> Result<(u8, Hash)> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let failure = |errno| self.dir.error("read", path, errno);
        if size > self.bytes_left {
            self.note(path, "is more than --max-bytes leaves to be read")?;
            return stand_in(fd, name).map_err(failure);
        }
        let opened = match open_noatime(&fd, name, flags) {
            Err(Errno::ACCESS) => {
                self.note(path, "may not be read")?;
                return stand_in(fd, name).map_err(failure);
            }
            opened => opened.map_err(failure)?,
        };
        let mut file = File::from(opened);
        let mut digest = Sha256::new();
        // What grows meanwhile is seen to by the next scan.
        let mut left = size;
        while left > 0 {
            let want = self.piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match file.read(&mut self.piece[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    digest.update(&self.piece[..count]);
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
        Ok((b'f', digest.finalize().into()))
    }

    fn add(&mut self, path: &[u8], kind: u8, hash: Hash) {
        self.tree.entries.push(Entry { path: path.into(), kind, hash });
    }

    /// Notes what is not covered. It cannot fail, but ends what it is returned from.
    fn note(&mut self, path: &[u8], what: &str) -> Result<()> {
        if self.tree.notes.len() == MAX_NOTES {
            self.dropped += 1;
        } else {
            let shown = self.dir.display_path(path);
            self.tree.notes.push(format!("`{}` {what}", one_line(shown.as_os_str().as_bytes())));
        }
        Ok(())
    }
}

fn is_link(fd: impl AsFd, name: &CStr) -> bool {
    Metadata::at(fd, name).is_ok_and(|found| found.kind == FileType::Symlink)
}

/// What stands for a file that is not read: which one it is, its size and its times.
fn stand_in(fd: impl AsFd, name: &CStr) -> Result<(u8, Hash), Errno> {
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
    Ok((b'm', digest.finalize().into()))
}
