//! The lines of a plan: one for each path that a run would change, with what changes.

use std::fmt;
use std::os::fd::AsFd;

use diagnostics::wording::one_line;
use published_tree::tree::Node;

use crate::source::owner::Owner;

/// A path that would change.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The path. That of the root is empty.
    pub path: Vec<u8>,
    /// Whether it is a directory, or was one if it is removed.
    pub is_directory: bool,
    /// The change.
    pub change: Change,
}

/// How a path would change.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It would be created.
    Added,
    /// It would be removed.
    Removed,
    /// It would change in these points.
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
            Change::Changed(differences) => write!(f, " ({})", differences.join(", ")),
            _ => Ok(()),
        }
    }
}

impl Line {
    /// The line of a path that would be removed.
    pub fn removed(path: Vec<u8>, is_directory: bool) -> Self {
        Self { path, is_directory, change: Change::Removed }
    }
}

/// Sorts lines by path. Of lines with the same path, the first one stays.
pub fn sort(lines: &mut Vec<Line>) {
    lines.sort_by(|one, other| one.path.cmp(&other.path));
    lines.dedup_by(|one, other| one.path == other.path);
}

/// The difference of a live entry that was changed after it was published.
pub const DAMAGED: &str = "not what was published";

/// How two entries differ.
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
        (new, old) => vec![format!("{} -> {}", type_name(old), type_name(new))],
    }
}

/// The type of an entry, in one word.
pub fn type_name(node: Node<'_>) -> &'static str {
    match node {
        Node::Directory { .. } => "directory",
        Node::File { .. } => "file",
        Node::Link { .. } => "link",
    }
}

/// The difference of an entry of `directory`, or of the directory itself if `name` is empty, that has
/// another owner than `owner`. `None` if it has not, or does not exist.
pub fn owner_difference(owner: Option<Owner>, directory: impl AsFd, name: &[u8]) -> Option<String> {
    let owner = owner?;
    let actual = owner.actual_if_wrong(directory, name).ok()??;
    Some(format!("owner {actual} -> {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_names_do_not_break_the_line() {
        let differences = differences(Node::Link { target: b"x\ny" }, Node::Link { target: b"z" });
        let change = Change::Changed(differences);
        let line = Line { path: b"a\n+ b".to_vec(), is_directory: false, change };
        assert_eq!(line.to_string(), r"~ a\n+ b (link to z -> x\ny)");
        let line = Line { path: Vec::new(), is_directory: true, change: Change::Added };
        assert_eq!(line.to_string(), "+ ./");
        assert_eq!(Line::removed(b"d".to_vec(), true).to_string(), "- d/");
    }

    #[test]
    fn content_mode_target_and_type_are_compared() {
        let (one, other) = ([1; 32], [2; 32]);
        let file = |mode, hash| Node::File { mode, size: 3, hash };
        let all = differences(file(0o600, &one), file(0o644, &other));
        assert_eq!(all, ["content", "mode 0644 -> 0600"]);
        assert!(differences(file(0o600, &one), file(0o600, &one)).is_empty());
        let directory = |mode| Node::Directory { mode };
        assert_eq!(differences(directory(0o755), file(0o755, &one)), ["file -> directory"]);
        assert_eq!(differences(directory(0o700), directory(0o755)), ["mode 0755 -> 0700"]);
        let link = Node::Link { target: b"x" };
        assert!(differences(link, link).is_empty());
        assert_eq!(differences(link, directory(0o755)), ["directory -> link"]);
    }

    #[test]
    fn lines_are_sorted_by_path_and_the_first_of_a_path_stays() {
        let added =
            |path: &[u8]| Line { path: path.to_vec(), is_directory: false, change: Change::Added };
        let removed = |path: &[u8]| Line::removed(path.to_vec(), false);
        let mut lines = vec![added(b"b"), removed(b"a/c"), removed(b"b"), added(b"a")];
        sort(&mut lines);
        assert_eq!(lines, [added(b"a"), removed(b"a/c"), added(b"b")]);
    }
}
