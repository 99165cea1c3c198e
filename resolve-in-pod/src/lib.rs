//! `resolve-in-pod`: runs scan-uids and resolver as processes joined by a pipe.
//!
//! [`invocation`] turns the command line into the stages' arguments, [`stages`] runs them,
//! [`verdict`] decides what came of it, [`output`] publishes a result file. This file joins
//! them and tells people.

pub mod cli;
pub mod invocation;
pub mod output;
pub mod stages;
pub mod verdict;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Summary;
use diagnostics::wording::io_failure;

use invocation::Invocation;
use output::ResultFile;
use verdict::Verdict;

/// Kubernetes cuts termination messages here, in bytes.
const MAX_TERMINATION_MESSAGE: usize = 4096;

/// Runs the command and returns its exit code.
///
/// # Errors
/// What goes wrong outside the stages, which report for themselves.
pub fn run(invocation: &Invocation) -> Result<u8> {
    let outcome = run_stages(invocation);
    let summary = match &outcome {
        Ok(verdict) => verdict.summary.clone(),
        Err(error) => Summary {
            exit_code: diagnostics::exit::code_of(error),
            error: Some(format!("{error:#}")),
            ..Summary::default()
        },
    };
    if summary.exit_code != DONE || io::stderr().is_terminal() {
        for warning in &summary.warnings {
            eprintln!("Warning: {warning}");
        }
        if summary.warnings_dropped > 0 {
            eprintln!("Warning: {} more warnings are not shown", summary.warnings_dropped);
        }
    }
    if let Err(error) = write_termination_log(&invocation.termination_log, &summary) {
        eprintln!("resolve-in-pod: {error:#}");
    }
    for line in outcome?.untold {
        eprintln!("resolve-in-pod: {line}");
    }
    Ok(summary.exit_code)
}

fn run_stages(invocation: &Invocation) -> Result<Verdict> {
    let result = invocation.output.as_deref().map(ResultFile::create).transpose()?;
    let writer = result.as_ref().map(ResultFile::writer).transpose()?;
    let verdict = verdict::judge(&stages::run(invocation, writer)?);
    // Where only some directories could not be read (1), the result is whole for the others.
    if let (Some(result), true) = (result, verdict.is_output_complete) {
        debug_assert!(matches!(verdict.summary.exit_code, DONE | FAILED));
        result.publish()?;
    }
    Ok(verdict)
}

/// Writes the summary where the kubelet takes termination messages from. Outside of a pod there
/// is no such file, and none is made.
fn write_termination_log(file: &Path, summary: &Summary) -> Result<()> {
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    let written = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.and_then(|mut log| {
            log.write_all(summary.to_json_within(MAX_TERMINATION_MESSAGE).as_bytes())
        }),
    };
    written.map_err(|error| io_failure("write the summary to", file, &error))
}
