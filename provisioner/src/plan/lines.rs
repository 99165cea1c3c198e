//! How a tree differs from what readers of a volume see, path by path.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::Result;
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use published_tree::reader::Reader;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::verify::directory_matches;
use published_tree::volume::{Published, Volume};

use super::before::{Before, top};
use crate::atomic::links::TopNames;
use crate::copy::compare::Comparison;
use crate::files::claims::{self, Claims};
use crate::files::stale;
use crate::source::owner::Owner;

/// A path that would change.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The path; an empty one is that of the root.
    pub path: Vec<u8>,
    /// Whether a directory is there, or was.
    pub is_directory: bool,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// There was nothing.
    Added,
    /// There will be nothing.
    Removed,
    /// In these respects.
    Changed(Vec<String>),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed(_) => '~',
        };
        let path = if self.path.is_empty() { ".".to_owned() } else { one_line(&self.path) };
        write!(f, "{sign} {path}{}", if self.is_directory { "/" } else { "" })?;
        match &self.change {
            Change::Changed(why) => write!(f, " ({})", why.join(", ")),
            _ => Ok(()),
        }
    }
}

/// A file or directory that is live, but not as it went live.
pub const DAMAGED: &str = "not what was published";

/// All paths that differ, in the order of their bytes, with those whose link on the volume would be
/// made or removed. The files of `tree` have their hashes; `found` is how it differs from the
/// publication that is live, if there is one.
pub fn all(
    tree: &Tree,
    before: &Before,
    volume: &Volume,
    names: &TopNames,
    stale: &[Box<CStr>],
    found: Option<&Comparison>,
    owner: Option<Owner>,
) -> Vec<Line> {
    let mut owners = Owners::of(owner, before, volume);
    let missing: HashSet<&[u8]> = names.missing.iter().map(|name| &name[..]).collect();
    let mut lines = Vec::new();
    let mut add = |path, node: Node<'_>, change| {
        let is_directory = matches!(node, Node::Directory { .. });
        lines.push(Line { path, is_directory, change });
    };
    for directory in tree.directories() {
        for index in directory.range() {
            let (name, node) = tree.entry(index);
            let path = join(directory.path(), name);
            let Some((other_tree, other)) = before.find(&path) else {
                add(path, node, Change::Added);
                continue;
            };
            let mut why = differences(node, other_tree.entry(other).1);
            if directory.path().is_empty() && before.is_plain(name) {
                why.push("becomes a link".to_owned());
            } else if directory.path().is_empty() && missing.contains(name) {
                why.push("its link is missing".to_owned());
            }
            let is_undamaged = || found.is_none_or(|found| found.copy_of(index).is_some());
            if why.is_empty() && matches!(node, Node::File { .. }) && !is_undamaged() {
                why.push(DAMAGED.to_owned());
            }
            why.extend(owners.other(directory.path(), name, &path));
            if !why.is_empty() {
                add(path, node, Change::Changed(why));
            }
        }
    }
    before.each(|path, node| {
        if tree.find(&path).is_none() {
            add(path, node, Change::Removed);
        }
    });
    for name in stale.iter().map(|name| name.to_bytes()) {
        if before.find(name).is_none() {
            add(name.to_vec(), Node::Link { target: b"" }, Change::Removed);
        }
    }
    lines.extend(root(tree, before, owner));
    if lines.is_empty() && found.is_some_and(|found| found.differs_otherwise) {
        lines.extend(before.published().into_iter().flat_map(damaged));
    }
    sort(&mut lines);
    lines
}

/// Puts lines in their order, one for each path.
pub fn sort(lines: &mut Vec<Line>) {
    lines.sort_by(|one, other| one.path.cmp(&other.path));
    lines.dedup_by(|one, other| one.path == other.path);
}

/// What goes of plain files that were published, where a tree goes live behind links.
///
/// # Errors
/// The volume cannot be read.
pub fn left_files(tree: &Tree, volume: &Volume, report: &mut Report) -> Result<Vec<Line>> {
    // Without claims, or with some that cannot be read, nothing is known to be ours.
    if !matches!(claims::find(volume), Ok(Some(_))) {
        return Ok(Vec::new());
    }
    let claims = Claims::of(volume, report)?;
    let gone = stale::all(volume, &claims, |path| tree.find(top(path)).is_some())?;
    Ok(removed(gone).collect())
}

/// Lines of paths that go, each with whether it is a directory.
pub fn removed(paths: impl IntoIterator<Item = (Vec<u8>, bool)>) -> impl Iterator<Item = Line> {
    let line = |(path, is_directory)| Line { path, is_directory, change: Change::Removed };
    paths.into_iter().map(line)
}

/// Whom things belong to that readers see, behind links or not.
struct Owners<'o> {
    owner: Option<Owner>,
    before: &'o Before,
    plain: Reader<'o>,
    live: Option<Reader<'o>>,
}

impl<'o> Owners<'o> {
    fn of(owner: Option<Owner>, before: &'o Before, volume: &'o Volume) -> Self {
        let live = before.live().map(|live| Reader::unbuffered(&live.dir));
        Self { owner, before, plain: Reader::unbuffered(volume.dir()), live }
    }

    /// In words, if an entry belongs to somebody else than it will.
    fn other(&mut self, directory: &[u8], name: &[u8], path: &[u8]) -> Option<String> {
        self.owner?;
        let reader =
            if self.before.is_plain(top(path)) { &mut self.plain } else { self.live.as_mut()? };
        wrong_owner(self.owner, reader.open_fd(directory).ok()?, name)
    }
}

/// In words, if an entry of an open directory, or with an empty name the directory itself, belongs
/// to somebody else than it is to. What is missing belongs to nobody.
pub fn wrong_owner(owner: Option<Owner>, directory: impl AsFd, name: &[u8]) -> Option<String> {
    let owner = owner?;
    let other = owner.actual_if_wrong(directory, name).ok()??;
    Some(format!("owner {other} -> {owner}"))
}

/// In what respects an entry is another one, in words.
pub fn differences(new: Node<'_>, old: Node<'_>) -> Vec<String> {
    let modes = |new: u16, old: u16| (new != old).then(|| format!("mode {old:04o} -> {new:04o}"));
    match (new, old) {
        (
            Node::File { mode, size, hash },
            Node::File { mode: old_mode, size: old_size, hash: old_hash },
        ) => {
            let is_same = (size, hash) == (old_size, old_hash);
            let content = (!is_same).then(|| "content".to_owned());
            content.into_iter().chain(modes(mode, old_mode)).collect()
        }
        (Node::Directory { mode }, Node::Directory { mode: old }) => {
            modes(mode, old).into_iter().collect()
        }
        (Node::Link { target }, Node::Link { target: old }) if target == old => Vec::new(),
        (Node::Link { target }, Node::Link { target: old }) => {
            vec![format!("link to {} -> {}", one_line(old), one_line(target))]
        }
        (new, old) => vec![format!("{} -> {}", kind(old), kind(new))],
    }
}

/// What an entry is, in a word.
pub fn kind(node: Node<'_>) -> &'static str {
    match node {
        Node::Directory { .. } => "directory",
        Node::File { .. } => "file",
        Node::Link { .. } => "link",
    }
}

/// The top of the tree, if its mode changes, or whom it belongs to.
fn root(tree: &Tree, before: &Before, owner: Option<Owner>) -> Option<Line> {
    let mode = |tree: &Tree| tree.directories().next().map(DirectoryRef::mode);
    let published = before.published()?;
    let (new, old) = (mode(tree)?, mode(&published.tree)?);
    let mut why = differences(Node::Directory { mode: new }, Node::Directory { mode: old });
    why.extend(wrong_owner(owner, &published.dir, b""));
    let is_other = !why.is_empty();
    let change = Change::Changed(why);
    is_other.then(|| Line { path: Vec::new(), is_directory: true, change })
}

/// The directories that hold something else than they should.
fn damaged(published: &Published) -> impl Iterator<Item = Line> {
    let is_undamaged = |directory: DirectoryRef<'_>| {
        let opened = published.dir.open_fd(directory.path());
        opened.is_ok_and(|fd| directory_matches(&fd, directory))
    };
    let wrong = published.tree.directories().filter(move |directory| !is_undamaged(*directory));
    wrong.map(|directory| {
        let change = Change::Changed(vec![DAMAGED.to_owned()]);
        Line { path: directory.path().to_vec(), is_directory: true, change }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_name() {
        let why = differences(Node::Link { target: b"x\ny" }, Node::Link { target: b"z" });
        let change = Change::Changed(why);
        let line = Line { path: b"a\n+ b".to_vec(), is_directory: false, change };
        assert_eq!(line.to_string(), r"~ a\n+ b (link to z -> x\ny)");
        let line = Line { path: Vec::new(), is_directory: true, change: Change::Added };
        assert_eq!(line.to_string(), "+ ./");
    }

    #[test]
    fn every_respect_is_told() {
        let (one, other) = ([1; 32], [2; 32]);
        let file = |mode, hash| Node::File { mode, size: 3, hash };
        let all = differences(file(0o600, &one), file(0o644, &other));
        assert_eq!(all, ["content", "mode 0644 -> 0600"]);
        assert!(differences(file(0o600, &one), file(0o600, &one)).is_empty());
        let directory = Node::Directory { mode: 0o755 };
        assert_eq!(differences(directory, file(0o755, &one)), ["file -> directory"]);
    }
}
