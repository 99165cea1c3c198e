//! What readers of a volume see before a run.

use std::collections::HashSet;

use anyhow::{Result, bail};
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use published_tree::dir::Dir;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{Content, Hash, Node, Tree, join};
use published_tree::volume::{Published, TREE, Volume};

use crate::atomic::links::TopNames;
use crate::source::checksums;
use crate::source::scan::scan_names;

/// What is on a volume, by the paths that readers use.
#[derive(Default)]
pub struct Before {
    live: Option<Published>,
    /// It has a manifest, which says what it should be.
    is_published: bool,
    /// The names at the top that are no links, and what is below them.
    plain: HashSet<Vec<u8>>,
    plain_tree: Tree,
}

impl Before {
    /// Looks at a volume, and reads what has no manifest.
    ///
    /// # Errors
    /// It cannot be read. Where that would not keep a run from what it does, since it would only move
    /// things away, there is a warning.
    pub fn of(
        volume: &Volume,
        names: &TopNames,
        moves: bool,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<Self> {
        let mut before = Self::default();
        before.plain.extend(names.plain.iter().cloned());
        if !before.plain.is_empty() {
            let dir = volume.dir();
            match read_names(dir, |name| before.plain.contains(name), progress) {
                Ok(tree) => before.plain_tree = tree,
                Err(error) if moves => {
                    report.warn_on_error(Err(error), "what is there cannot be compared");
                }
                Err(error) => {
                    return Err(error.context("--allow-gap moves away what cannot be copied"));
                }
            }
        }
        let Some(live) = volume.live()? else { return Ok(before) };
        before.is_published = live.published.is_some();
        before.live = live.published;
        if before.live.is_none() {
            let read = volume.dir().open_dir(live.name.as_bytes()).and_then(|version| {
                let dir = version.open_dir(TREE.as_bytes())?;
                let tree = read_names(&dir, |name| !before.plain.contains(name), progress)?;
                Ok(Published { tree, digest: [0; 32], publish_time: None, dir })
            });
            match read {
                Ok(read) => before.live = Some(read),
                Err(error) => report.warn_on_error(Err(error), "what is live cannot be compared"),
            }
        }
        Ok(before)
    }

    /// What is live, if it says what it should be.
    pub fn published(&self) -> Option<&Published> {
        self.live.as_ref().filter(|_| self.is_published)
    }

    /// What is live, whether or not it says what it should be.
    pub fn live(&self) -> Option<&Published> {
        self.live.as_ref()
    }

    /// The trees that a run would copy before it replaces names by links, unless it `moves` them.
    pub fn copied(&self, moves: bool) -> impl Iterator<Item = &Tree> {
        let trees = [Some(&self.plain_tree), self.live.as_ref().map(|live| &live.tree)];
        let is_copied = !moves && !self.plain.is_empty();
        trees.into_iter().flatten().filter(move |_| is_copied)
    }

    /// Whether a name at the top is no link.
    pub fn is_plain(&self, name: &[u8]) -> bool {
        self.plain.contains(name)
    }

    /// The tree that holds a path, and where, if it is there.
    pub fn find(&self, path: &[u8]) -> Option<(&Tree, usize)> {
        let tree =
            if self.is_plain(top(path)) { &self.plain_tree } else { &self.live.as_ref()?.tree };
        tree.find(path).map(|index| (tree, index))
    }

    /// Every path there is, and what it is.
    pub fn each(&self, mut look: impl FnMut(Vec<u8>, Node<'_>)) {
        let live = self.live.as_ref().map(|live| (&live.tree, false));
        for (tree, is_plain) in live.into_iter().chain([(&self.plain_tree, true)]) {
            for directory in tree.directories() {
                for (name, node) in directory.entries() {
                    let path = join(directory.path(), name);
                    if self.is_plain(top(&path)) == is_plain {
                        look(path, node);
                    }
                }
            }
        }
    }
}

/// The first name of a path.
pub fn top(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').next().unwrap_or_default()
}

fn read_names(dir: &Dir, is_wanted: impl Fn(&[u8]) -> bool, progress: &Progress) -> Result<Tree> {
    let mut tree = scan_names(dir, is_wanted)?;
    read_contents(&mut tree, dir, |_| None, progress)?;
    Ok(tree)
}

/// Notes the hashes of all files of a tree, of which some are `known`.
///
/// # Errors
/// A file cannot be read, or has changed.
pub fn read_contents(
    tree: &mut Tree,
    dir: &Dir,
    known: impl Fn(usize) -> Option<Hash> + Sync,
    progress: &Progress,
) -> Result<()> {
    progress.begin("reading", tree.files());
    let reader = || Reader::new(dir);
    let found = in_parallel(tree.len(), reader, |reader, range| {
        let mut found = Vec::new();
        for index in range {
            let (name, node) = tree.entry(index);
            let Node::File { size, .. } = node else { continue };
            let content = match known(index) {
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
