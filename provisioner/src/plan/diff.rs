//! Compares a tree that would become live with what readers of the volume see now, path by path.

use std::collections::HashSet;
use std::ffi::CStr;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::reader::Reader;
use published_tree::tree::{DirectoryRef, Node, Tree, join};
use published_tree::verify::directory_matches;
use published_tree::volume::{Published, Volume};

use super::line::{Change, DAMAGED, Line, differences, owner_difference, sort};
use super::reader_view::{ReaderView, top_name};
use crate::atomic::links::TopNames;
use crate::copy::compare::Comparison;
use crate::files::claims::{self, Claims};
use crate::files::stale;
use crate::source::owner::Owner;

/// A tree and the volume that it is compared with.
pub struct Diff<'d> {
    /// The tree. Its files have their hashes.
    pub tree: &'d Tree,
    /// What readers see now.
    pub view: &'d ReaderView,
    /// The volume.
    pub volume: &'d Volume,
    /// The names at the top of the tree without a link on the volume.
    pub names: &'d TopNames,
    /// The links on the volume that would be removed.
    pub stale_links: &'d [Box<CStr>],
    /// How the tree differs from the published one, if that is known.
    pub comparison: Option<&'d Comparison>,
    /// The owner that was asked for.
    pub owner: Option<Owner>,
}

impl Diff<'_> {
    /// The lines of all paths that differ, in byte order.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.added_and_changed();
        self.view.for_each(|path, node| {
            if self.tree.find(&path).is_none() {
                lines.push(Line::removed(path, matches!(node, Node::Directory { .. })));
            }
        });
        for name in self.stale_links.iter().map(|name| name.to_bytes()) {
            if self.view.find(name).is_none() {
                lines.push(Line::removed(name.to_vec(), false));
            }
        }
        lines.extend(self.root());
        let differs_otherwise = self.comparison.is_some_and(|found| found.differs_otherwise);
        if lines.is_empty() && differs_otherwise {
            lines.extend(self.view.published().into_iter().flat_map(damaged_directories));
        }
        sort(&mut lines);
        lines
    }

    fn added_and_changed(&self) -> Vec<Line> {
        let missing: HashSet<&[u8]> = self.names.missing.iter().map(|name| &name[..]).collect();
        let mut readers = Readers::new(self.view, self.volume);
        let mut lines = Vec::new();
        for directory in self.tree.directories() {
            let is_root = directory.path().is_empty();
            for index in directory.range() {
                let (name, node) = self.tree.entry(index);
                let path = join(directory.path(), name);
                let change = match self.view.find(&path) {
                    None => Change::Added,
                    Some((old_tree, old)) => {
                        let mut found = differences(node, old_tree.entry(old).1);
                        if is_root && self.view.is_plain(name) {
                            found.push("becomes a link".to_owned());
                        } else if is_root && missing.contains(name) {
                            found.push("its link is missing".to_owned());
                        }
                        if found.is_empty() && self.is_damaged(index, node) {
                            found.push(DAMAGED.to_owned());
                        }
                        found.extend(readers.owner_difference(self.owner, directory, name));
                        Change::Changed(found)
                    }
                };
                if change != Change::Changed(Vec::new()) {
                    let is_directory = matches!(node, Node::Directory { .. });
                    lines.push(Line { path, is_directory, change });
                }
            }
        }
        lines
    }

    /// Whether the live copy of a file is not what was published.
    fn is_damaged(&self, index: usize, node: Node<'_>) -> bool {
        matches!(node, Node::File { .. })
            && self.comparison.is_some_and(|found| found.copy_of(index).is_none())
    }

    /// The line of the root, if its mode or owner changes.
    fn root(&self) -> Option<Line> {
        let mode = |tree: &Tree| tree.directories().next().map(DirectoryRef::mode);
        let published = self.view.published()?;
        let (new, old) = (mode(self.tree)?, mode(&published.tree)?);
        let mut found = differences(Node::Directory { mode: new }, Node::Directory { mode: old });
        found.extend(owner_difference(self.owner, &published.dir, b""));
        let is_changed = !found.is_empty();
        let change = Change::Changed(found);
        is_changed.then(|| Line { path: Vec::new(), is_directory: true, change })
    }
}

/// The lines of plain files that would be removed when a tree becomes live in the atomic layout.
///
/// # Errors
/// Fails if the volume cannot be read.
pub fn removed_plain_files(tree: &Tree, volume: &Volume, report: &mut Report) -> Result<Vec<Line>> {
    // A run removes no file if the directory of claims cannot be read.
    if !matches!(claims::find_dir(volume), Ok(Some(_))) {
        return Ok(Vec::new());
    }
    let claims = Claims::of(volume, report)?;
    let stale = stale::paths(volume, &claims, |path| tree.find(top_name(path)).is_some())?;
    Ok(stale.into_iter().map(|(path, is_directory)| Line::removed(path, is_directory)).collect())
}

/// Opens directories as readers see them, to look up owners.
struct Readers<'r> {
    view: &'r ReaderView,
    plain: Reader<'r>,
    live: Option<Reader<'r>>,
}

impl<'r> Readers<'r> {
    fn new(view: &'r ReaderView, volume: &'r Volume) -> Self {
        let live = view.live().map(|live| Reader::unbuffered(&live.dir));
        Self { view, plain: Reader::unbuffered(volume.dir()), live }
    }

    fn owner_difference(
        &mut self,
        owner: Option<Owner>,
        directory: DirectoryRef<'_>,
        name: &[u8],
    ) -> Option<String> {
        owner?;
        let top = if directory.path().is_empty() { name } else { top_name(directory.path()) };
        let reader = if self.view.is_plain(top) { &mut self.plain } else { self.live.as_mut()? };
        owner_difference(owner, reader.open_fd(directory.path()).ok()?, name)
    }
}

/// The lines of directories that have other entries than were published.
fn damaged_directories(published: &Published) -> impl Iterator<Item = Line> {
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
