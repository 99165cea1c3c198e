//! How a tree differs from what readers of a volume see, path by path.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fmt;

use diagnostics::wording::one_line;

use super::before::Before;
use crate::compare::{Comparison, is_as_published};
use crate::publish::Names;
use crate::tree::{DirectoryRef, Node, Tree, join};
use crate::volume::Published;

/// A path that would change.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    path: Vec<u8>,
    is_directory: bool,
    change: Change,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Added,
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
const DAMAGED: &str = "not what was published";

/// All paths that differ, in the order of their bytes, with those whose link on the volume would be
/// made or removed. The files of `tree` have their hashes; `found` is how it differs from the
/// publication that is live, if there is one.
pub fn all(
    tree: &Tree,
    before: &Before,
    names: &Names,
    stale: &[Box<CStr>],
    found: Option<&Comparison>,
) -> Vec<Line> {
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
            let is_sound = || found.is_none_or(|found| found.copy_of(index).is_some());
            if why.is_empty() && matches!(node, Node::File { .. }) && !is_sound() {
                why.push(DAMAGED.to_owned());
            }
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
    lines.extend(root(tree, before));
    if lines.is_empty() && found.is_some_and(|found| found.differs_otherwise) {
        lines.extend(before.published().into_iter().flat_map(damaged));
    }
    lines.sort_by(|one, other| one.path.cmp(&other.path));
    lines
}

/// In what respects an entry is another one, in words.
fn differences(new: Node<'_>, old: Node<'_>) -> Vec<String> {
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

fn kind(node: Node<'_>) -> &'static str {
    match node {
        Node::Directory { .. } => "directory",
        Node::File { .. } => "file",
        Node::Link { .. } => "link",
    }
}

/// The top of the tree, if its mode changes.
fn root(tree: &Tree, before: &Before) -> Option<Line> {
    let mode = |tree: &Tree| tree.directories().next().map(DirectoryRef::mode);
    let (new, old) = (mode(tree)?, mode(&before.published()?.tree)?);
    let why = differences(Node::Directory { mode: new }, Node::Directory { mode: old });
    let change = Change::Changed(why);
    (new != old).then(|| Line { path: Vec::new(), is_directory: true, change })
}

/// The directories that hold something else than they should.
fn damaged(published: &Published) -> impl Iterator<Item = Line> {
    let is_sound = |directory: DirectoryRef<'_>| {
        let opened = published.place.directory(directory.path());
        opened.is_ok_and(|fd| is_as_published(&fd, directory))
    };
    let wrong = published.tree.directories().filter(move |directory| !is_sound(*directory));
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
