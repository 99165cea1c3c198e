//! `resolve-in-pod`: runs scan-uids and resolver as processes joined by a pipe.
//!
//! 1. `invocation` splits the command line into the arguments of the two stages.
//! 2. `stages` runs them and waits for both.
//! 3. `outcome` combines how they ended into one exit code and one summary.
//! 4. `output` replaces the result file, if there is one.
//! 5. This file prints warnings and failures, and writes the summary to the termination log.

pub mod cli;
mod invocation;
mod outcome;
mod output;
mod stages;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use diagnostics::exit::{DONE, code_of, conclude};
use diagnostics::report::Summary;
use diagnostics::stderr::print_line;
use diagnostics::termination::{self, TERMINATION_LOG};

use cli::TERMINATION_LOG_VARIABLE;
use invocation::Invocation;
use outcome::Outcome;
use output::ResultFile;

/// The whole program: parses the command line, runs it, and prints an error to stderr.
pub fn main() -> ExitCode {
    conclude("resolve-in-pod", run())
}

/// Runs the command and returns its exit code.
///
/// # Errors
/// Fails if the command line is wrong, a stage cannot be started, or the result file cannot be
/// written. A failure of a stage is no error here: it gives the exit code.
fn run() -> Result<u8> {
    let (outcome, log) = match Invocation::from_command_line() {
        Ok(None) => return Ok(DONE),
        Ok(Some(invocation)) => (run_stages(&invocation), invocation.termination_log),
        Err(error) => (Err(error), default_termination_log()),
    };
    let summary = match &outcome {
        Ok(outcome) => outcome.summary.clone(),
        Err(error) => Summary {
            exit_code: code_of(error),
            error: Some(format!("{error:#}")),
            ..Summary::default()
        },
    };
    // After a success, stderr stays empty unless a person sees it.
    let prints = summary.exit_code != DONE || io::stderr().is_terminal();
    if prints {
        print_warnings(&summary);
    }
    match termination::write(&log, &summary) {
        Err(error) if prints => print_line(&format!("resolve-in-pod: {error:#}")),
        _ => {}
    }
    for line in outcome?.unreported {
        print_line(&format!("resolve-in-pod: {line}"));
    }
    Ok(summary.exit_code)
}

fn run_stages(invocation: &Invocation) -> Result<Outcome> {
    scan_uids::check(&invocation.scan_options)?;
    let result = invocation.output.as_deref().map(ResultFile::create).transpose()?;
    let writer = result.as_ref().map(ResultFile::writer).transpose()?;
    let outcome = outcome::combine(&stages::run(invocation, writer)?);
    // If some directories could not be read, the result is complete for the others.
    if let (Some(result), true) = (result, outcome.is_output_complete) {
        result.publish()?;
    }
    Ok(outcome)
}

fn print_warnings(summary: &Summary) {
    for warning in &summary.warnings {
        print_line(&format!("Warning: {warning}"));
    }
    if summary.warnings_dropped > 0 {
        print_line(&format!("Warning: {} more warnings are not shown", summary.warnings_dropped));
    }
}

/// The termination log of a run whose command line is wrong.
fn default_termination_log() -> PathBuf {
    let file = std::env::var_os(TERMINATION_LOG_VARIABLE).filter(|file| !file.is_empty());
    file.map_or(PathBuf::from(TERMINATION_LOG), PathBuf::from)
}
