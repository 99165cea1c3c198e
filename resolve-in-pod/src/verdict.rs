//! What came of the run, judged from how the two stages ended.

use std::os::unix::process::ExitStatusExt;

use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Summary;
use nix::sys::signal::Signal;

use crate::stages::Ended;

/// What came of the run.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The exit code, all counts and warnings, and the errors with the names of their stages.
    pub summary: Summary,
    /// Failures that no stage has told on stderr itself.
    pub untold: Vec<String>,
    /// The resolver wrote everything, down to the closing brace.
    pub is_output_complete: bool,
}

/// Judges the run by its stages, the first to end first.
///
/// The first failure gives the exit code, since the other stage may have failed only for want
/// of its partner. An exception is a scan that could not read something (1) and a lookup that
/// then failed for reasons of its own: its code says more.
pub fn judge(ended: &[Ended]) -> Verdict {
    let mut verdict = Verdict {
        summary: Summary::default(),
        untold: Vec::new(),
        is_output_complete: ended.iter().any(|end| end.stage == "resolver" && code(end) == DONE),
    };
    let mut errors = Vec::new();
    for end in ended {
        if let Some(stage) = &end.summary {
            verdict.summary.counts.extend(stage.counts.clone());
            // Those of the lookup first: they concern the whole result, while the scan may have
            // one for each of many directories.
            let warnings = &mut verdict.summary.warnings;
            let place = if end.stage == "resolver" { 0 } else { warnings.len() };
            warnings.splice(place..place, stage.warnings.iter().cloned());
            verdict.summary.warnings_dropped += stage.warnings_dropped;
        }
        let code = code(end);
        if code == DONE {
            continue;
        }
        if matches!(verdict.summary.exit_code, DONE | FAILED) {
            verdict.summary.exit_code = code;
        }
        let (error, is_told) = describe(end);
        if !is_told {
            verdict.untold.push(error.clone());
        }
        errors.push(error);
    }
    verdict.summary.error = (!errors.is_empty()).then(|| errors.join("; "));
    verdict
}

/// The exit code of a stage, 128 + N after signal N; done when it ended because we told it to.
fn code(end: &Ended) -> u8 {
    match (end.status.code(), end.status.signal()) {
        (_, Some(signal)) if end.was_stopped && signal == Signal::SIGTERM as i32 => DONE,
        (Some(code), _) => u8::try_from(code).unwrap_or(FAILED),
        (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(FAILED),
    }
}

/// Why a stage failed, and whether it has said so on stderr.
fn describe(end: &Ended) -> (String, bool) {
    let stage = end.stage;
    if let Some(signal) = end.status.signal() {
        let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
        return (format!("{stage} was killed by signal {signal} ({name})"), false);
    }
    match end.summary.as_ref().and_then(|summary| summary.error.as_ref()) {
        Some(error) => (format!("{stage}: {error}"), true),
        None => (format!("{stage} failed with exit code {}", code(end)), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn ended(stage: &'static str, wait_status: i32, error: Option<&str>) -> Ended {
        let error = error.map(str::to_owned);
        let summary =
            Summary { error, warnings: vec![format!("by {stage}")], ..Summary::default() };
        let status = ExitStatus::from_raw(wait_status);
        Ended { stage, status, summary: Some(summary), was_stopped: false }
    }

    fn exit(code: i32) -> i32 {
        code << 8
    }

    #[test]
    fn success_of_both_is_success() {
        let verdict = judge(&[ended("scan-uids", 0, None), ended("resolver", 0, None)]);
        assert_eq!((verdict.summary.exit_code, verdict.summary.error), (0, None));
        assert_eq!(verdict.summary.warnings, ["by resolver", "by scan-uids"]);
        assert!(verdict.is_output_complete && verdict.untold.is_empty());
    }

    #[test]
    fn the_stage_that_was_killed_is_named_and_its_partner_only_followed() {
        let verdict =
            judge(&[ended("scan-uids", 9, None), ended("resolver", exit(1), Some("cut off"))]);
        assert_eq!(verdict.summary.exit_code, 137);
        assert_eq!(verdict.untold, ["scan-uids was killed by signal 9 (SIGKILL)"]);
        let error = verdict.summary.error.unwrap();
        assert_eq!(error, "scan-uids was killed by signal 9 (SIGKILL); resolver: cut off");
        assert!(!verdict.is_output_complete);
    }

    #[test]
    fn a_scan_that_was_stopped_for_want_of_a_reader_did_not_fail() {
        let mut scan = ended("scan-uids", Signal::SIGTERM as i32, None);
        scan.was_stopped = true;
        let verdict = judge(&[ended("resolver", exit(2), Some("wrong password")), scan]);
        assert_eq!(verdict.summary.exit_code, 2);
        assert_eq!(verdict.summary.error.unwrap(), "resolver: wrong password");
        assert!(verdict.untold.is_empty());
    }

    #[test]
    fn a_partial_scan_is_partial_success_unless_the_lookup_failed_by_itself() {
        let scan = || ended("scan-uids", exit(1), Some("permission denied"));
        let verdict = judge(&[scan(), ended("resolver", 0, None)]);
        assert_eq!((verdict.summary.exit_code, verdict.is_output_complete), (1, true));
        let verdict = judge(&[scan(), ended("resolver", exit(2), Some("no such base"))]);
        assert_eq!((verdict.summary.exit_code, verdict.is_output_complete), (2, false));
        let error = verdict.summary.error.unwrap();
        assert_eq!(error, "scan-uids: permission denied; resolver: no such base");
    }
}
