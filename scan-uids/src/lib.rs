//! `scan-uids`: prints which UID owns each directory. [`mod@walk`] finds them; this file turns
//! arguments into walks and findings into JSON, warnings and counts.

pub mod cli;
pub mod walk;

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED, misconfigured};
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::{ObjectWriter, OutputClosed, push_string, unbuffered_stdout};

use cli::{Cli, ScanOptions};
use walk::{Below, Exclude, Found, walk};

/// Longest time that a finding waits in the output buffer while more are found.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Runs the command and returns its exit code.
///
/// # Errors
/// A bad option, or stdout or the summary cannot be written.
pub fn run(cli: &Cli) -> Result<u8> {
    let mut report = Report::new(cli.summary.is_none());
    let outcome = match list(cli, &mut report) {
        Err(error) if error.is::<OutputClosed>() => Ok(DONE),
        Err(error) => Err(error),
        Ok(()) if report.partial_failures() > 0 => Ok(FAILED),
        Ok(()) => Ok(DONE),
    };
    report.finish(outcome, cli.summary.as_deref())
}

fn below(options: &ScanOptions) -> Result<Option<Below>> {
    let exclude = Exclude::new(&options.exclude)
        .map_err(|error| misconfigured(format_args!("bad value for --exclude: {error}")))?;
    if options.recursive {
        let ScanOptions { max_depth, one_file_system, .. } = *options;
        return Ok(Some(Below { max_depth, one_file_system, exclude }));
    }
    let needs_recursive = [
        ("--max-depth", options.max_depth.is_some()),
        ("--one-file-system", options.one_file_system),
        ("--exclude", !options.exclude.is_empty()),
    ];
    match needs_recursive.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(misconfigured(format_args!("{flag} needs --recursive"))),
        None => Ok(None),
    }
}

fn list(cli: &Cli, report: &mut Report) -> Result<()> {
    let below = below(&cli.options)?;
    let mut listing = Listing::new(unbuffered_stdout()?);
    let mut skipped = 0;
    for dir in &cli.dirs {
        walk(dir, below.as_ref(), &mut |found| {
            match found {
                Found::Directory(path, uid) => listing.add(path, uid)?,
                Found::NotADirectory => {
                    skipped += 1;
                    let name = one_line(dir.as_os_str().as_bytes());
                    report.warn(format!("{name} is not a directory, skipping"));
                }
                Found::Failure(error) => report.partial_failure("scan-uids", &error),
            }
            Ok(())
        })?;
    }
    report.count("directories", listing.count);
    report.count("skipped", skipped);
    report.count("unreadable", report.partial_failures());
    listing.object.finish()
}

/// The JSON object on its way out.
struct Listing<W> {
    object: ObjectWriter<W>,
    count: u64,
    flushed: Instant,
}

impl<W: Write> Listing<W> {
    fn new(out: W) -> Self {
        Self { object: ObjectWriter::new(out), count: 0, flushed: Instant::now() }
    }

    fn add(&mut self, path: &Path, uid: u32) -> Result<()> {
        let member = self.object.member()?;
        push_string(member, path.as_os_str().as_bytes());
        member.extend_from_slice(format!(": {uid}").as_bytes());
        self.count += 1;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.object.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}
