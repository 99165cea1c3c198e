//! A publication, from the source to the volume.

use anyhow::Result;
use diagnostics::exit::misconfigured;

use crate::compare::{Comparison, compare};
use crate::durable::Durability;
use crate::migrate;
use crate::modes::Modes;
use crate::names::{self, Names};
use crate::owner::Owner;
use crate::parallel::both;
use crate::place::{Place, tag};
use crate::space;
use crate::stage::{Origin, stage};
use crate::strangers::strangers;
use crate::sums::Sums;
use crate::tree::scan::scan;
use crate::tree::{Hash, Node, Tree};
use crate::version::{self, Fill};
use crate::volume::{Live, Volume};
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
            && names::stale(volume, &tree)?.is_empty())
        {
            announce(&published.digest, &comparison, 0);
        }
        migrate::with_gap(volume, &names.plain, &tag())?;
        let is_published = names::repair(volume, &tree, &names.missing)? || !names.plain.is_empty();
        names::settle(volume, live.as_ref().map_or("", |live| &live.name))?;
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
    let done = version::make(tree, steps.fill, volume, &name).and_then(|done| {
        (steps.ready)(&done.1)?;
        ground.names.missing.iter().try_for_each(|name| volume.add_link(name))?;
        volume.switch(&name, &tag)?;
        migrate::with_gap(volume, &ground.names.plain, &tag)?;
        let has_repaired = names::repair(volume, tree, &Names::of(volume, tree)?.missing)?;
        if names::settle(volume, &name)? || has_repaired {
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
