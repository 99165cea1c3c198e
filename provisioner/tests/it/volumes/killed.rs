//! Runs that are killed at each of their system calls.

use super::disturbed::{Case, Over};

/// Kills a publication at each call, counting what is shown afterwards: the old tree, and the new.
fn kill_everywhere(over: Over) -> [u32; 2] {
    let case = Case::new(over);
    let mut counts = [0, 0];
    for (call, numbers) in case.calls.numbers() {
        for number in numbers {
            let what = format!("signal=KILL:when={number}");
            let Some((outcome, is_new)) = case.disturb(call, &what) else { continue };
            assert_eq!(outcome.code, None, "{call}:{what}: {}", outcome.stderr);
            counts[usize::from(is_new)] += 1;
        }
    }
    counts
}

#[test]
fn a_first_publication_that_is_killed_anywhere_shows_nothing_or_all() {
    let [nothing, all] = kill_everywhere(Over::Nothing);
    assert!(nothing > 50 && all > 1, "{nothing} before, {all} after");
}

#[test]
fn an_update_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(Over::Old);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_migration_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(Over::Plain);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_migration_of_some_plain_files_that_is_killed_anywhere_shows_the_old_or_the_new_tree() {
    let [old, new] = kill_everywhere(Over::Mixed);
    assert!(old > 50 && new > 10, "{old} before, {new} after");
}

#[test]
fn a_migration_with_a_gap_that_is_killed_anywhere_is_completed_by_the_next_run() {
    let [other, new] = kill_everywhere(Over::PlainWithGap);
    assert!(other > 50 && new > 10, "{other} before, {new} after");
}

#[test]
fn a_run_that_is_killed_while_it_undoes_a_publication_shows_the_old_or_the_new_tree() {
    for over in [Over::Nothing, Over::Old, Over::PlainWithGap] {
        let case = Case::new(over);
        let made = |call| case.calls.at_switch.get(call).copied().unwrap_or(0);
        let mut killed = 0;
        for sync in 1..=2 {
            let sync = format!("error=EIO:when={}", made("fsync") + sync);
            for call in ["symlinkat", "renameat", "unlinkat"] {
                let kill = |number: u32| {
                    let kill = format!("signal=KILL:when={number}");
                    case.disturb_all(&[("fsync", &sync), (call, &kill)])
                };
                let outcomes = (made(call) + 1..).map_while(kill);
                killed += outcomes.take_while(|(outcome, _)| outcome.code.is_none()).count();
            }
        }
        assert!(killed > 5, "{killed}");
    }
}
