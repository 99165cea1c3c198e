//! The tree that readers of a volume see before a run: plain entries at its top, and the live version
//! behind the links beside them.

use std::collections::HashSet;

use anyhow::{Result, bail};
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use published_tree::dir::Dir;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{Content, Hash, Node, Tree, join};
use published_tree::volume::{LiveVersion, Published, TREE, Volume};

use crate::atomic::links::TopNames;
use crate::source::checksums;
use crate::source::scan::scan_names;

/// What readers see, by the paths that they use.
#[derive(Default)]
pub struct ReaderView {
    /// The live version.
    live: Option<Published>,
    /// Whether its tree is that of its manifest. Else it was read from the volume.
    has_manifest: bool,
    /// The names at the top that are plain entries, not links.
    plain_names: HashSet<Vec<u8>>,
    /// The tree of the plain entries.
    plain_tree: Tree,
}

impl ReaderView {
    /// Reads the plain entries of a volume, and the live version if it has no manifest. With
    /// `allow_gap`, a run moves plain entries away and need not read them: then a failure is a
    /// warning.
    ///
    /// # Errors
    /// Fails if an entry cannot be read.
    pub fn of(
        volume: &Volume,
        names: &TopNames,
        allow_gap: bool,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<Self> {
        let mut view = Self::default();
        view.plain_names.extend(names.plain.iter().cloned());
        if !view.plain_names.is_empty() {
            match read_names(volume.dir(), |name| view.plain_names.contains(name), progress) {
                Ok(tree) => view.plain_tree = tree,
                Err(error) if allow_gap => {
                    report.warn_on_error(Err(error), "plain files on the volume are not compared");
                }
                Err(error) => {
                    return Err(error.context("--allow-gap moves away what cannot be copied"));
                }
            }
        }
        let Some(LiveVersion { name, published }) = volume.live()? else { return Ok(view) };
        view.has_manifest = published.is_some();
        view.live = published.or_else(|| {
            let read = view.read_live(volume, &name, progress);
            read.map_err(|error| {
                report.warn_on_error(Err(error), "the live version is not compared");
            })
            .ok()
        });
        Ok(view)
    }

    /// Reads the tree of a live version without a manifest.
    fn read_live(&self, volume: &Volume, name: &str, progress: &Progress) -> Result<Published> {
        let dir = volume.dir().open_dir(name.as_bytes())?.open_dir(TREE.as_bytes())?;
        let tree = read_names(&dir, |name| !self.plain_names.contains(name), progress)?;
        Ok(Published { tree, digest: [0; 32], publish_time: None, dir })
    }

    /// The live version, if it has a manifest.
    pub fn published(&self) -> Option<&Published> {
        self.live.as_ref().filter(|_| self.has_manifest)
    }

    /// The live version, with or without a manifest.
    pub fn live(&self) -> Option<&Published> {
        self.live.as_ref()
    }

    /// The trees that a migration copies before it replaces plain entries by links; none if there
    /// are no plain entries.
    pub fn trees_to_migrate(&self) -> impl Iterator<Item = &Tree> {
        let trees = [Some(&self.plain_tree), self.live.as_ref().map(|live| &live.tree)];
        trees.into_iter().flatten().filter(|_| !self.plain_names.is_empty())
    }

    /// Whether the entry `name` at the top is plain.
    pub fn is_plain(&self, name: &[u8]) -> bool {
        self.plain_names.contains(name)
    }

    /// The entry at `path`: the tree that holds it, and its index there.
    pub fn find(&self, path: &[u8]) -> Option<(&Tree, usize)> {
        let tree = if self.is_plain(top_name(path)) {
            &self.plain_tree
        } else {
            &self.live.as_ref()?.tree
        };
        tree.find(path).map(|index| (tree, index))
    }

    /// Calls `visit` for every entry, with its path.
    pub fn for_each(&self, mut visit: impl FnMut(Vec<u8>, Node<'_>)) {
        let live = self.live.as_ref().map(|live| (&live.tree, false));
        for (tree, is_plain) in live.into_iter().chain([(&self.plain_tree, true)]) {
            for directory in tree.directories() {
                for (name, node) in directory.entries() {
                    let path = join(directory.path(), name);
                    if self.is_plain(top_name(&path)) == is_plain {
                        visit(path, node);
                    }
                }
            }
        }
    }
}

/// The first name of a path.
pub fn top_name(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Reads the wanted names at the top of a directory, and hashes their files.
fn read_names(dir: &Dir, is_wanted: impl Fn(&[u8]) -> bool, progress: &Progress) -> Result<Tree> {
    let mut tree = scan_names(dir, is_wanted)?;
    read_contents(&mut tree, dir, |_| None, progress)?;
    Ok(tree)
}

/// Stores the hashes of all files in `tree`. Reads those for which `known_hash` returns none.
///
/// # Errors
/// Fails if a file cannot be read, or has changed since the tree was scanned.
pub fn read_contents(
    tree: &mut Tree,
    dir: &Dir,
    known_hash: impl Fn(usize) -> Option<Hash> + Sync,
    progress: &Progress,
) -> Result<()> {
    progress.begin("reading", tree.files());
    let reader = || Reader::new(dir);
    let found = in_parallel(tree.len(), reader, |reader, range| {
        let mut found = Vec::new();
        for index in range {
            let (name, node) = tree.entry(index);
            let Node::File { size, .. } = node else { continue };
            let content = match known_hash(index) {
                Some(hash) => Content { size, hash },
                None => checksums::content(tree, index, reader, progress)?,
            };
            if content.size != size {
                let shown = dir.display_path(&join(tree.directory_of(index).path(), name));
                let shown = one_line(shown.as_os_str().as_encoded_bytes());
                bail!("`{shown}` has changed while it was read");
            }
            progress.add_file();
            found.push((index, content));
        }
        Ok(found)
    })?;
    found.into_iter().flatten().for_each(|(index, content)| tree.set_content(index, content));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const FILE: Node<'_> = Node::File { mode: 0o644, size: 3, hash: &[7; 32] };

    /// A view of the plain directory `d` with `d/plain`, and a live version with `d/live` and `e`.
    fn view(dir: &TempDir) -> ReaderView {
        let tree = |names: &[&[u8]], below: &[u8]| {
            let mut tree = Tree::default();
            tree.push_directory(b"", 0o755).unwrap();
            tree.push_entry(b"d", Node::Directory { mode: 0o755 }).unwrap();
            names.iter().for_each(|name| tree.push_entry(name, FILE).unwrap());
            tree.push_directory(b"d", 0o755).unwrap();
            tree.push_entry(below, FILE).unwrap();
            tree
        };
        let live = Published {
            tree: tree(&[b"e"], b"live"),
            digest: [0; 32],
            dir: Dir::open(dir.path()).unwrap(),
            publish_time: None,
        };
        ReaderView {
            live: Some(live),
            has_manifest: false,
            plain_names: HashSet::from([b"d".to_vec()]),
            plain_tree: tree(&[], b"plain"),
        }
    }

    #[test]
    fn a_plain_entry_hides_the_live_one_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let view = view(&dir);
        assert!(view.find(b"d/plain").is_some() && view.find(b"e").is_some());
        assert!(view.find(b"d/live").is_none() && view.find(b"other").is_none());
        let mut paths = Vec::new();
        view.for_each(|path, _| paths.push(path));
        assert_eq!(paths, [&b"e"[..], b"d", b"d/plain"]);
    }

    #[test]
    fn only_a_manifest_makes_a_live_version_a_published_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut view = view(&dir);
        assert!(view.live().is_some() && view.published().is_none());
        view.has_manifest = true;
        assert!(view.published().is_some());
    }

    #[test]
    fn both_trees_are_migrated_if_any_entry_is_plain() {
        let dir = tempfile::tempdir().unwrap();
        let mut view = view(&dir);
        assert_eq!(view.trees_to_migrate().count(), 2);
        view.plain_names.clear();
        assert_eq!(view.trees_to_migrate().count(), 0);
    }

    #[test]
    fn a_file_that_changed_since_the_scan_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "one").unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut tree = read_names(&dir, |_| true, &Progress::default()).unwrap();
        fs::write(root.path().join("a"), "longer").unwrap();
        let error = read_contents(&mut tree, &dir, |_| None, &Progress::default()).unwrap_err();
        assert!(error.to_string().ends_with("/a` has changed while it was read"), "{error}");
        read_contents(&mut tree, &dir, |_| Some([1; 32]), &Progress::default()).unwrap();
    }

    #[test]
    fn the_top_name_is_the_first_component() {
        assert_eq!(
            (top_name(b"a/b/c"), top_name(b"a"), top_name(b"")),
            (&b"a"[..], &b"a"[..], &b""[..])
        );
    }
}
