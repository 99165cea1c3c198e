//! Plans a rollback, and the restoration of a pinned version.

use std::sync::Arc;

use anyhow::{Context, Result};
use diagnostics::report::Report;
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::tree::{Hash, Totals, Tree};
use published_tree::verify::verify;
use published_tree::volume::Volume;

use super::diff::Diff;
use super::line::Line;
use super::reader_view::ReaderView;
use super::{access, not_checked_by, print, retry_on_change, space};
use crate::archive::Archives;
use crate::archive::archived::{archived, choose};
use crate::archive::pin::Pin;
use crate::archive::retire::Retention;
use crate::archive::unpack;
use crate::atomic::links::{TopNames, stale};
use crate::check::Checks;
use crate::cli::Rollback;
use crate::copy::progress_line::ProgressLine;
use crate::copy::wrong_owner::owns_all;
use crate::files;
use crate::source::owner::Owner;

/// The changes that would make a version live.
struct Restoration {
    tree: Tree,
    names: TopNames,
    view: ReaderView,
    lines: Vec<Line>,
}

impl Restoration {
    fn plan(
        volume: &Volume,
        tree: Tree,
        owner: Option<Owner>,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<Self> {
        let names = TopNames::of(volume, &tree)?;
        let view = ReaderView::of(volume, &names, false, report, progress)?;
        let stale_links = stale(volume, &tree)?;
        let diff = Diff {
            tree: &tree,
            view: &view,
            volume,
            names: &names,
            stale_links: &stale_links,
            comparison: None,
            owner,
        };
        let lines = diff.lines();
        Ok(Self { tree, names, view, lines })
    }
}

/// The plan of a rollback.
struct Plan {
    lines: Vec<Line>,
    summary: String,
    /// Why the rollback would fail.
    obstacle: Option<anyhow::Error>,
}

/// Prints what a rollback would change.
///
/// # Errors
/// Fails if the rollback would fail, or the volume cannot be read.
pub fn show_rollback(options: &Rollback, report: &mut Report) -> Result<()> {
    let checks = Checks::of(&options.change.check, &options.common.target)?;
    let volume = Volume::open(&options.common.target)?;
    files::refuse_rollback(&volume)?;
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let plan =
        retry_on_change(&volume, || plan_rollback(&volume, options, &checks, report, &progress));
    drop(line);
    let plan = plan?;
    print(&plan.lines, &plan.summary)?;
    plan.obstacle.map_or(Ok(()), Err)
}

fn plan_rollback(
    volume: &Volume,
    options: &Rollback,
    checks: &Checks,
    report: &mut Report,
    progress: &Progress,
) -> Result<Plan> {
    let (retention, owner) = (Retention::of(&options.change), options.change.owner);
    let live = volume.live()?.and_then(|live| live.published).map(|live| live.digest);
    let digest = choose(volume, options.digest.as_deref())?;
    let spelt = hex(&digest);
    if Some(digest) == live {
        let summary = format!("would pin: sha256:{spelt}, which is live");
        let obstacle = access::check_volume(volume, None).err();
        return Ok(Plan { lines: Vec::new(), summary, obstacle });
    }
    let tree = archived_tree(volume, &digest, progress)?;
    let Restoration { tree, names, view, lines } =
        Restoration::plan(volume, tree, owner, report, progress)?;
    let trees = [&tree].into_iter().chain(view.trees_to_migrate());
    let obstacle = space::check(volume, trees, names.links_to_add(), retention, Some(digest))
        .and_then(|()| checks.find_programs())
        .and_then(|()| access::check_volume(volume, owner))
        .err();
    let Totals { files, bytes } = tree.totals();
    let checked = not_checked_by(&checks.describe());
    let summary =
        format!("would roll back: {files} files, {bytes} bytes, sha256:{spelt}, pinned{checked}");
    Ok(Plan { lines, summary, obstacle })
}

/// Prints that a volume is pinned, and what a run would change to restore the pinned version.
pub fn show_pinned(
    volume: &Volume,
    pin: &Pin,
    owner: Option<Owner>,
    report: &mut Report,
) -> Result<()> {
    let progress = Progress::default();
    let digest = hex(&pin.digest);
    let live = volume.live()?.and_then(|live| live.published);
    let live = live.filter(|published| published.digest == pin.digest);
    let is_intact = live.is_some_and(|published| {
        verify(&published, &progress).is_ok() && owns_all(&published.tree, &published.dir, owner)
    });
    let (mut lines, mut more) = (Vec::new(), "");
    if !is_intact {
        match archived_tree(volume, &pin.digest, &progress) {
            Ok(tree) => {
                lines = Restoration::plan(volume, tree, owner, report, &progress)?.lines;
                more = ", but would restore";
            }
            Err(error) => {
                let what = "pinned, but missing or damaged";
                report.warn(format!("version {digest} is {what}: {error:#}"));
            }
        }
    }
    print(&lines, &format!("pinned to sha256:{digest}: would not publish{more}"))
}

/// Reads and verifies the tree of an archived version.
fn archived_tree(volume: &Volume, digest: &Hash, progress: &Progress) -> Result<Tree> {
    let spelt = hex(digest);
    let archived = archived(volume)?;
    let found = archived.iter().find(|archived| archived.digest == *digest);
    let found = found.with_context(|| format!("version {spelt} is not kept"))?;
    if let (None, Some(name)) = (&found.archive, &found.name) {
        let published = volume.published(name)?;
        verify(&published, progress)?;
        return Ok(published.tree);
    }
    let archives =
        Archives::find(volume)?.with_context(|| format!("version {spelt} is no longer kept"))?;
    let verified = archives.open(digest).and_then(|(tree, mut content)| {
        unpack::verify(&tree, &mut content, progress)?;
        Ok(tree)
    });
    verified.with_context(|| format!("the archive of version {spelt} cannot be used"))
}
