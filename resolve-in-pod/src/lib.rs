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

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use diagnostics::exit::{DONE, code_of, conclude};
use diagnostics::report::Summary;
use diagnostics::stderr::tell;
use diagnostics::termination::{self, TERMINATION_LOG};

use cli::TERMINATION_LOG_VARIABLE;
use invocation::Invocation;
use output::ResultFile;
use verdict::Verdict;

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    conclude("resolve-in-pod", run())
}

/// Runs the command and returns its exit code.
///
/// # Errors
/// A mistake on the command line, or what goes wrong outside the stages, which report for
/// themselves.
fn run() -> Result<u8> {
    let (outcome, log) = match Invocation::from_command_line() {
        Ok(None) => return Ok(DONE),
        Ok(Some(invocation)) => (run_stages(&invocation), invocation.termination_log),
        Err(error) => (Err(error), default_termination_log()),
    };
    let summary = match &outcome {
        Ok(verdict) => verdict.summary.clone(),
        Err(error) => Summary {
            exit_code: code_of(error),
            error: Some(format!("{error:#}")),
            ..Summary::default()
        },
    };
    let is_watched = summary.exit_code != DONE || io::stderr().is_terminal();
    if is_watched {
        show_warnings(&summary);
    }
    match termination::write(&log, &summary) {
        Err(error) if is_watched => tell(&format!("resolve-in-pod: {error:#}")),
        _ => {}
    }
    for line in outcome?.untold {
        tell(&format!("resolve-in-pod: {line}"));
    }
    Ok(summary.exit_code)
}

fn run_stages(invocation: &Invocation) -> Result<Verdict> {
    scan_uids::check(&invocation.scan_options)?;
    let result = invocation.output.as_deref().map(ResultFile::create).transpose()?;
    let writer = result.as_ref().map(ResultFile::writer).transpose()?;
    let verdict = verdict::judge(&stages::run(invocation, writer)?);
    // Where some directories could not be read, the result is whole for the others.
    if let (Some(result), true) = (result, verdict.is_output_complete) {
        result.publish()?;
    }
    Ok(verdict)
}

fn show_warnings(summary: &Summary) {
    for warning in &summary.warnings {
        tell(&format!("Warning: {warning}"));
    }
    if summary.warnings_dropped > 0 {
        tell(&format!("Warning: {} more warnings are not shown", summary.warnings_dropped));
    }
}

/// Where the summary goes when the command line does not say, since it cannot be understood.
fn default_termination_log() -> PathBuf {
    let named = std::env::var_os(TERMINATION_LOG_VARIABLE).filter(|file| !file.is_empty());
    named.map_or(PathBuf::from(TERMINATION_LOG), PathBuf::from)
}
