//! A subset of a tree's entries as a tree of its own: what is staged when few files have changed.

use super::{Content, Node, Tree};

impl Tree {
    /// The tree of the wanted entries and the directories above them, with the index in this tree of
    /// each of its entries.
    pub fn subset(&self, is_wanted: impl Fn(usize) -> bool) -> (Self, Vec<usize>) {
        let mut is_in: Vec<bool> = (0..self.len()).map(is_wanted).collect();
        let directories: Vec<_> = self.directories().collect();
        // Entries come after the directories above them.
        for directory in directories.iter().rev() {
            if let Some(at) = self.find(directory.path()) {
                is_in[at] |= directory.range().any(|index| is_in[index]);
            }
        }
        let mut part = Self::default();
        let mut indices = Vec::new();
        for directory in directories {
            if self.find(directory.path()).is_some_and(|at| !is_in[at]) {
                continue;
            }
            let mut fits = part.push_directory(directory.path(), directory.mode());
            for index in directory.range().filter(|&index| is_in[index]) {
                let (name, node) = self.entry(index);
                fits = fits.and_then(|()| part.push_entry(name, node));
                indices.push(index);
            }
            fits.expect("a part fits where the whole does");
        }
        (part, indices)
    }

    /// Copies sizes and hashes from a `part` of this tree. `indices` are those that
    /// [`subset`](Self::subset) returned.
    pub fn set_contents(&mut self, part: &Self, indices: &[usize]) {
        for (index, &original) in indices.iter().enumerate() {
            if let Node::File { size, hash, .. } = part.entry(index).1 {
                self.set_content(original, Content { size, hash: *hash });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        let directory = Node::Directory { mode: 0o700 };
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(b"a", directory).unwrap();
        tree.push_entry(b"b", Node::Link { target: b"a" }).unwrap();
        tree.push_entry(b"c", directory).unwrap();
        tree.push_directory(b"a", 0o700).unwrap();
        tree.push_entry(b"deep", directory).unwrap();
        tree.push_entry(b"x", Node::File { mode: 0o600, size: 1, hash: &[0; 32] }).unwrap();
        tree.push_directory(b"a/deep", 0o700).unwrap();
        tree.push_entry(b"y", Node::File { mode: 0o600, size: 2, hash: &[0; 32] }).unwrap();
        tree.push_directory(b"c", 0o700).unwrap();
        tree
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let paths = (0..tree.len()).map(|index| {
            let path = super::super::join(tree.directory_of(index).path(), tree.entry(index).0);
            String::from_utf8(path).unwrap()
        });
        paths.collect()
    }

    #[test]
    fn a_part_includes_the_directories_above_wanted_entries() {
        let mut tree = tree();
        let wanted = tree.find(b"a/deep/y").unwrap();
        let (mut part, indices) = tree.subset(|index| index == wanted);
        assert_eq!(paths(&part), ["a", "a/deep", "a/deep/y"]);
        assert_eq!(part.directories().count(), 3);
        part.set_content(2, Content { size: 7, hash: [7; 32] });
        tree.set_contents(&part, &indices);
        assert_eq!(tree.entry(wanted).1, Node::File { mode: 0o600, size: 7, hash: &[7; 32] });
        let nothing = tree.subset(|_| false).0;
        assert_eq!((nothing.len(), nothing.directories().count()), (0, 1));
        let whole = tree.subset(|_| true).0;
        assert_eq!(format!("{whole:?}"), format!("{tree:?}"));
    }
}
