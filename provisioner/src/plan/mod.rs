//! What a run would do, found out without writing anything to the volume.
//!
//! It takes no lock, so that it is in nobody's way: if another version goes live meanwhile, it
//! begins again. The volume may be mounted read-only.

mod access;
mod before;
mod lines;
mod links;
mod plain;
mod room;

use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use diagnostics::report::Report;
use diagnostics::wording::{io_error, one_line};
use published_tree::dir::Dir;
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::tree::{Hash, Totals, Tree};
use published_tree::verify::verify;
use published_tree::volume::Volume;

use crate::archive::Archives;
use crate::archive::archived::{archived, choose};
use crate::archive::pin::{Pin, effective_pin};
use crate::archive::retire::Retention;
use crate::archive::unpack;
use crate::atomic::links::{TopNames, stale};
use crate::cli::{Cli, Layout, Rollback};
use crate::copy::compare::Comparison;
use crate::copy::wrong_owner::owns_all;
use crate::files;
use crate::progress_line::ProgressLine;
use crate::source::PublishOptions;
use crate::source::owner::Owner;
use crate::then::LiveId;
use before::Before;
use lines::Line;

/// How often it begins again because another version has gone live.
const TRIES: usize = 5;

/// What a publication would come to.
struct Plan {
    lines: Vec<Line>,
    /// Whether the volume would be written to.
    is_new: bool,
    /// What the run would say of it.
    comparison: Comparison,
    bytes: u64,
    digest: Hash,
    /// Why it would fail.
    obstacle: Option<anyhow::Error>,
}

/// Shows what a publication would change.
///
/// # Errors
/// It would fail, or what it would do cannot be found out.
pub fn show_publication(
    cli: &Cli,
    options: &PublishOptions,
    start: Instant,
    report: &mut Report,
) -> Result<()> {
    let (volume, retention) = (Volume::open(&cli.at.target)?, Retention::of(&cli.change));
    if !cli.unpin
        && let Some(pin) = effective_pin(false, &volume, report)
    {
        return show_pinned(&volume, &pin, cli.change.owner, report);
    }
    let source = Dir::open(&cli.source)?;
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let plan = settled(&volume, || match cli.layout {
        Layout::Atomic => links::plan(&source, &volume, options, retention, report, &progress),
        Layout::Files => plain::plan(&source, &volume, options, retention, report, &progress),
    });
    drop(line);
    let plan = plan?;
    let counts = plan.comparison.counts();
    counts.iter().for_each(|(name, count)| report.count(name, *count));
    report.count("bytes", plan.bytes);
    let line = format!(
        "{}: {}, {} bytes, sha256:{}, {:.2} s",
        if plan.is_new { "would publish" } else { "unchanged" },
        counts.map(|(name, count)| format!("{count} {name}")).join(", "),
        plan.bytes,
        hex(&plan.digest),
        start.elapsed().as_secs_f64()
    );
    print(&plan.lines, &line)?;
    plan.obstacle.map_or(Ok(()), Err)
}

/// Shows what a rollback would change.
///
/// # Errors
/// As [`show_publication`].
pub fn show_rollback(options: &Rollback, report: &mut Report) -> Result<()> {
    let (volume, retention) = (Volume::open(&options.at.target)?, Retention::of(&options.change));
    files::refuse_rollback(&volume)?;
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let found = settled(&volume, || {
        let live = volume.live()?.and_then(|live| live.published).map(|live| live.digest);
        let digest = choose(&volume, options.digest.as_deref())?;
        let spelt = hex(&digest);
        if Some(digest) == live {
            let obstacle = access::check(&volume, None).err();
            return Ok((Vec::new(), format!("would pin: sha256:{spelt}, which is live"), obstacle));
        }
        let tree = archived_tree(&volume, &digest, &progress)?;
        let names = TopNames::of(&volume, &tree)?;
        let before = Before::of(&volume, &names, false, report, &progress)?;
        let lines = lines::all(
            &tree,
            &before,
            &volume,
            &names,
            &stale(&volume, &tree)?,
            None,
            options.change.owner,
        );
        let trees = [&tree].into_iter().chain(before.copied(false));
        let room = room::check(&volume, trees, names.links_to_add(), retention, Some(digest));
        let Totals { files, bytes } = tree.totals();
        let line = format!("would roll back: {files} files, {bytes} bytes, sha256:{spelt}, pinned");
        Ok((lines, line, room.and_then(|()| access::check(&volume, options.change.owner)).err()))
    });
    drop(line);
    let (lines, line, obstacle) = found?;
    print(&lines, &line)?;
    obstacle.map_or(Ok(()), Err)
}

/// Shows that a volume is pinned, and what a run would do for that.
fn show_pinned(
    volume: &Volume,
    pin: &Pin,
    owner: Option<Owner>,
    report: &mut Report,
) -> Result<()> {
    let progress = Progress::default();
    let digest = hex(&pin.digest);
    let live = volume.live()?.and_then(|live| live.published);
    let live = live.filter(|published| published.digest == pin.digest);
    let is_held = live.is_some_and(|published| {
        verify(&published, &progress).is_ok() && owns_all(&published.tree, &published.dir, owner)
    });
    let (mut lines, mut more) = (Vec::new(), "");
    if !is_held {
        match archived_tree(volume, &pin.digest, &progress) {
            Ok(tree) => {
                let names = TopNames::of(volume, &tree)?;
                let before = Before::of(volume, &names, false, report, &progress)?;
                let stale = stale(volume, &tree)?;
                lines = lines::all(&tree, &before, volume, &names, &stale, None, owner);
                more = ", but would restore";
            }
            Err(error) => {
                let what = "pinned, but not live and sound";
                report.warn(format!("version {digest} is {what}: {error:#}"));
            }
        }
    }
    print(&lines, &format!("pinned to sha256:{digest}: would not publish{more}"))
}

/// Finds something out about a volume, while the same version stays live.
fn settled<T>(volume: &Volume, mut find: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        let standing =
            || Ok::<_, anyhow::Error>((LiveId::of(volume)?, files::claims::all(volume)?));
        let before = standing()?;
        let found = find();
        if standing()? == before {
            return found;
        }
    }
    let shown = volume.dir().display_path(b"");
    bail!("`{}` is changed by others all the time", one_line(shown.as_os_str().as_encoded_bytes()))
}

/// The verified tree of an archived version.
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
    let archives = Archives::find(volume)?.with_context(|| format!("version {spelt} is gone"))?;
    let checked = archives.open(digest).and_then(|(tree, mut content)| {
        unpack::verify(&tree, &mut content, progress)?;
        Ok(tree)
    });
    checked.with_context(|| format!("the archive of version {spelt} cannot be used"))
}

/// Writes the plan to stdout.
fn print(lines: &[Line], last: &str) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    written = written.and_then(|()| writeln!(out, "{last}")).and_then(|()| out.flush());
    match written {
        // The reader has enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow!("failed to write the plan: {}", io_error(&error)))
        }
        _ => Ok(()),
    }
}
