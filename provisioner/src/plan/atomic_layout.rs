//! Plans a publication in the atomic layout: the steps of [`publish`](crate::atomic::publish) that
//! only read.

use std::io;

use anyhow::Result;
use diagnostics::report::Report;
use published_tree::manifest;
use published_tree::progress::Progress;
use published_tree::reader::OpenTree;
use published_tree::tree::Node;

use super::diff::{Diff, removed_plain_files};
use super::line::sort;
use super::reader_view::{ReaderView, read_contents};
use super::{Inputs, Plan, access, space};
use crate::atomic::links::{self, TopNames};
use crate::atomic::publish::{Decision, Facts, compare_with_live, decide};
use crate::copy::compare::compare_with_nothing;
use crate::copy::durable::is_local;
use crate::source;

/// Plans a publication.
///
/// # Errors
/// Fails if the source must not be published, or the source or the volume cannot be read.
pub fn plan(inputs: &Inputs<'_>, report: &mut Report, progress: &Progress) -> Result<Plan> {
    let &Inputs { source, volume, options, retention, checks } = inputs;
    let (mut tree, checksums) = source::read(source, options)?;
    let (names, stale_links) = (TopNames::of(volume, &tree)?, links::stale(volume, &tree)?);
    let view = ReaderView::of(volume, &names, options.allow_gap, report, progress)?;
    let published = view.published();
    let opened = OpenTree { tree: &tree, dir: source };
    let found = compare_with_live(opened, published, options, progress)?;
    let decision = decide(Facts {
        is_live: published.is_some() && found.is_same(),
        has_wrong_links: !names.missing.is_empty() || !stale_links.is_empty(),
        has_plain_files: !names.plain.is_empty(),
        allow_gap: options.allow_gap,
    });
    let known_hash = |index| match published?.tree.entry(found.copy_of(index)?).1 {
        Node::File { hash, .. } => Some(*hash),
        _ => None,
    };
    read_contents(&mut tree, source, known_hash, progress)?;
    let diff = Diff {
        tree: &tree,
        view: &view,
        volume,
        names: &names,
        stale_links: &stale_links,
        comparison: published.map(|_| &found),
        owner: options.owner,
    };
    let mut lines = diff.lines();
    lines.extend(removed_plain_files(&tree, volume, report)?);
    sort(&mut lines);

    let mut obstacle = None;
    let needs_version = matches!(decision, Decision::NewVersion | Decision::Migrate);
    let is_migration = decision == Decision::Migrate;
    if needs_version {
        checksums.verify_copied(&tree)?;
        let copied = view.trees_to_migrate().filter(|_| is_migration);
        let trees = [&tree].into_iter().chain(copied);
        obstacle = space::check(volume, trees, names.links_to_add(), retention, None)
            .and_then(|()| checks.find_programs())
            .err();
    }
    let is_new = decision != Decision::Unchanged || !lines.is_empty();
    if is_new {
        let owner = options.owner.filter(|_| needs_version);
        obstacle = obstacle.or_else(|| access::check_volume(volume, owner).err());
    }
    if is_migration && !is_local(volume.dir()).unwrap_or(false) {
        report.warn("only a run can find out whether the volume needs --allow-gap".to_owned());
    }
    // The copies of plain files are no publication to compare with.
    let comparison = if is_migration { compare_with_nothing(&tree) } else { found };
    let bytes = comparison.new_bytes(&tree);
    let digest = manifest::write(&tree, io::sink())?;
    let checks = if needs_version { checks.describe() } else { String::new() };
    Ok(Plan { lines, is_new, comparison, bytes, digest, checks, obstacle })
}
