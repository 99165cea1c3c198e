//! Runs shell scripts, and looks at how they end and at what they leave.

use std::os::unix::process::ExitStatusExt;

use super::*;

const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(60)),
    grace: Duration::from_secs(60),
    grace_on_stop: Duration::from_secs(60),
    ends_group: true,
};

fn run(line: &str, limits: &Limits) -> Outcome {
    CommandLine::parse(line).unwrap().run(&[], limits, &|| false).unwrap()
}

#[test]
fn a_line_is_split_as_a_shell_does_without_expanding_anything() {
    let line = CommandLine::parse(r#"a 'b c' "d \" e" f\ g '' ~ $HOME *"#).unwrap();
    assert_eq!(line.program, "a");
    assert_eq!(line.arguments, ["b c", "d \" e", "f g", "", "~", "$HOME", "*"]);
}

#[test]
fn a_line_that_runs_nothing_is_refused() {
    for (line, why) in [
        ("", ParseError::Empty),
        ("  ", ParseError::Empty),
        ("'' x", ParseError::Empty),
        ("# a", ParseError::Empty),
        ("a 'b", ParseError::OpenQuote),
        ("a \"b", ParseError::OpenQuote),
        ("a \\", ParseError::OpenQuote),
        ("a\0b", ParseError::Nul),
    ] {
        assert_eq!(CommandLine::parse(line).unwrap_err(), why, "{line}");
    }
}

#[test]
fn arguments_are_not_shown() {
    let line = CommandLine::parse("a --password s3cret").unwrap();
    assert_eq!(format!("{line} {line:?}"), "`a` CommandLine(`a`, 2 arguments)");
}

#[test]
fn a_timeout_ends_the_command_and_its_group() {
    let limits = Limits { timeout: Some(Duration::from_millis(50)), ..LIMITS };
    let outcome = run("sh -c 'sleep 20 & wait'", &limits);
    assert!(matches!(outcome, Outcome::TimedOut(Ending::Terminated(_))), "{outcome:?}");
}

/// Runs a script, and stops it as soon as it has made the file `up` in its directory, `$0`.
fn stop_when_up(script: &str, limits: &Limits) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    let line = shlex::try_join(["sh", "-c", script, at]).unwrap();
    let is_up = || directory.path().join("up").exists();
    CommandLine::parse(&line).unwrap().run(&[], limits, &is_up).unwrap()
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let limits = Limits { grace_on_stop: Duration::from_millis(300), ..LIMITS };
    let script = "trap '' TERM; echo >$0/up; while :; do sleep 0.1; done";
    let outcome = stop_when_up(script, &limits);
    let Outcome::Stopped(Ending::Killed(status)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn a_background_process_may_outlive_the_command_unless_the_group_is_to_end() {
    // On SIGTERM the command exits; its child ignores it.
    let script = "trap 'exit 3' TERM; (trap '' TERM; echo >$0/up; sleep 20) & wait";
    let limits = Limits { grace_on_stop: Duration::from_millis(500), ..LIMITS };
    let outcome = stop_when_up(script, &limits);
    assert!(matches!(outcome, Outcome::Stopped(Ending::Killed(_))), "{outcome:?}");
    let limits = Limits { ends_group: false, ..LIMITS };
    let outcome = stop_when_up(script, &limits);
    let Outcome::Stopped(Ending::Terminated(status)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.code(), Some(3));
}

fn judge(script: &str, limits: &Limits) -> (Outcome, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let line = shlex::try_join(["sh", "-c", script]).unwrap();
    CommandLine::parse(&line).unwrap().judge(directory.path(), &[], limits, &|| false).unwrap()
}

#[test]
fn a_judge_returns_its_code_and_its_output_from_its_directory() {
    let (outcome, output) = judge("echo out; echo err >&2; basename $PWD; exit 3", &LIMITS);
    let Outcome::Exited(status) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.code(), Some(3));
    let output = String::from_utf8(output).unwrap();
    assert!(output.starts_with("out\nerr\n.tmp"), "{output}");
}

#[test]
fn a_judge_is_not_taken_from_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", directory.path().join("foreign-sh")).unwrap();
    let line = CommandLine::parse("./foreign-sh -c 'exit 0'").unwrap();
    let judged = line.judge(directory.path(), &[], &LIMITS, &|| false);
    assert!(matches!(judged, Err(RunError::Start(_))), "{judged:?}");
}

#[test]
fn only_the_end_of_much_output_is_kept() {
    let script = "head -c 5000000 /dev/zero | tr '\\0' x; printf end";
    let (outcome, output) = judge(script, &LIMITS);
    assert!(matches!(outcome, Outcome::Exited(status) if status.success()), "{outcome:?}");
    assert_eq!(output.len(), capture::MAX_OUTPUT + capture::CUT.len());
    assert!(output.starts_with(b"... xxx") && output.ends_with(b"xxxend"));
}

#[test]
fn what_a_judge_leaves_in_its_group_is_killed_and_the_pipe_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    // Both keep the pipe open. The second has left the group, and writes all the time.
    let script = "sh -c 'while test -e $0; do sleep 0.05; done' $0 & echo $! >$0/pid
                  setsid sh -c 'while test -e $0; do echo y; done' $0 & exit 0";
    let at = directory.path().to_str().unwrap();
    let line = CommandLine::parse(&shlex::try_join(["sh", "-c", script, at]).unwrap()).unwrap();
    let (outcome, _) = line.judge(directory.path(), &[], &LIMITS, &|| false).unwrap();
    assert!(matches!(outcome, Outcome::Exited(status) if status.success()), "{outcome:?}");
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // An orphan may still wait for process 1 to reap it.
    assert!(state.as_ref().map_or(true, |stat| stat.contains(") Z ")), "{state:?}");
}

#[test]
fn a_stop_before_the_start_starts_nothing() {
    let line = CommandLine::parse("/nowhere").unwrap();
    assert!(matches!(line.run(&[], &LIMITS, &|| true), Ok(Outcome::NotStarted)));
    assert!(matches!(line.run(&[], &LIMITS, &|| false), Err(RunError::Start(_))));
}
