//! Runs in which one system call fails.

use e2e::programs::Outcome;

use super::disturbed::{Case, Over};

/// The error that a call fails with, and its text in the message.
fn error_of(call: &str) -> (&'static str, &'static str) {
    match call {
        "fsync" | "syncfs" | "renameat" | "unlinkat" => ("EIO", "input/output error"),
        "ioctl" => ("EOPNOTSUPP", ""),
        _ => ("ENOSPC", "no space left on device"),
    }
}

/// Asserts that a run with a failed call has reported it, and left the old tree live. Returns whether
/// the call mattered.
fn assert_reported(over: Over, call: &str, what: &str, (outcome, is_new): (Outcome, bool)) -> bool {
    let (at, stderr) = (format!("{call}:{what}"), &outcome.stderr);
    if outcome.code == Some(0) {
        // These failures do not matter: the line on stdout is not printed; a clone becomes a copy; a
        // removed entry needs no mode; the number of processors is not read; a history that cannot be
        // written causes a warning; the links of the check for exchanges are left over.
        let has_warning = stderr.starts_with("Warning: ");
        let is_harmless = ["write", "ioctl", "fchmod", "openat"].contains(&call)
            || (call == "unlinkat" && over == Over::Plain);
        assert!(is_new && (has_warning || is_harmless), "{at}: {stderr}");
        return false;
    }
    // Each thread has its own count: the line itself may be what cannot be written.
    if call == "write" && stderr.is_empty() {
        assert!(outcome.code == Some(1) && !is_new, "{at}");
        return false;
    }
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{at}: {stderr}");
    assert!(stderr.contains(error_of(call).1), "{at}: {stderr}");
    // What fails while old versions are looked for and removed is said too.
    let is_over = outcome.stdout.starts_with("published: ");
    assert_eq!(is_new, is_over, "{at}: {stderr}");
    true
}

/// Lets each call fail, one in a run. Returns how many of the failures mattered.
fn fail_everywhere(over: Over) -> u32 {
    let case = Case::new(over);
    let mut failed = 0;
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            if call == "openat" && number <= case.calls.start {
                continue; // That would be a library.
            }
            let what = format!("error={}:when={number}", error_of(call).0);
            if let Some(found) = case.disturb(call, &what) {
                failed += u32::from(assert_reported(over, call, &what, found));
            }
        }
    }
    failed
}

#[test]
fn a_failed_call_leaves_the_old_tree_live_and_prints_one_line() {
    let failed = fail_everywhere(Over::Old);
    assert!(failed > 80, "{failed}");
}

#[test]
fn a_failed_call_in_a_first_publication_leaves_nothing_live() {
    let failed = fail_everywhere(Over::Nothing);
    assert!(failed > 40, "{failed}");
}

#[test]
fn a_failed_call_in_a_migration_leaves_the_old_files() {
    for over in [Over::Plain, Over::PlainWithGap] {
        let failed = fail_everywhere(over);
        assert!(failed > 80, "{failed}");
    }
}

#[test]
fn a_disk_that_keeps_failing_from_any_sync_on_leaves_the_old_tree_live() {
    for over in [Over::Nothing, Over::Old, Over::Plain, Over::PlainWithGap, Over::Mixed] {
        let case = Case::new(over);
        let syncs =
            case.calls.numbers().filter(|(call, _)| ["fsync", "syncfs"].contains(&&call[..]));
        let mut unsure = 0;
        for (call, numbers) in syncs {
            for number in numbers {
                let what = format!("error=EIO:when={number}+");
                let Some((outcome, is_new)) = case.disturb(call, &what) else { continue };
                let stderr = &outcome.stderr;
                unsure += u32::from(stderr.contains("perhaps not after a crash ("));
                assert_reported(over, call, &what, (outcome, is_new));
            }
        }
        assert!(unsure >= 1, "{over:?}: {unsure}");
    }
}

#[test]
fn if_undo_fails_the_error_says_that_the_new_version_stays_live() {
    // Links are removed after the switch only where there were others.
    for (over, syncs, back) in [(Over::Old, 2, "renameat"), (Over::Nothing, 1, "unlinkat")] {
        let case = Case::new(over);
        let made = |call| case.calls.at_switch.get(call).copied().unwrap_or(0);
        let back = (back, &format!("error=EROFS:when={}+", made(back) + 1)[..]);
        for number in 1..=syncs {
            let sync = format!("error=EIO:when={}", made("fsync") + number);
            let found = case.disturb_all(&[("fsync", &sync), back]);
            let (outcome, is_new) = found.expect("a call that fails");
            let stderr = &outcome.stderr;
            assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{sync}: {stderr}");
            assert!(stderr.contains("the new version stays live (failed to "), "{sync}: {stderr}");
            assert!(is_new);
        }
    }
}
