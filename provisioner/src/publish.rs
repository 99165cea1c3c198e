//! A publication, from the source to the volume.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use diagnostics::exit::misconfigured;
use rustix::fs::{Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, compare};
use crate::durable::Durability;
use crate::migrate;
use crate::modes::Modes;
use crate::owner::{Owner, strangers};
use crate::parallel::both;
use crate::place::Place;
use crate::progress;
use crate::space;
use crate::stage::{Origin, stage};
use crate::state;
use crate::sums::Sums;
use crate::tree::manifest::{self, hex};
use crate::tree::scan::{check_copy, scan};
use crate::tree::{Hash, Node, Tree};
use crate::volume::{ABOUT, Link, Live, MANIFEST, TREE, Volume};
use crate::withdraw::{Attempt, withdraw};

/// What a person allows, and what not.
#[derive(Clone, Copy, Default)]
pub struct Allow {
    /// A tree without anything in it.
    pub empty: bool,
    /// Only files that stand in `SHA256SUMS`.
    pub only_listed: bool,
    /// Names that are missing for a moment when plain files become links.
    pub gap: bool,
    /// Other modes than those of the source.
    pub modes: Modes,
    /// Whom all of it is to belong to, if not to whoever runs this.
    pub owner: Option<Owner>,
}

/// What became of the tree.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the volume was written to.
    pub is_published: bool,
    /// How the source differed from what was live.
    pub comparison: Comparison,
    /// Bytes that were copied from the source.
    pub bytes: u64,
    /// The digest of what is live now.
    pub digest: Hash,
    /// Its files and bytes.
    pub totals: (u64, u64),
    /// The version that it has superseded.
    pub before: Option<String>,
}

/// Says of a version since when it is live.
#[derive(Serialize, Deserialize)]
struct Version {
    digest: String,
    /// In seconds since 1970.
    published: u64,
    files: u64,
}

/// What a tree meets on a volume.
pub struct Ground {
    names: Names,
    live: Option<Live>,
}

/// How a new version is made: where publications and rollbacks differ.
pub struct Steps<'s> {
    /// Fills the new version.
    pub fill: Fill<'s>,
    /// Comes before the new version goes live, when all of it is on the disk; knows its digest.
    pub ready: &'s mut dyn FnMut(&Hash) -> Result<()>,
}

/// Fills the empty directory of a version, and returns how many bytes of it are new.
pub type Fill<'f> = &'f mut dyn FnMut(&mut Tree, &Place, &Durability) -> Result<u64>;

/// Gives something up to make room on a volume; whether there was anything.
pub type MakeRoom<'r> = &'r mut dyn FnMut() -> Result<bool>;

/// Is told of a publication right before anything is changed by it: the digest, and how the source
/// differs from what is live, with the number of bytes to be copied.
pub type Announce<'a> = &'a mut dyn FnMut(&Hash, &Comparison, u64);

/// Publishes what is at `source`, unless just that is live. Before it returns, all of it is on the
/// disk; if it fails, what was live is live.
///
/// # Errors
/// The source must not be published, or cannot be read; the volume cannot be written.
pub fn publish(
    source: &Place,
    volume: &Volume,
    allow: Allow,
    make_room: MakeRoom<'_>,
    announce: Announce<'_>,
) -> Result<Outcome> {
    let (taken, live) = both(|| take_up(source, allow), || volume.live());
    let ((mut tree, sums), mut live) = (taken?, live?);
    let mut names = Names::of(volume, &tree)?;
    let mut comparison = compare_with(&tree, source, live.as_ref())?;
    let published = live.as_ref().and_then(|live| live.published.as_ref());
    if comparison.is_same()
        && (names.plain.is_empty() || allow.gap)
        && let Some(published) = published
    {
        if !(names.missing.is_empty()
            && names.plain.is_empty()
            && stale_links(volume, &tree)?.is_empty())
        {
            announce(&published.digest, &comparison, 0);
        }
        migrate::with_gap(volume, &names.plain, &tag())?;
        let is_published = repair_links(volume, &tree, &names.missing)? || !names.plain.is_empty();
        settle_links(volume, live.as_ref().map_or("", |live| &live.name))?;
        // The run that made it live may have died before it was on the disk.
        volume.sync()?;
        let (digest, totals) = (published.digest, tree.totals());
        return Ok(Outcome { is_published, comparison, bytes: 0, digest, totals, before: None });
    }
    let known = |index: usize| match published?.tree.entry(comparison.copy_of(index)?).1 {
        Node::File { hash, .. } => Some(*hash),
        _ => None,
    };
    sums.check(&tree, source, known)?;
    check_space(volume, &[&tree], names.links(), make_room)?;
    if !names.plain.is_empty() && !allow.gap {
        let mut fits = |copies: &[&Tree]| {
            check_space(volume, &[copies, &[&tree]].concat(), names.links(), &mut *make_room)
        };
        migrate::without_gap(volume, &names.plain, live.as_ref(), &mut fits, &tag())?;
        names.plain.clear();
        live = volume.live()?;
        comparison = compare_with(&tree, source, None)?;
    }
    let ground = Ground { names, live };
    let published = ground.live.as_ref().and_then(|live| live.published.as_ref());
    let origin = Origin {
        source,
        live: published.map(|published| (&published.place, &published.tree, &comparison)),
    };
    let mut fill = |tree: &mut Tree, to: &Place, disk: &Durability| {
        let bytes = stage(tree, &origin, to, disk)?;
        sums.check_copied(tree)?;
        Ok(bytes)
    };
    let new = comparison.new_bytes(&tree);
    let mut ready = |digest: &Hash| {
        announce(digest, &comparison, new);
        Ok(())
    };
    let mut steps = Steps { fill: &mut fill, ready: &mut ready };
    let (bytes, digest) = go_live(volume, &ground, &mut tree, &mut steps)?;
    let (totals, before) = (tree.totals(), ground.live.as_ref().map(|live| live.name.clone()));
    Ok(Outcome { is_published: true, comparison, bytes, digest, totals, before })
}

/// Reads a source, as it is to be published, and judges whether it may be.
///
/// # Errors
/// It must not, or cannot be read.
pub fn take_up(source: &Place, allow: Allow) -> Result<(Tree, Sums)> {
    let mut tree = scan(source)?;
    allow.modes.apply(&mut tree);
    tree.set_owner(allow.owner);
    if tree.is_empty() && !allow.empty {
        let shown = source.shown(b"");
        return Err(misconfigured(format_args!(
            "`{}` is empty: --allow-empty publishes it all the same",
            shown.display()
        )));
    }
    let sums = Sums::read(&tree, source, allow.only_listed)?;
    Ok((tree, sums))
}

impl Ground {
    /// Makes a volume fit for a tree that was published before: with room for it, and with links
    /// where plain files are in its way.
    ///
    /// # Errors
    /// That cannot be done.
    pub fn prepare(volume: &Volume, tree: &Tree, make_room: MakeRoom<'_>) -> Result<Self> {
        let mut names = Names::of(volume, tree)?;
        check_space(volume, &[tree], names.links(), make_room)?;
        let mut live = volume.live()?;
        if !names.plain.is_empty() {
            let mut fits = |copies: &[&Tree]| {
                check_space(volume, &[copies, &[tree]].concat(), names.links(), &mut *make_room)
            };
            migrate::without_gap(volume, &names.plain, live.as_ref(), &mut fits, &tag())?;
            names.plain.clear();
            live = volume.live()?;
        }
        Ok(Self { names, live })
    }
}

/// Makes the links of a tree that is live; whether there was anything to do. `ready` comes right
/// before that.
///
/// # Errors
/// One cannot be made or removed, or something else is in its place.
pub fn relink(volume: &Volume, tree: &Tree, ready: impl FnOnce()) -> Result<bool> {
    let names = Names::of(volume, tree)?;
    if let Some(name) = names.plain.first() {
        bail!("`{}` is not a link to what is live", volume.place().shown(name).display());
    }
    if !names.missing.is_empty() || !stale_links(volume, tree)?.is_empty() {
        ready();
    }
    repair_links(volume, tree, &names.missing)
}

/// Makes sure that there is room for trees, and links to them, as far as something can be given up
/// for them.
///
/// # Errors
/// There is none.
pub fn check_space(
    volume: &Volume,
    trees: &[&Tree],
    links: usize,
    make_room: MakeRoom<'_>,
) -> Result<()> {
    while let Err(error) = space::check(volume.place(), trees, links) {
        if !make_room()? {
            return Err(error);
        }
    }
    Ok(())
}

/// Makes a new version, and makes it live: how many bytes of it are new, and its digest. Before it
/// returns, all of it is on the disk; if it fails, what was live is live.
///
/// # Errors
/// One of the steps fails, or the volume cannot be written.
pub fn go_live(
    volume: &Volume,
    ground: &Ground,
    tree: &mut Tree,
    steps: &mut Steps<'_>,
) -> Result<(u64, Hash)> {
    let tag = tag();
    let name = Volume::version_name(&tag);
    let done = stage_version(tree, steps.fill, volume, &name).and_then(|done| {
        (steps.ready)(&done.1)?;
        ground.names.missing.iter().try_for_each(|name| volume.add_link(name))?;
        volume.switch(&name, &tag)?;
        migrate::with_gap(volume, &ground.names.plain, &tag)?;
        let has_repaired = repair_links(volume, tree, &Names::of(volume, tree)?.missing)?;
        if settle_links(volume, &name)? || has_repaired {
            volume.sync()?;
        }
        Ok(done)
    });
    done.map_err(|error| {
        let attempt = Attempt {
            name: &name,
            tag: &tag,
            trees: &[tree],
            before: ground.live.as_ref().map(|live| &live.name[..]),
            added: &ground.names.missing,
            replaced: &ground.names.plain,
        };
        withdraw(volume, &attempt, error)
    })
}

/// The names at the top of the tree that have no link on the volume yet.
#[derive(Default)]
pub struct Names {
    /// Those of nothing.
    pub missing: Vec<Vec<u8>>,
    /// Those of something else.
    pub plain: Vec<Vec<u8>>,
}

impl Names {
    /// How many links are to be made.
    pub fn links(&self) -> usize {
        self.missing.len() + self.plain.len()
    }

    /// Looks at the volume for those of a tree.
    ///
    /// # Errors
    /// One cannot be looked at.
    pub fn of(volume: &Volume, tree: &Tree) -> Result<Self> {
        let mut names = Self::default();
        for (name, _) in tree.directories().take(1).flat_map(|root| root.entries()) {
            match volume.link(name)? {
                Link::Ours => {}
                Link::Missing => names.missing.push(name.to_vec()),
                Link::Foreign => names.plain.push(name.to_vec()),
            }
        }
        Ok(names)
    }
}

fn compare_with(tree: &Tree, source: &Place, live: Option<&Live>) -> Result<Comparison> {
    if let Some(published) = live.and_then(|live| live.published.as_ref()) {
        let live = (&published.tree, &published.place);
        let mut comparison = compare((tree, source), live, published.seal)?;
        strangers((tree, &mut comparison), &published.place, true);
        return Ok(comparison);
    }
    let nothing = Tree::default();
    compare((tree, source), (&nothing, source), None)
}

/// Makes the links at the top what they should be; whether there was anything to do.
fn repair_links(volume: &Volume, tree: &Tree, missing: &[Vec<u8>]) -> Result<bool> {
    missing.iter().try_for_each(|name| volume.add_link(name))?;
    let names = top_names(tree);
    let has_removed = volume.remove_stale_links(|name| names.contains(name))?;
    Ok(has_removed || !missing.is_empty())
}

/// Our links on a volume that the tree has no name for.
///
/// # Errors
/// The volume cannot be read.
pub fn stale_links(volume: &Volume, tree: &Tree) -> Result<Vec<Box<CStr>>> {
    let names = top_names(tree);
    volume.stale_links(|name| names.contains(name))
}

fn top_names(tree: &Tree) -> HashSet<&[u8]> {
    let top = tree.directories().take(1).flat_map(|root| root.entries());
    top.map(|(name, _)| name).collect()
}

/// Without a lock, another writer may have made its own tree live since that of `settled` was: what
/// was removed here may be missing there, and is put back. Whether that was so.
///
/// # Errors
/// That cannot be done.
pub fn settle_links(volume: &Volume, settled: &str) -> Result<bool> {
    let mut live = settled.to_owned();
    while volume.live_name()?.is_some_and(|now| now != live) {
        let Some(Live { name, published: Some(published) }) = volume.live()? else { break };
        repair_links(volume, &published.tree, &Names::of(volume, &published.tree)?.missing)?;
        live = name;
    }
    Ok(live != settled)
}

/// Makes a version that nobody looks at yet, and brings it to the disk.
fn stage_version(
    tree: &mut Tree,
    fill: Fill<'_>,
    volume: &Volume,
    name: &str,
) -> Result<(u64, Hash)> {
    let disk = Durability::watch(volume.place())?;
    let version = volume.create(name)?;
    let place = version.below(TREE.as_bytes())?;
    let bytes = fill(tree, &place, &disk)?;
    check_copy(&place, tree)?;
    let digest = write_file(&version, MANIFEST, &disk, |out| manifest::write(tree, out))?;
    let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let about = Version { digest: hex(&digest), published, files: tree.totals().0 };
    write_file(&version, ABOUT, &disk, |out| writeln!(out, "{}", serde_json::json!(about)))?;
    let failure = |errno| version.failure("sync", b"", errno);
    progress::begin("syncing", 0);
    disk.written(&version).map_err(failure)?;
    disk.sync().map_err(failure)?;
    volume.uncover(name)?;
    Ok((bytes, digest))
}

/// When a version was published.
///
/// # Errors
/// It does not say so.
pub fn since(volume: &Volume, name: &str) -> Result<SystemTime> {
    let place = volume.place().below(name.as_bytes())?;
    let file = state::open(&place, ABOUT)?.context("it is not there")?;
    let about: Version = serde_json::from_reader(file)?;
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(about.published));
    since.context("it is too late")
}

fn write_file<T>(
    version: &Place,
    name: &str,
    disk: &Durability,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> Result<T> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let failure = |operation: &str, errno| version.failure(operation, name.as_bytes(), errno);
    let fd = openat(version, name, flags, mode).map_err(|errno| failure("create", errno))?;
    let mut out = BufWriter::new(File::from(fd));
    let write_error =
        |error: &io::Error| failure("write", Errno::from_io_error(error).unwrap_or(Errno::IO));
    let done = write(&mut out).map_err(|error| write_error(&error))?;
    let file = out.into_inner().map_err(|error| write_error(error.error()))?;
    fchmod(&file, mode).map_err(|errno| failure("set the mode of", errno))?;
    disk.written(&file).map_err(|errno| failure("sync", errno))?;
    Ok(done)
}

/// A part of names that nobody else has.
pub fn tag() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
