//! What a publication behind links would come to.

use std::io;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::dir::Dir;
use published_tree::manifest;
use published_tree::progress::Progress;
use published_tree::reader::OpenTree;
use published_tree::tree::Node;
use published_tree::volume::Volume;

use super::before::{Before, read_contents};
use super::{Plan, access, lines, room};
use crate::archive::retire::Retention;
use crate::atomic::links::{self, TopNames};
use crate::atomic::publish::compare_with_live;
use crate::copy::compare::compare_with_nothing;
use crate::copy::durable::is_local;
use crate::source::{self, PublishOptions};

/// What a publication behind links would come to.
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
    let (mut tree, checksums) = source::read(source, options)?;
    let (names, stale) = (TopNames::of(volume, &tree)?, links::stale(volume, &tree)?);
    let before = Before::of(volume, &names, options.allow_gap, report, progress)?;
    let published = before.published();
    let opened = OpenTree { tree: &tree, dir: source };
    let found = compare_with_live(opened, published, options, progress)?;
    let is_same =
        found.is_same() && published.is_some() && (names.plain.is_empty() || options.allow_gap);
    read_contents(
        &mut tree,
        source,
        |index| match published?.tree.entry(found.copy_of(index)?).1 {
            Node::File { hash, .. } => Some(*hash),
            _ => None,
        },
        progress,
    )?;
    let mut lines = lines::all(
        &tree,
        &before,
        volume,
        &names,
        &stale,
        published.map(|_| &found),
        options.owner,
    );
    lines.extend(lines::left_files(&tree, volume, report)?);
    lines::sort(&mut lines);
    let is_new = !is_same || !lines.is_empty();
    let mut obstacle = None;
    if !is_same {
        checksums.verify_copied(&tree)?;
        let trees = [&tree].into_iter().chain(before.copied(options.allow_gap));
        obstacle = room::check(volume, trees, names.links_to_add(), retention, None).err();
    }
    if is_new {
        let owner = options.owner.filter(|_| !is_same);
        obstacle = obstacle.or_else(|| access::check(volume, owner).err());
    }
    let is_copied = !names.plain.is_empty() && !options.allow_gap;
    if is_copied && !is_local(volume.dir()).unwrap_or(false) {
        report.warn("only a run can find out whether the volume needs --allow-gap".to_owned());
    }
    // What a volume held that is taken over is no publication to compare with.
    let comparison = if is_copied { compare_with_nothing(&tree) } else { found };
    let bytes = comparison.new_bytes(&tree);
    let digest = manifest::write(&tree, io::sink())?;
    Ok(Plan { lines, is_new, comparison, bytes, digest, obstacle })
}
