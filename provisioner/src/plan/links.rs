//! What a publication behind links would come to.

use std::io;

use anyhow::Result;
use diagnostics::report::Report;

use super::before::{Before, read_contents};
use super::{Plan, access, lines, room};
use crate::compare::compare;
use crate::durable::is_local;
use crate::names::{self, Names};
use crate::place::Place;
use crate::publish::{Allow, take_up};
use crate::strangers::strangers;
use crate::superseded::Terms;
use crate::tree::{Node, Tree, manifest};
use crate::volume::{Published, Volume};

/// What a publication behind links would come to.
///
/// # Errors
/// It would fail, or that cannot be found out.
pub fn plan(
    source: &Place,
    volume: &Volume,
    allow: Allow,
    terms: Terms,
    report: &mut Report,
) -> Result<Plan> {
    let (mut tree, sums) = take_up(source, allow)?;
    let (names, stale) = (Names::of(volume, &tree)?, names::stale(volume, &tree)?);
    let before = Before::of(volume, &names, allow.gap, report)?;
    let published = before.published();
    let nothing = Tree::default();
    let found = match published {
        Some(Published { tree: live, place, seal, .. }) => {
            let mut found = compare((&tree, source), (live, place), *seal)?;
            strangers((&tree, &mut found), place, true);
            found
        }
        None => compare((&tree, source), (&nothing, source), None)?,
    };
    let is_same = found.is_same() && published.is_some() && (names.plain.is_empty() || allow.gap);
    read_contents(&mut tree, source, |index| {
        match published?.tree.entry(found.copy_of(index)?).1 {
            Node::File { hash, .. } => Some(*hash),
            _ => None,
        }
    })?;
    let mut lines = lines::all(&tree, &before, volume, &names, &stale, published.map(|_| &found));
    lines.extend(lines::left_files(&tree, volume, report)?);
    lines::sort(&mut lines);
    let is_new = !is_same || !lines.is_empty();
    let mut obstacle = None;
    if !is_same {
        sums.check_copied(&tree)?;
        let trees = [&tree].into_iter().chain(before.copied(allow.gap));
        obstacle = room::check(volume, trees, names.links(), terms, None).err();
    }
    if is_new {
        let owner = allow.owner.filter(|_| !is_same);
        obstacle = obstacle.or_else(|| access::check(volume, owner).err());
    }
    let is_copied = !names.plain.is_empty() && !allow.gap;
    if is_copied && !is_local(volume.place()).unwrap_or(false) {
        report.warn("only a run can find out whether the volume needs --allow-gap".to_owned());
    }
    // What a volume held that is taken over is no publication to compare with.
    let comparison =
        if is_copied { compare((&tree, source), (&nothing, source), None)? } else { found };
    let bytes = comparison.new_bytes(&tree);
    let digest = manifest::write(&tree, io::sink())?;
    Ok(Plan { lines, is_new, comparison, bytes, digest, obstacle })
}
