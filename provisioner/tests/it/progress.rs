//! The progress line on a terminal.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::{program, run};

/// What a terminal shows of a run in which each of the calls `slow` takes so many seconds.
fn seen(dir: &Path, (slow, seconds): (&str, f64), redirection: &str) -> String {
    let delay = format!("-e inject={slow}:delay_enter={:.0}", seconds * 1e6);
    let run_it = format!(
        "strace -f -q -o /dev/null {delay} {} --source source --target volume {redirection}",
        program("provisioner").display()
    );
    // A terminal of its own, whose output comes out here.
    let mut script = Command::new("script");
    script.args(["-qec", &run_it, "/dev/null"]).current_dir(dir).env("TERM", "xterm");
    let outcome = run(&mut script, b"");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    outcome.stdout
}

fn places() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["source", "volume"] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    for number in 0..4 {
        let file = dir.path().join(format!("source/{number}"));
        fs::write(file, "content\n").expect("written");
    }
    dir
}

#[test]
fn each_phase_is_shown_and_removed_at_the_end() {
    for (slow, phase) in [("fchmod", "copying "), ("fsync,syncfs", "syncing, ")] {
        let dir = places();
        let shown = seen(dir.path(), (slow, 1.0), "");
        assert!(shown.contains(&format!("\r\x1b[K{phase}")), "{shown:?}");
        let (before, last) = shown.rsplit_once("\r\x1b[K").expect("a line that is gone");
        assert!(last.starts_with("published: 4 added") && before.contains(phase), "{shown:?}");
    }
    let dir = places();
    seen(dir.path(), ("fsync", 0.0), "");
    // The only one of an unchanged run comes after all files were compared.
    let shown = seen(dir.path(), ("fsync", 3.0), "");
    assert!(shown.contains("\r\x1b[Kcomparing 4 of 4 files, 32 B, "), "{shown:?}");
}

#[test]
fn without_a_terminal_nothing_is_shown() {
    for redirection in ["2> err", "| cat"] {
        let dir = places();
        let shown = seen(dir.path(), ("fsync,syncfs", 0.5), redirection);
        assert!(!shown.contains('\x1b'), "{shown:?}");
        assert!(shown.starts_with("published: "), "{shown:?}");
        assert_eq!(fs::read_to_string(dir.path().join("err")).unwrap_or_default(), "");
    }
}
