//! Tests of what is decided by the two trees alone, without reading files.

use super::*;

const FILE: Node<'_> = Node::File { mode: 0o644, size: 3, hash: &[0; 32] };
const DIRECTORY: Node<'_> = Node::Directory { mode: 0o755 };

/// A tree with these entries at its top, sorted by name.
fn tree(entries: &[(&str, Node<'_>)]) -> Tree {
    let mut tree = Tree::default();
    tree.push_directory(b"", 0o755).unwrap();
    for (name, node) in entries {
        tree.push_entry(name.as_bytes(), *node).unwrap();
    }
    for (name, node) in entries {
        if let Node::Directory { mode } = node {
            tree.push_directory(name.as_bytes(), *mode).unwrap();
        }
    }
    tree
}

/// The comparison before files are read, and the pairs of files whose content decides.
fn matched(source: &Tree, live: &Tree) -> (Comparison, Vec<Pair>) {
    let mut comparison = Comparison::default();
    let pairs = match_entries(source, live, &mut comparison);
    (comparison, pairs)
}

#[test]
fn equal_trees_leave_only_the_content_of_files_to_compare() {
    let link = Node::Link { target: b"a" };
    let entries = [("a", FILE), ("b", link), ("c", DIRECTORY)];
    let (comparison, pairs) = matched(&tree(&entries), &tree(&entries));
    assert!(comparison.is_same(), "{comparison:?}");
    assert_eq!(comparison.unchanged, 1, "the link");
    assert_eq!(pairs.len(), 1);
    assert_eq!((pairs[0].source, pairs[0].live), (0, 0));
}

#[test]
fn added_and_removed_names_are_found_between_equal_ones() {
    let source = tree(&[("a", FILE), ("c", FILE), ("d", FILE)]);
    let live = tree(&[("b", FILE), ("c", FILE), ("e", FILE)]);
    let (comparison, pairs) = matched(&source, &live);
    assert_eq!((comparison.added, comparison.removed, comparison.changed), (2, 2, 0));
    assert_eq!((pairs.len(), pairs[0].source, pairs[0].live), (1, 1, 1));
}

#[test]
fn another_type_mode_size_or_target_is_a_change() {
    let link = Node::Link { target: b"x" };
    for other in [
        Node::File { mode: 0o600, size: 3, hash: &[0; 32] },
        Node::File { mode: 0o644, size: 4, hash: &[0; 32] },
        link,
    ] {
        let (comparison, pairs) = matched(&tree(&[("a", other)]), &tree(&[("a", FILE)]));
        assert_eq!((comparison.changed, pairs.len()), (1, 0), "{other:?}");
        assert!(!comparison.is_same());
    }
    let other = Node::Link { target: b"y" };
    assert_eq!(matched(&tree(&[("a", other)]), &tree(&[("a", link)])).0.changed, 1);
}

#[test]
fn directories_are_not_counted_but_their_differences_are_noticed() {
    let closed = Node::Directory { mode: 0o700 };
    for (source, live) in [
        (tree(&[("a", DIRECTORY)]), tree(&[])),
        (tree(&[]), tree(&[("a", DIRECTORY)])),
        (tree(&[("a", DIRECTORY)]), tree(&[("a", closed)])),
    ] {
        let (comparison, _) = matched(&source, &live);
        assert_eq!(comparison.added + comparison.changed + comparison.removed, 0);
        assert!(comparison.differs_otherwise && !comparison.is_same());
    }
}

#[test]
fn without_a_live_tree_every_file_is_new() {
    let source = tree(&[("a", FILE), ("b", Node::Link { target: b"a" }), ("c", FILE)]);
    let comparison = compare_with_nothing(&source);
    assert_eq!((comparison.added, comparison.new_bytes(&source)), (3, 6));
    assert_eq!(comparison.copy_of(0), None);
    assert!(!comparison.is_same());
}
