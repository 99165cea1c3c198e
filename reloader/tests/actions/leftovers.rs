//! Actions leave no descriptor, thread, memory or zombie behind in a program that runs for months.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use reloader::testing::Exec;
use reloader::testing::Stop;
use reloader::testing::VerifyHttp;
use reloader::testing::{Action, Content};

use crate::cluster::Cluster;
use crate::http::call;
use crate::server::Server;
use crate::{alone, content};

#[test]
fn actions_leave_no_descriptor_thread_or_memory_behind() {
    let output = alone("leftovers::run_many_actions").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn orphans_of_commands_are_reaped_by_process_1() {
    let output = alone("leftovers::run_commands_in_the_background").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The number of this process's zombies.
fn zombies() -> usize {
    let own = format!("PPid:\t{}\n", std::process::id());
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let statuses = processes.filter_map(|at| fs::read_to_string(at.path().join("status")).ok());
    statuses.filter(|status| status.contains(&own) && status.contains("State:\tZ")).count()
}

#[test]
#[ignore = "run by `orphans_of_commands_are_reaped_by_process_1`, alone"]
fn run_commands_in_the_background() {
    // Orphans become children of this process, as they do of process 1.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("set");
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    let script =
        "test -e quiet || { mkfifo fifo 2>/dev/null; (read end <fifo) & (read end <fifo) & }";
    let script = format!("cd {}; {script}", dir.path().display());
    let line = shlex::try_join(["sh", "-c", &script]).expect("no NUL");
    let (exec, stop) = (Exec::parse(&line).unwrap(), Stop::default());
    for _ in 0..3 {
        exec.run(&content(), &stop).unwrap();
    }
    assert_eq!(zombies(), 0);
    e2e::wait_for("all of them to exit", || {
        // Those that wait to open it read its end. Without a reader, opening fails.
        let _ = fs::File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo);
        zombies() == 6
    });
    // The next run of the command, which starts nothing in the background, reaps them.
    fs::write(dir.path().join("quiet"), "").expect("written");
    exec.run(&content(), &stop).unwrap();
    assert_eq!(zombies(), 0);
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).expect(directory).count()
}

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
#[ignore = "run by `actions_leave_no_descriptor_thread_or_memory_behind`, alone"]
fn run_many_actions() {
    let stop = Stop::default();
    let round = |number: usize| {
        let content = Content { digest: format!("{number:064x}"), ..content() };
        // Servers and their threads end with the round.
        let (server, ill) = (Server::answering(200, ""), Server::answering(500, "ill"));
        let cluster = Cluster::new();
        let good = call("POST", &server.url("/"));
        let proof = VerifyHttp::new(good.clone(), None, std::time::Duration::from_secs(60));
        good.run(&content, &stop).unwrap();
        proof.unwrap().run(&content, &stop).unwrap();
        call("POST", &ill.url("/")).run(&content, &stop).unwrap_err();
        Exec::parse("true").unwrap().run(&content, &stop).unwrap();
        Exec::parse("false").unwrap().run(&content, &stop).unwrap_err();
        cluster.rollout().run(&content, &stop).unwrap();
        cluster.refuse("GET", (404, "NotFound", "gone"));
        cluster.rollout().run(&content, &stop).unwrap_err();
    };
    (0..10).for_each(round);
    e2e::wait_for("the servers' threads to end", || entries("/proc/self/task") <= 2);
    let (descriptors, before) = (entries("/proc/self/fd"), memory());
    (0..60).for_each(round);
    e2e::wait_for("all threads to end", || entries("/proc/self/task") <= 2);
    e2e::wait_for("all descriptors to close", || entries("/proc/self/fd") <= descriptors);
    // A leak of a buffer of 16 KiB in each of 420 actions would be more.
    let grown = memory().saturating_sub(before);
    assert!(grown < 4 * 1024, "grown by {grown} KiB from {before} KiB");
}
