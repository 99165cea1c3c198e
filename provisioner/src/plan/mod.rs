//! Prints what a run would change (`--dry-run`), without writing to the volume, which may be mounted
//! read-only. The plan has a line for each path that readers would see change, and a summary.
//!
//! 1. Scan and read the source, and read the volume as readers see it ([`reader_view`]).
//! 2. Compare both, path by path ([`diff`] and [`files_layout`]).
//! 3. Check space and permissions ([`space`] and [`access`]).
//! 4. Start again if another run has changed the volume meanwhile: a dry run takes no lock.
//! 5. Print the plan, and fail if the run would.

mod access;
mod atomic_layout;
mod diff;
mod files_layout;
mod line;
mod reader_view;
mod rollback;
mod space;

use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use diagnostics::report::Report;
use diagnostics::wording::{io_error, one_line};
use published_tree::dir::Dir;
use published_tree::manifest::hex;
use published_tree::progress::Progress;
use published_tree::tree::Hash;
use published_tree::volume::Volume;

use crate::archive::pin::effective_pin;
use crate::archive::retire::Retention;
use crate::check::Checks;
use crate::cli::{Cli, Layout};
use crate::copy::compare::Comparison;
use crate::copy::progress_line::ProgressLine;
use crate::files::claims;
use crate::source::PublishOptions;
use crate::then::LiveId;
use line::Line;

pub use rollback::show_rollback;

/// How often a plan starts again because another run has changed the volume.
const MAX_ATTEMPTS: usize = 5;

/// What a publication is planned from.
#[derive(Clone, Copy)]
struct Inputs<'i> {
    source: &'i Dir,
    volume: &'i Volume,
    options: &'i PublishOptions,
    retention: Retention,
    /// What would have to accept the tree.
    checks: &'i Checks,
}

/// The plan of a publication.
struct Plan {
    lines: Vec<Line>,
    /// Whether the run would change the volume.
    is_new: bool,
    /// How the source differs from the published tree, for the counts of the run.
    comparison: Comparison,
    /// Bytes that the run would copy from the source.
    bytes: u64,
    digest: Hash,
    /// What the run would check the tree with; empty if it would not.
    checks: String,
    /// Why the run would fail.
    obstacle: Option<anyhow::Error>,
}

impl Plan {
    /// The last line.
    fn summary(&self, took: Duration) -> String {
        format!(
            "{}: {}, {} bytes, sha256:{}, {:.2} s{}",
            if self.is_new { "would publish" } else { "unchanged" },
            self.comparison.counts().map(|(name, count)| format!("{count} {name}")).join(", "),
            self.bytes,
            hex(&self.digest),
            took.as_secs_f64(),
            not_checked_by(&self.checks)
        )
    }
}

/// The end of a summary: a dry run starts no check.
fn not_checked_by(checks: &str) -> String {
    if checks.is_empty() { String::new() } else { format!("; not yet checked by {checks}") }
}

/// Prints what a publication would change.
///
/// # Errors
/// Fails if the publication would fail, or the source or the volume cannot be read.
pub fn show_publication(
    cli: &Cli,
    options: &PublishOptions,
    start: Instant,
    report: &mut Report,
) -> Result<()> {
    let checks = Checks::of(&cli.change.check, &cli.common.target)?;
    let (volume, retention) = (Volume::open(&cli.common.target)?, Retention::of(&cli.change));
    if !cli.unpin
        && let Some(pin) = effective_pin(false, &volume, report)
    {
        return rollback::show_pinned(&volume, &pin, cli.change.owner, report);
    }
    let source = Dir::open(&cli.source)?;
    let progress = Arc::new(Progress::default());
    let line = ProgressLine::start(report.progress(), &progress);
    let inputs = Inputs { source: &source, volume: &volume, options, retention, checks: &checks };
    let plan = retry_on_change(&volume, || match cli.layout {
        Layout::Atomic => atomic_layout::plan(&inputs, report, &progress),
        Layout::Files => files_layout::plan(&inputs, report, &progress),
    });
    drop(line);
    let plan = plan?;
    plan.comparison.counts().iter().for_each(|(name, count)| report.count(name, *count));
    report.count("bytes", plan.bytes);
    print(&plan.lines, &plan.summary(start.elapsed()))?;
    plan.obstacle.map_or(Ok(()), Err)
}

/// Calls `read` again as long as the published state of the volume changes meanwhile.
fn retry_on_change<T>(volume: &Volume, mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let state = || Ok::<_, anyhow::Error>((LiveId::of(volume)?, claims::record_names(volume)?));
    for _ in 0..MAX_ATTEMPTS {
        let before = state()?;
        let found = read();
        if state()? == before {
            return found;
        }
    }
    let path = volume.dir().display_path(b"");
    let shown = one_line(path.as_os_str().as_encoded_bytes());
    bail!("other runs have changed `{shown}` during each of {MAX_ATTEMPTS} attempts to read it")
}

/// Prints the lines and the summary of a plan. A closed stdout is no error.
fn print(lines: &[Line], summary: &str) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    written = written.and_then(|()| writeln!(out, "{summary}")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow!("failed to write the plan: {}", io_error(&error)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_summary_has_the_form_of_a_run() {
        let mut comparison = Comparison::default();
        (comparison.added, comparison.removed) = (1, 3);
        let (lines, digest) = (Vec::new(), [0xab; 32]);
        let (checks, obstacle) = ("`a`".to_owned(), None);
        let mut plan = Plan { lines, is_new: true, comparison, bytes: 7, digest, checks, obstacle };
        let rest = format!("7 bytes, sha256:{}, 1.50 s", "ab".repeat(32));
        let counts = "1 added, 0 changed, 3 removed, 0 unchanged, 0 repaired";
        let took = Duration::from_millis(1500);
        let checked = format!("would publish: {counts}, {rest}; not yet checked by `a`");
        assert_eq!(plan.summary(took), checked);
        plan.checks.clear();
        assert_eq!(plan.summary(took), format!("would publish: {counts}, {rest}"));
        plan.is_new = false;
        assert_eq!(plan.summary(took), format!("unchanged: {counts}, {rest}"));
    }

    #[test]
    fn a_plan_starts_again_as_long_as_the_volume_changes() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path()).unwrap();
        let calls = Cell::new(0);
        let read = |changes: usize| {
            calls.set(0);
            retry_on_change(&volume, || {
                calls.set(calls.get() + 1);
                if calls.get() <= changes {
                    let data = dir.path().join("..data");
                    let _ = fs::remove_file(&data);
                    let version = format!("..version-{changes}-{}/tree", calls.get());
                    symlink(version, &data).unwrap();
                }
                Ok(calls.get())
            })
        };
        assert_eq!(read(0).unwrap(), 1);
        assert_eq!(read(2).unwrap(), 3);
        assert!(read(MAX_ATTEMPTS).unwrap_err().to_string().contains("during each of 5 attempts"));
        assert_eq!(calls.get(), MAX_ATTEMPTS);
    }
}
