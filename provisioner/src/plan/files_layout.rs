//! Plans a publication of plain files: the steps of [`publish`](crate::files::publish) that only read.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::take;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::manifest;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{Node, Tree, join};
use published_tree::volume::{LinkState, Volume};
use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;

use super::line::{Change, DAMAGED, Line, differences, owner_difference, sort, type_name};
use super::reader_view::{ReaderView, read_contents, top_name};
use super::{Inputs, Plan, access, space};
use crate::atomic::links::TopNames;
use crate::files::claims::Claims;
use crate::files::publication::{self, Publication};
use crate::files::{FIXED_MODES_WARNING, entry, stale};

/// Plans a publication.
///
/// # Errors
/// Fails if the source must not be published, or the source or the volume cannot be read.
pub fn plan(inputs: &Inputs<'_>, report: &mut Report, progress: &Progress) -> Result<Plan> {
    let &Inputs { source, volume, options, retention, checks } = inputs;
    let (claims, live) = (Claims::of(volume, report)?, volume.live_name()?);
    let inputs = publication::Inputs {
        source,
        volume,
        claims: &claims,
        atomic_version: live.as_deref(),
        fixed_modes: claims.fixed_modes(),
        stage_all: !checks.is_empty(),
    };
    let (mut publication, checksums) = Publication::prepare(inputs, options, progress)?;
    let is_new = publication.unchanged_digest().is_none();
    let mut tree = take(&mut publication.tree);
    read_contents(&mut tree, source, |index| publication.known_hash(index), progress)?;
    publication.tree = tree;
    let diff = Diff::new(&publication, report, progress)?;
    let lines = diff.lines()?;
    let Publication { tree, changes, staged, .. } = &publication;
    let mut obstacle = changes.obstacles.check(volume).err();
    if is_new && obstacle.is_none() {
        checksums.verify_copied(tree)?;
        // Without changes, no owner is set.
        let owner = publication.owner.filter(|_| !changes.is_empty());
        obstacle = space::check_staged(volume, publication.copied(), retention)
            .and_then(|()| checks.find_programs())
            .and_then(|()| access::check_volume(volume, owner))
            .and_then(|()| access::check_directories(volume, &diff.changed_directories(&lines)))
            .err();
        if inputs.fixed_modes.is_some() {
            report.warn(FIXED_MODES_WARNING.to_owned());
        }
    }
    let bytes = staged.totals().bytes;
    let digest = manifest::write(tree, io::sink())?;
    let checks = if is_new { checks.describe() } else { String::new() };
    let comparison = publication.comparison;
    Ok(Plan { lines, is_new, comparison, bytes, digest, checks, obstacle })
}

/// A publication, compared with what readers of the volume see now.
struct Diff<'d> {
    publication: &'d Publication<'d>,
    /// What readers see behind the links of the atomic layout.
    view: ReaderView,
    /// The names at the top that are such links.
    linked: HashSet<Vec<u8>>,
}

/// Opens directories as readers see them.
struct Readers<'r> {
    plain: Reader<'r>,
    live: Option<Reader<'r>>,
}

/// An entry of the tree.
#[derive(Clone, Copy)]
struct Entry<'e> {
    directory: &'e [u8],
    name: &'e [u8],
    path: &'e [u8],
    node: Node<'e>,
}

impl<'d> Diff<'d> {
    fn new(
        publication: &'d Publication<'d>,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<Self> {
        let volume = publication.inputs.volume;
        let view = ReaderView::of(volume, &TopNames::default(), true, report, progress)?;
        let mut linked = HashSet::new();
        let live = view.live().map(|live| &live.tree);
        for tree in [Some(&publication.tree), live].into_iter().flatten() {
            for (name, _) in tree.directories().take(1).flat_map(|root| root.entries()) {
                if volume.link_state(name)? == LinkState::Ours {
                    linked.insert(name.to_vec());
                }
            }
        }
        Ok(Self { publication, view, linked })
    }

    fn is_linked(&self, path: &[u8]) -> bool {
        self.linked.contains(top_name(path))
    }

    /// The lines of all paths that change, in byte order.
    fn lines(&self) -> Result<Vec<Line>> {
        let publication::Inputs { volume, claims, atomic_version, .. } = self.publication.inputs;
        let tree = &self.publication.tree;
        let found = in_parallel(
            tree.len(),
            || self.readers(volume),
            |readers, range| {
                let lines = range.map(|index| self.line(index, readers));
                lines.filter_map(Result::transpose).collect::<Result<Vec<_>>>()
            },
        )?;
        let mut lines = found.into_iter().flatten().collect::<Vec<_>>();
        let is_kept = |path: &[u8]| tree.find(path).is_some();
        let stale = stale::paths(volume, claims, is_kept)?.into_iter();
        lines.extend(stale.map(|(path, is_directory)| Line::removed(path, is_directory)));
        if atomic_version.is_some() {
            self.view.for_each(|path, node| {
                if self.is_linked(&path) && !is_kept(&path) {
                    lines.push(Line::removed(path, matches!(node, Node::Directory { .. })));
                }
            });
            // A link that leads to an entry has that entry's line already, which `sort` keeps.
            let stale_links = volume.stale_links(is_kept)?.into_iter();
            lines.extend(stale_links.map(|name| Line::removed(name.to_bytes().to_vec(), false)));
        }
        sort(&mut lines);
        Ok(lines)
    }

    fn readers<'r>(&'r self, volume: &'r Volume) -> Readers<'r> {
        let live = self.view.live().map(|live| Reader::unbuffered(&live.dir));
        Readers { plain: Reader::unbuffered(volume.dir()), live }
    }

    /// The line of an entry of the tree; `None` if it does not change.
    fn line(&self, index: usize, readers: &mut Readers<'_>) -> Result<Option<Line>> {
        let Publication { tree, changes, .. } = self.publication;
        let directory = tree.directory_of(index).path();
        let (name, node) = tree.entry(index);
        let path = join(directory, name);
        if !changes.is_staged[index] && !changes.wrong_attributes.contains(&path) {
            return Ok(None);
        }
        let entry = Entry { directory, name, path: &path, node };
        let change = match self.differences(entry, readers)? {
            Some(found) if found.is_empty() => return Ok(None),
            Some(found) => Change::Changed(found),
            None => Change::Added,
        };
        Ok(Some(Line { path, is_directory: matches!(node, Node::Directory { .. }), change }))
    }

    /// How an entry differs from what readers see; `None` if they see no such entry.
    fn differences(
        &self,
        entry: Entry<'_>,
        readers: &mut Readers<'_>,
    ) -> Result<Option<Vec<String>>> {
        let Entry { directory, name, path, node } = entry;
        let publication::Inputs { volume, claims, .. } = self.publication.inputs;
        let error = |errno| volume.dir().error("look at", path, errno);
        let is_linked = self.is_linked(path);
        let (published, reader) = if is_linked {
            (self.view.live().map(|live| &live.tree), readers.live.as_mut())
        } else {
            (claims.published_tree(), Some(&mut readers.plain))
        };
        let was_published = published.is_some_and(|tree| has_entry(tree, path, node));
        let fd = match reader.map(|reader| reader.open_fd(directory)).transpose() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            opened => opened.map_err(error)?,
        };
        let found = fd.map(|fd| differences_from(fd, name, node)).transpose().map_err(error)?;
        let (Some(fd), Some(mut found)) = (fd, found.flatten()) else {
            return Ok(was_published.then(|| vec![DAMAGED.to_owned()]));
        };
        if !found.is_empty() && was_published {
            found = vec![DAMAGED.to_owned()];
        }
        found.extend(owner_difference(self.publication.owner, fd, name));
        if is_linked && directory.is_empty() {
            found.push(format!("becomes a plain {}", type_name(node)));
        } else if found.is_empty() && !is_linked {
            let is_claimed = claims.has_path(path);
            found.push(if is_claimed { "is put there again" } else { "is taken over" }.to_owned());
        }
        Ok(Some(found))
    }

    /// The directories on the volume in which entries are added, replaced or removed.
    fn changed_directories<'l>(&self, lines: &'l [Line]) -> BTreeSet<&'l [u8]> {
        let wrong_attributes = &self.publication.changes.wrong_attributes;
        parents(lines.iter().map(|line| &line.path[..]).filter(|path| {
            // Mode and owner of a directory change in place.
            !self.is_linked(path) && !wrong_attributes.contains(*path)
        }))
    }
}

/// The parent directories of paths, without the root.
fn parents<'p>(paths: impl Iterator<Item = &'p [u8]>) -> BTreeSet<&'p [u8]> {
    let parent = |path: &'p [u8]| path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at]);
    paths.filter_map(parent).collect()
}

/// Whether a tree has exactly `node` at `path`.
fn has_entry(tree: &Tree, path: &[u8], node: Node<'_>) -> bool {
    tree.find(path).is_some_and(|index| tree.entry(index).1 == node)
}

/// How `node` differs from the entry `name` of an open directory; `None` if there is no such entry.
fn differences_from(
    fd: impl AsFd,
    name: &[u8],
    node: Node<'_>,
) -> Result<Option<Vec<String>>, Errno> {
    let Some(found) = entry::metadata(&fd, name)? else { return Ok(None) };
    let other_content = [0; 32];
    Ok(Some(match (found.kind, node) {
        (FileType::Directory, _) => differences(node, Node::Directory { mode: found.mode }),
        (FileType::Symlink, _) => {
            let target = readlinkat(&fd, OsStr::from_bytes(name), Vec::new())?;
            differences(node, Node::Link { target: target.to_bytes() })
        }
        (FileType::RegularFile, Node::File { size, .. }) if size == found.size => {
            match entry::content_hash(&fd, name) {
                Ok(hash) => differences(node, Node::File { mode: found.mode, size, hash: &hash }),
                // A run replaces the file without reading it.
                Err(_) => vec!["cannot be read".to_owned()],
            }
        }
        (FileType::RegularFile, _) => {
            let (mode, size) = (found.mode, found.size);
            differences(node, Node::File { mode, size, hash: &other_content })
        }
        _ => vec![format!("something else -> {}", type_name(node))],
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn parents_are_listed_once_and_without_the_root() {
        let paths: [&[u8]; 4] = [b"a", b"d/b", b"d/c", b"d/e/f"];
        assert_eq!(parents(paths.into_iter()), BTreeSet::from([&b"d"[..], b"d/e"]));
    }

    #[test]
    fn an_entry_is_compared_with_what_is_on_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "one").unwrap();
        fs::set_permissions(dir.path().join("file"), Permissions::from_mode(0o600)).unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let opened = File::open(dir.path()).unwrap();
        let hash = entry::content_hash(&opened, b"file").unwrap();
        let found = |name: &[u8], node| differences_from(&opened, name, node).unwrap();
        let file = |mode, size, hash| Node::File { mode, size, hash };
        assert_eq!(found(b"none", file(0o600, 3, &hash)), None);
        assert_eq!(found(b"file", file(0o600, 3, &hash)), Some(Vec::new()));
        let content_and_mode = ["content", "mode 0600 -> 0644"].map(str::to_owned).to_vec();
        assert_eq!(found(b"file", file(0o644, 3, &[1; 32])), Some(content_and_mode));
        assert_eq!(found(b"file", file(0o600, 4, &hash)), Some(vec!["content".to_owned()]));
        let retargeted = Some(vec!["link to file -> other".to_owned()]);
        assert_eq!(found(b"link", Node::Link { target: b"other" }), retargeted);
        let retyped = Some(vec!["link -> directory".to_owned()]);
        assert_eq!(found(b"link", Node::Directory { mode: 0o755 }), retyped);
    }
}
