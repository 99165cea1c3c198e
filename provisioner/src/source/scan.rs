//! Scans a source directory into a [`Tree`], and refuses entries that must not be published: links out of
//! the tree, devices, FIFOs, sockets, set-ID bits, and names that begin with `..`.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use published_tree::dir::{Dir, Metadata, names, open_beneath};
use published_tree::tree::{Node, Tree, join};
use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;

use super::link_targets::leads_out;

/// The longest path below the root, in bytes. `PATH_MAX` leaves the rest for the volume's own part.
const MAX_PATH: usize = 3500;
/// Set-user-ID and set-group-ID.
const SET_ID: u16 = 0o6000;
/// The reason to refuse a link.
const LEADS_OUT: &str = "is a link that leads out of the tree";

/// Entries that must not be published, each with the reason.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn add(&mut self, path: &[u8], reason: &str) {
        self.0.push(format!("`{}` {reason}", one_line(path)));
    }

    fn into_result(self, dir: &Dir) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let shown = dir.display_path(b"");
        let (shown, refused) = (one_line(shown.as_os_str().as_bytes()), self.0.join(", "));
        Err(misconfigured(format_args!("`{shown}` cannot be published: {refused}")))
    }
}

/// Scans a tree to be published.
///
/// # Errors
/// Names every entry that must not be published, as a configuration error: a link that leads out of
/// the tree, a device, a FIFO, a socket, set-ID bits, a name that begins with `..`. Fails if an entry
/// cannot be read.
pub fn scan(dir: &Dir) -> Result<Tree> {
    let (mut tree, mut refusals) = (Tree::default(), Refusals::default());
    read(dir, |_| true, &mut tree, &mut refusals)?;
    check_links(dir, &tree, &mut refusals)?;
    refusals.into_result(dir)?;
    Ok(tree)
}

/// Checks again, in the copy of a tree, that no link leads out of it: the source may have changed
/// while it was read.
///
/// # Errors
/// Names every link that does.
pub fn check_copy(dir: &Dir, tree: &Tree) -> Result<()> {
    let mut refusals = Refusals::default();
    check_links(dir, tree, &mut refusals)?;
    refusals.into_result(dir)
}

/// Checks as [`check_copy`] does, but by the targets of the links alone.
///
/// # Errors
/// Names every link that leads out of the tree.
pub fn check_targets(dir: &Dir, tree: &Tree) -> Result<()> {
    let mut refusals = Refusals::default();
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            if matches!(node, Node::Link { target } if leads_out(tree, directory.path(), target)) {
                refusals.add(&join(directory.path(), name), LEADS_OUT);
            }
        }
    }
    refusals.into_result(dir)
}

/// Scans the wanted names at the top of a volume, and everything below them. Links may lead
/// anywhere.
///
/// # Errors
/// As [`scan`], except for links.
pub fn scan_names(dir: &Dir, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Tree> {
    let (mut tree, mut refusals) = (Tree::default(), Refusals::default());
    read(dir, is_wanted, &mut tree, &mut refusals)?;
    refusals.into_result(dir)?;
    Ok(tree)
}

fn read(
    dir: &Dir,
    is_wanted: impl Fn(&[u8]) -> bool,
    tree: &mut Tree,
    refusals: &mut Refusals,
) -> Result<()> {
    let mode = Metadata::at(dir, c"").map_err(|errno| dir.error("stat", b"", errno))?.mode;
    let mut pending = vec![(Vec::new(), mode)];
    while let Some((path, mode)) = pending.pop() {
        let fd = dir.open_fd(&path).map_err(|errno| dir.error("open", &path, errno))?;
        if mode & SET_ID != 0 {
            refusals.add(&path, "has a set-ID bit");
        }
        tree.push_directory(&path, mode).ok_or_else(|| too_many_names(dir))?;
        let names = names(fd.as_fd()).map_err(|errno| dir.error("read", &path, errno))?;
        let first = pending.len();
        for name in names.iter().filter(|name| !path.is_empty() || is_wanted(name.to_bytes())) {
            let path = join(&path, name.to_bytes());
            if let Some(mode) = add(dir, &fd, name, &path, tree, refusals)? {
                pending.push((path, mode));
            }
        }
        pending[first..].reverse();
    }
    Ok(())
}

/// Adds an entry to the tree. Returns the mode of a directory, which must be read too.
fn add(
    dir: &Dir,
    fd: impl AsFd,
    name: &CStr,
    path: &[u8],
    tree: &mut Tree,
    refusals: &mut Refusals,
) -> Result<Option<u16>> {
    let failure = |errno| dir.error("stat", path, errno);
    let Metadata { kind, mode, size } = Metadata::at(&fd, name).map_err(failure)?;
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
                .map_err(|errno| dir.error("read the link", path, errno))?;
            Node::Link { target: target.to_bytes() }
        }
        _ => {
            refusals.add(path, "is neither a file, a directory nor a link");
            return Ok(None);
        }
    };
    tree.push_entry(name.to_bytes(), node).ok_or_else(|| too_many_names(dir))?;
    Ok((kind == FileType::Directory).then_some(mode))
}

/// Refuses links that lead out of the tree, also through other links. A dangling link does not.
fn check_links(dir: &Dir, tree: &Tree, refusals: &mut Refusals) -> Result<()> {
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            if !matches!(node, Node::Link { .. }) {
                continue;
            }
            let path = join(directory.path(), name);
            let opened = open_beneath(dir, &path, OFlags::PATH);
            match opened {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {}
                Err(Errno::XDEV) => refusals.add(&path, LEADS_OUT),
                Err(errno) => return Err(dir.error("follow", &path, errno)),
            }
        }
    }
    Ok(())
}

fn too_many_names(dir: &Dir) -> anyhow::Error {
    anyhow!("`{}` holds more names than fit 4 GiB", dir.display_path(b"").display())
}
