//! Man pages as `man` shows them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use e2e::programs::{command, run};
use tempfile::TempDir;

const PROGRAMS: [&str; 5] = ["provisioner", "reloader", "resolve-in-pod", "resolver", "scan-uids"];

fn pages() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let outcome = run(xtask.arg("man").arg(dir.path()), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    dir
}

/// The text of a page, which must render without a warning.
fn rendered(dir: &TempDir, page: &str) -> String {
    let mut man = Command::new("man");
    man.args(["--warnings", "--encoding=UTF-8", "--local-file"]).arg(dir.path().join(page));
    // Wide enough for every line, so that no word is broken.
    man.env("MANWIDTH", "1000").env("LC_ALL", "C.UTF-8").env("PAGER", "cat").env("MANPAGER", "cat");
    let outcome = run(&mut man, b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{page}");
    outcome.stdout
}

#[test]
fn each_program_and_subcommand_has_a_page_that_renders_without_warnings() {
    let dir = pages();
    let names = fs::read_dir(dir.path()).expect("read").flatten();
    let names: BTreeSet<String> =
        names.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    let mut expected: BTreeSet<String> = PROGRAMS.map(|name| format!("{name}.1")).into();
    expected.extend(["history", "rollback", "status"].map(|name| format!("provisioner-{name}.1")));
    assert_eq!(names, expected);
    for page in names {
        let text = rendered(&dir, &page);
        let sections =
            ["NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"];
        for section in sections {
            assert!(text.lines().any(|line| line == section), "{page}: no {section}");
        }
    }
}

/// What `--help` prints is the oracle: flags, and the environment variables in brackets.
#[test]
fn pages_have_all_flags_and_variables_of_help() {
    let dir = pages();
    for program in PROGRAMS {
        let text = rendered(&dir, &format!("{program}.1"));
        let help = run(command(program).arg("--help").env("COLUMNS", "1000"), b"").stdout;
        let words = help.split(|c: char| c.is_whitespace() || ",[]=".contains(c));
        let flags: BTreeSet<&str> = words
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
            .collect();
        assert!(flags.len() > 5, "{program}: {flags:?}");
        for flag in flags {
            assert!(text.contains(flag), "{program}: no {flag}");
        }
        let variables: Vec<&str> =
            help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).collect();
        assert!(variables.len() > 5, "{program}: {variables:?}");
        let section = text.split("\nENVIRONMENT\n").nth(1).expect("a section");
        for variable in variables {
            let is_there =
                section.lines().any(|line| line.split_whitespace().next() == Some(variable));
            assert!(is_there, "{program}: no {variable}");
        }
    }
}

/// A flag that `-h` leaves out has its text all the same.
#[test]
fn no_flag_is_without_a_text() {
    let dir = pages();
    for entry in fs::read_dir(dir.path()).expect("read").flatten() {
        let page = fs::read_to_string(entry.path()).expect("read");
        let options = page.split("\n.SH ENVIRONMENT\n").next().expect("a part");
        for option in options.split("\n.TP\n").skip(1) {
            let text = option.lines().nth(1).unwrap_or_default();
            let is_text = !text.is_empty() && !text.starts_with('.');
            assert!(is_text, "{}: {option}", entry.path().display());
        }
    }
}
