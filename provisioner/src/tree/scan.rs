//! Reads a tree from a file system, and refuses what must not be published.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, StatxFlags, readlinkat, statx};
use rustix::io::Errno;

use super::links::leads_out;
use super::{Node, Tree, join};
use crate::place::{Place, open_beneath};

/// Longest path below the root, in bytes, with room for what the volume puts before it.
const MAX_PATH: usize = 3500;
/// Set-user-ID and set-group-ID.
const SET_ID: u16 = 0o6000;
/// What is wrong with a link.
const LEADS_OUT: &str = "is a link that leads out of the tree";

/// What a tree must not hold, if it is to be published.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn add(&mut self, path: &[u8], what: &str) {
        self.0.push(format!("`{}` {what}", one_line(path)));
    }

    fn conclude(self, place: &Place) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let shown = place.shown(b"");
        let (shown, refused) = (one_line(shown.as_os_str().as_bytes()), self.0.join(", "));
        Err(misconfigured(format_args!("`{shown}` cannot be published: {refused}")))
    }
}

/// Reads the tree at `place`, to be published.
///
/// # Errors
/// Every path that must not be published, each with the reason, as an error of configuration: a
/// link that leads out of the tree, a device, a FIFO, a socket, set-ID bits, a name that begins
/// with `..`. Or something cannot be read.
pub fn scan(place: &Place) -> Result<Tree> {
    let (mut tree, mut refusals) = (Tree::default(), Refusals::default());
    read(place, |_| true, &mut tree, &mut refusals)?;
    check_links(place, &tree, &mut refusals)?;
    refusals.conclude(place)?;
    Ok(tree)
}

/// Makes sure again that no link leads out of a tree, where it has been copied to: the source may
/// have changed while it was read.
///
/// # Errors
/// As those of [`scan`].
pub fn check_copy(place: &Place, tree: &Tree) -> Result<()> {
    let mut refusals = Refusals::default();
    check_links(place, tree, &mut refusals)?;
    refusals.conclude(place)
}

/// [`check_copy`] by the tree alone, where its copy is not in one place.
///
/// # Errors
/// As those of [`scan`].
pub fn check_targets(place: &Place, tree: &Tree) -> Result<()> {
    let mut refusals = Refusals::default();
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            if matches!(node, Node::Link { target } if leads_out(tree, directory.path(), target)) {
                refusals.add(&join(directory.path(), name), LEADS_OUT);
            }
        }
    }
    refusals.conclude(place)
}

/// Reads what is on a volume already, below the wanted names at its top. Its links may lead
/// wherever they do.
///
/// # Errors
/// As [`scan`].
pub fn scan_names(place: &Place, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Tree> {
    let (mut tree, mut refusals) = (Tree::default(), Refusals::default());
    read(place, is_wanted, &mut tree, &mut refusals)?;
    refusals.conclude(place)?;
    Ok(tree)
}

fn read(
    place: &Place,
    is_wanted: impl Fn(&[u8]) -> bool,
    tree: &mut Tree,
    refusals: &mut Refusals,
) -> Result<()> {
    let mode = mode_of(place, c"").map_err(|errno| place.failure("stat", b"", errno))?.1;
    let mut pending = vec![(Vec::new(), mode)];
    while let Some((path, mode)) = pending.pop() {
        let fd = place.directory(&path).map_err(|errno| place.failure("open", &path, errno))?;
        if mode & SET_ID != 0 {
            refusals.add(&path, "has a set-ID bit");
        }
        tree.push_directory(&path, mode).ok_or_else(|| no_room(place))?;
        let names = names(fd.as_fd()).map_err(|errno| place.failure("read", &path, errno))?;
        let first = pending.len();
        for name in names.iter().filter(|name| !path.is_empty() || is_wanted(name.to_bytes())) {
            let path = join(&path, name.to_bytes());
            if let Some(mode) = add(place, &fd, name, &path, tree, refusals)? {
                pending.push((path, mode));
            }
        }
        pending[first..].reverse();
    }
    Ok(())
}

/// The names in a directory, in order.
pub fn names(fd: BorrowedFd<'_>) -> Result<Vec<Box<CStr>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Adds an entry to the tree; its mode if it is a directory, to be read.
fn add(
    place: &Place,
    fd: impl AsFd,
    name: &CStr,
    path: &[u8],
    tree: &mut Tree,
    refusals: &mut Refusals,
) -> Result<Option<u16>> {
    let failure = |errno| place.failure("stat", path, errno);
    let (kind, mode, size) = mode_of(&fd, name).map_err(failure)?;
    if name.to_bytes().starts_with(b"..") {
        refusals.add(path, "begins with `..`, which is kept for links and versions");
    }
    if path.len() > MAX_PATH {
        refusals.add(path, "is too long a path");
        return Ok(None);
    }
    let target;
    let node = match kind {
        FileType::Directory => Node::Directory { mode },
        FileType::RegularFile => {
            if mode & SET_ID != 0 {
                refusals.add(path, "has a set-ID bit");
            }
            Node::File { mode, size, hash: &[0; 32] }
        }
        FileType::Symlink => {
            target = readlinkat(&fd, name, Vec::new())
                .map_err(|errno| place.failure("read the link", path, errno))?;
            Node::Link { target: target.to_bytes() }
        }
        _ => {
            refusals.add(path, "is neither a file, a directory nor a link");
            return Ok(None);
        }
    };
    tree.push_entry(name.to_bytes(), node).ok_or_else(|| no_room(place))?;
    Ok((kind == FileType::Directory).then_some(mode))
}

/// Kind, permission bits and size of an entry, or of `fd` itself if the name is empty.
pub fn mode_of(fd: impl AsFd, name: &CStr) -> Result<(FileType, u16, u64), Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::SIZE;
    let stat = statx(fd, name, flags, wanted)?;
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Ok((kind, stat.stx_mode & 0o7777, stat.stx_size))
}

/// Refuses links that lead out of the tree, by any way through other links. One that leads
/// nowhere does not leave it.
fn check_links(place: &Place, tree: &Tree, refusals: &mut Refusals) -> Result<()> {
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            if !matches!(node, Node::Link { .. }) {
                continue;
            }
            let path = join(directory.path(), name);
            let opened = open_beneath(place, &path, OFlags::PATH);
            match opened {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {}
                Err(Errno::XDEV) => refusals.add(&path, LEADS_OUT),
                Err(errno) => return Err(place.failure("follow", &path, errno)),
            }
        }
    }
    Ok(())
}

fn no_room(place: &Place) -> anyhow::Error {
    anyhow!("`{}` holds more names than fit 4 GiB", place.shown(b"").display())
}
