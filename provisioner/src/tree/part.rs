//! A part of a tree, as a tree.

use super::{Node, Tree};

impl Tree {
    /// The tree of the entries that are wanted and the directories above them, and for each of its
    /// entries the place of the same one in this tree.
    pub fn part(&self, is_wanted: impl Fn(usize) -> bool) -> (Self, Vec<usize>) {
        let mut is_in: Vec<bool> = (0..self.len()).map(is_wanted).collect();
        let directories: Vec<_> = self.directories().collect();
        // What is below a directory comes after it.
        for directory in directories.iter().rev() {
            if let Some(at) = self.find(directory.path()) {
                is_in[at] |= directory.range().any(|index| is_in[index]);
            }
        }
        let mut part = Self { owner: self.owner, ..Self::default() };
        let mut places = Vec::new();
        for directory in directories {
            if self.find(directory.path()).is_some_and(|at| !is_in[at]) {
                continue;
            }
            let mut fits = part.push_directory(directory.path(), directory.mode());
            for index in directory.range().filter(|&index| is_in[index]) {
                let (name, node) = self.entry(index);
                fits = fits.and_then(|()| part.push_entry(name, node));
                places.push(index);
            }
            fits.expect("a part fits where the whole does");
        }
        (part, places)
    }

    /// Notes what the files of a part hold that was taken from this tree.
    pub fn set_contents(&mut self, part: &Self, places: &[usize]) {
        for (index, &place) in places.iter().enumerate() {
            if let Node::File { size, hash, .. } = part.entry(index).1 {
                self.set_content(place, (size, *hash));
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
    fn a_part_has_the_directories_above_what_is_wanted() {
        let mut tree = tree();
        let wanted = tree.find(b"a/deep/y").unwrap();
        let (mut part, places) = tree.part(|index| index == wanted);
        assert_eq!(paths(&part), ["a", "a/deep", "a/deep/y"]);
        assert_eq!(part.directories().count(), 3);
        part.set_content(2, (7, [7; 32]));
        tree.set_contents(&part, &places);
        assert_eq!(tree.entry(wanted).1, Node::File { mode: 0o600, size: 7, hash: &[7; 32] });
        let nothing = tree.part(|_| false).0;
        assert_eq!((nothing.len(), nothing.directories().count()), (0, 1));
        let whole = tree.part(|_| true).0;
        assert_eq!(format!("{whole:?}"), format!("{tree:?}"));
    }
}
