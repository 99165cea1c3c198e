//! What a publication of plain files would come to.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::take;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::dir::Dir;
use published_tree::manifest;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{Node, Tree, join};
use published_tree::volume::{Link, Volume};
use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;

use super::before::{Before, read_contents, top};
use super::lines::{Change, DAMAGED, Line, differences, kind, removed, sort, wrong_owner};
use super::{Plan, access, room};
use crate::archive::retire::Retention;
use crate::atomic::links::TopNames;
use crate::files::claims::{Claims, content};
use crate::files::publication::{Ground, Publication};
use crate::files::{OWN_MODES, look, stale};
use crate::source::PublishOptions;

/// What a publication of plain files would come to.
///
/// # Errors
/// It would fail, or that cannot be found out.
pub fn plan(
    source: &Dir,
    volume: &Volume,
    options: &PublishOptions,
    retention: Retention,
    report: &mut Report,
    progress: &Progress,
) -> Result<Plan> {
    let (claims, linked) = (Claims::of(volume, report)?, volume.live_name()?);
    let ground = Ground { source, volume, claims: &claims, linked: linked.as_deref() };
    let fixed_modes = claims.fixed_modes();
    let (mut publication, checksums) =
        Publication::prepare(ground, options, fixed_modes, progress)?;
    let is_new = publication.live().is_none();
    let mut tree = take(&mut publication.tree);
    read_contents(&mut tree, source, |index| publication.known(index).copied(), progress)?;
    publication.tree = tree;
    let view = View::of(&publication, report, progress)?;
    let lines = view.lines()?;
    let Publication { tree, plan, part, .. } = &publication;
    let mut obstacle = plan.check(volume).err();
    if is_new && obstacle.is_none() {
        checksums.verify_copied(tree)?;
        // Only what is written, or changed, is given to anybody.
        let owner = publication.owner.filter(|_| !plan.is_empty());
        obstacle = room::check_plain(volume, part, retention)
            .and_then(|()| access::check(volume, owner))
            .and_then(|()| access::check_directories(volume, &view.written(&lines)))
            .err();
        if fixed_modes.is_some() {
            report.warn(OWN_MODES.to_owned());
        }
    }
    let bytes = part.totals().bytes;
    let digest = manifest::write(tree, io::sink())?;
    Ok(Plan { lines, is_new, comparison: publication.comparison, bytes, digest, obstacle })
}

/// What readers see of a volume, and what is to become of it.
struct View<'v> {
    publication: &'v Publication<'v>,
    /// What is live behind links.
    before: Before,
    /// The names at the top that are links to it.
    linked: HashSet<Vec<u8>>,
}

/// How readers come to what they see: on the volume itself, and behind links.
type Ways<'w> = (Reader<'w>, Option<Reader<'w>>);

impl<'v> View<'v> {
    fn of(
        publication: &'v Publication<'v>,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<Self> {
        let volume = publication.ground.volume;
        let before = Before::of(volume, &TopNames::default(), true, report, progress)?;
        let mut linked = HashSet::new();
        let live = before.live().map(|live| &live.tree);
        for root in [Some(&publication.tree), live].into_iter().flatten() {
            for (name, _) in root.directories().take(1).flat_map(|root| root.entries()) {
                if volume.link(name)? == Link::Ours {
                    linked.insert(name.to_vec());
                }
            }
        }
        Ok(Self { publication, before, linked })
    }

    fn is_linked(&self, path: &[u8]) -> bool {
        self.linked.contains(top(path))
    }

    /// All paths that change, in the order of their bytes.
    fn lines(&self) -> Result<Vec<Line>> {
        let Ground { volume, claims, linked, .. } = self.publication.ground;
        let tree = &self.publication.tree;
        let ways = || {
            let live = self.before.live().map(|live| Reader::unbuffered(&live.dir));
            (Reader::unbuffered(volume.dir()), live)
        };
        let found = in_parallel(tree.len(), ways, |ways, range| {
            let lines = range.map(|index| self.line(index, ways));
            lines.filter_map(Result::transpose).collect::<Result<Vec<_>>>()
        })?;
        let mut lines = found.into_iter().flatten().collect::<Vec<_>>();
        let is_kept = |path: &[u8]| tree.find(path).is_some();
        lines.extend(removed(stale::all(volume, claims, is_kept)?));
        if linked.is_some() {
            self.before.each(|path, node| {
                if self.is_linked(&path) && !is_kept(&path) {
                    let is_directory = matches!(node, Node::Directory { .. });
                    lines.extend(removed([(path, is_directory)]));
                }
            });
            // After those that lead somewhere, which are kept of two.
            let stale = volume.stale_links(is_kept)?;
            lines.extend(removed(stale.iter().map(|name| (name.to_bytes().to_vec(), false))));
        }
        sort(&mut lines);
        Ok(lines)
    }

    /// What becomes of an entry of the tree, if anything does.
    fn line(&self, index: usize, ways: &mut Ways<'_>) -> Result<Option<Line>> {
        let Publication { tree, plan, .. } = self.publication;
        let directory = tree.directory_of(index).path();
        let (name, node) = tree.entry(index);
        let path = join(directory, name);
        if !plan.is_wanted[index] && !plan.unlike.contains(&path) {
            return Ok(None);
        }
        let is_directory = matches!(node, Node::Directory { .. });
        let why = self.why(&path, (directory, name), node, ways)?;
        let change = match why {
            Some(why) if why.is_empty() => return Ok(None),
            Some(why) => Change::Changed(why),
            None => Change::Added,
        };
        Ok(Some(Line { path, is_directory, change }))
    }

    /// In what respects an entry will be another one, in words; `None` if nothing was there.
    fn why(
        &self,
        path: &[u8],
        (directory, name): (&[u8], &[u8]),
        node: Node<'_>,
        (plain, live): &mut Ways<'_>,
    ) -> Result<Option<Vec<String>>> {
        let Ground { volume, claims, .. } = self.publication.ground;
        let failure = |errno| volume.dir().error("look at", path, errno);
        let is_linked = self.is_linked(path);
        let record = match is_linked {
            true => self.before.live().map(|live| &live.tree),
            false => claims.published.as_ref().map(|record| &record.tree),
        };
        let is_recorded = record.is_some_and(|record| holds(record, path, node));
        let damaged = || Some(vec![DAMAGED.to_owned()]);
        let way = if is_linked { live.as_mut() } else { Some(plain) };
        let fd = match way.map(|way| way.open_fd(directory)).transpose() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            opened => opened.map_err(failure)?,
        };
        let found = fd.map(|fd| respects(node, fd, name)).transpose().map_err(failure)?.flatten();
        let (Some(fd), Some(mut why)) = (fd, found) else {
            return Ok(damaged().filter(|_| is_recorded));
        };
        if !why.is_empty() && is_recorded {
            why = vec![DAMAGED.to_owned()];
        }
        why.extend(wrong_owner(self.publication.owner, fd, name));
        if is_linked && directory.is_empty() {
            why.push(format!("becomes a plain {}", kind(node)));
        } else if why.is_empty() && !is_linked {
            let is_ours = claims.have(path);
            why.push(if is_ours { "is put there again" } else { "is taken over" }.to_owned());
        }
        Ok(Some(why))
    }

    /// The directories on the volume that something is put into or removed from.
    fn written<'l>(&self, lines: &'l [Line]) -> BTreeSet<&'l [u8]> {
        // What only gets another mode or owner stays where it is.
        let is_moved =
            |path: &&[u8]| !self.is_linked(path) && !self.publication.plan.unlike.contains(*path);
        let parent =
            |path: &'l [u8]| path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at]);
        lines.iter().map(|line| &line.path[..]).filter(is_moved).filter_map(parent).collect()
    }
}

/// Whether a tree has just that at a path.
fn holds(tree: &Tree, path: &[u8], node: Node<'_>) -> bool {
    tree.find(path).is_some_and(|index| tree.entry(index).1 == node)
}

/// In what respects something that stands in an open directory will be another one; `None` if
/// nothing does.
fn respects(node: Node<'_>, fd: impl AsFd, name: &[u8]) -> Result<Option<Vec<String>>, Errno> {
    let Some(found) = look(&fd, name)? else { return Ok(None) };
    let nothing = [0; 32];
    Ok(Some(match (found.kind, node) {
        (FileType::Directory, _) => differences(node, Node::Directory { mode: found.mode }),
        (FileType::Symlink, _) => {
            let target = readlinkat(&fd, OsStr::from_bytes(name), Vec::new())?;
            differences(node, Node::Link { target: target.to_bytes() })
        }
        (FileType::RegularFile, Node::File { size, .. }) if size == found.size => {
            match content(&fd, name) {
                Ok(hash) => differences(node, Node::File { mode: found.mode, size, hash: &hash }),
                // It is replaced all the same.
                Err(_) => vec!["cannot be read".to_owned()],
            }
        }
        (FileType::RegularFile, _) => {
            differences(node, Node::File { mode: found.mode, size: found.size, hash: &nothing })
        }
        _ => vec![format!("something else -> {}", kind(node))],
    }))
}
