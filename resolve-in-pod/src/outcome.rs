//! Combines how the two stages ended into one exit code and one summary.

use std::os::unix::process::ExitStatusExt;

use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Summary;
use nix::sys::signal::Signal;

use crate::stages::StageExit;

/// The outcome of a run of both stages.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code, the counts and warnings of both stages, and their errors with their names.
    pub summary: Summary,
    /// Failures that no stage has printed to stderr: a killed process cannot.
    pub unreported: Vec<String>,
    /// Whether the resolver wrote the whole result, with the closing brace.
    pub is_output_complete: bool,
}

/// Combines the exits of the stages. The stage that ended first comes first.
///
/// 1. The first failure gives the exit code: the other stage often fails as a consequence.
/// 2. But if the first failure has code 1, a later failure gives the code. The scan ends with 1
///    if it could not read something, and then a failed lookup is the more important one.
/// 3. A stage that was stopped because the other one had ended has not failed.
pub fn combine(exits: &[StageExit]) -> Outcome {
    let mut outcome = Outcome {
        summary: Summary::default(),
        unreported: Vec::new(),
        is_output_complete: exits.iter().any(|exit| exit.stage == "resolver" && code(exit) == DONE),
    };
    let mut errors = Vec::new();
    for exit in exits {
        if let Some(stage) = &exit.summary {
            outcome.summary.counts.extend(stage.counts.clone());
            // The resolver's warnings come first, because they concern the whole result. The scan
            // may warn of each of many directories.
            let warnings = &mut outcome.summary.warnings;
            let position = if exit.stage == "resolver" { 0 } else { warnings.len() };
            warnings.splice(position..position, stage.warnings.iter().cloned());
            outcome.summary.warnings_dropped += stage.warnings_dropped;
        }
        let code = code(exit);
        if code == DONE {
            continue;
        }
        if matches!(outcome.summary.exit_code, DONE | FAILED) {
            outcome.summary.exit_code = code;
        }
        let failure = describe(exit);
        if !failure.is_reported {
            outcome.unreported.push(failure.message.clone());
        }
        errors.push(failure.message);
    }
    outcome.summary.error = (!errors.is_empty()).then(|| errors.join("; "));
    outcome
}

/// The exit code of a stage: 128 + N after signal N, [`DONE`] if it was stopped on purpose.
fn code(exit: &StageExit) -> u8 {
    match (exit.status.code(), exit.status.signal()) {
        (_, Some(signal)) if exit.was_stopped && signal == Signal::SIGTERM as i32 => DONE,
        (Some(code), _) => u8::try_from(code).unwrap_or(FAILED),
        (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(FAILED),
    }
}

/// Why a stage failed.
struct Failure {
    message: String,
    /// Whether the stage has printed the error to stderr.
    is_reported: bool,
}

fn describe(exit: &StageExit) -> Failure {
    let stage = exit.stage;
    if let Some(signal) = exit.status.signal() {
        let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
        let message = format!("{stage} was killed by signal {signal} ({name})");
        return Failure { message, is_reported: false };
    }
    match exit.summary.as_ref().and_then(|summary| summary.error.as_ref()) {
        Some(error) => Failure { message: format!("{stage}: {error}"), is_reported: true },
        None => {
            let message = format!("{stage} failed with exit code {}", code(exit));
            Failure { message, is_reported: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn ended(stage: &'static str, wait_status: i32, error: Option<&str>) -> StageExit {
        let error = error.map(str::to_owned);
        let summary =
            Summary { error, warnings: vec![format!("by {stage}")], ..Summary::default() };
        let status = ExitStatus::from_raw(wait_status);
        StageExit { stage, status, summary: Some(summary), was_stopped: false }
    }

    fn exit(code: i32) -> i32 {
        code << 8
    }

    #[test]
    fn success_of_both_is_success() {
        let outcome = combine(&[ended("scan-uids", 0, None), ended("resolver", 0, None)]);
        assert_eq!((outcome.summary.exit_code, outcome.summary.error), (0, None));
        assert_eq!(outcome.summary.warnings, ["by resolver", "by scan-uids"]);
        assert!(outcome.is_output_complete && outcome.unreported.is_empty());
    }

    #[test]
    fn a_killed_stage_gives_the_exit_code_and_the_other_ones_failure_only_a_message() {
        let outcome =
            combine(&[ended("scan-uids", 9, None), ended("resolver", exit(1), Some("cut off"))]);
        assert_eq!(outcome.summary.exit_code, 137);
        assert_eq!(outcome.unreported, ["scan-uids was killed by signal 9 (SIGKILL)"]);
        let error = outcome.summary.error.unwrap();
        assert_eq!(error, "scan-uids was killed by signal 9 (SIGKILL); resolver: cut off");
        assert!(!outcome.is_output_complete);
    }

    #[test]
    fn a_scan_that_was_stopped_after_the_resolver_ended_has_not_failed() {
        let mut scan = ended("scan-uids", Signal::SIGTERM as i32, None);
        scan.was_stopped = true;
        let outcome = combine(&[ended("resolver", exit(2), Some("wrong password")), scan]);
        assert_eq!(outcome.summary.exit_code, 2);
        assert_eq!(outcome.summary.error.unwrap(), "resolver: wrong password");
        assert!(outcome.unreported.is_empty());
    }

    #[test]
    fn after_a_partial_scan_the_code_is_1_or_that_of_a_failed_lookup() {
        let scan = || ended("scan-uids", exit(1), Some("permission denied"));
        let outcome = combine(&[scan(), ended("resolver", 0, None)]);
        assert_eq!((outcome.summary.exit_code, outcome.is_output_complete), (1, true));
        let outcome = combine(&[scan(), ended("resolver", exit(2), Some("no such base"))]);
        assert_eq!((outcome.summary.exit_code, outcome.is_output_complete), (2, false));
        let error = outcome.summary.error.unwrap();
        assert_eq!(error, "scan-uids: permission denied; resolver: no such base");
    }
}
