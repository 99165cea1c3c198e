//! Containers end at once after SIGTERM, and podman gets the program's exit code.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use e2e::USERS_LDIF;

use crate::image::IMAGE;
use crate::podman::podman;

/// How long podman waits after SIGTERM before it sends SIGKILL, in seconds.
const STOP_TIMEOUT: &str = "60";

/// Starts a program that runs until it is stopped, stops its container, and returns the exit code.
fn exit_code_after_stop(program: &str, options: &[&str], args: &[&str]) -> String {
    let podman = podman();
    let entrypoint = format!("--entrypoint={program}");
    let mut start = vec!["run", "--detach", "--interactive", &entrypoint];
    start.extend(options);
    start.push(IMAGE);
    start.extend(args);
    let container = podman.get(&start);
    // The program is ready when it handles SIGTERM.
    e2e::wait_for(&format!("{program} to be ready"), || {
        let id = podman.get(&["inspect", "--format={{.State.Pid}}", &container]);
        assert_ne!(id, "0", "{program} has ended: {}", podman.run(&["logs", &container]).stderr);
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
        let caught = u64::from_str_radix(caught.expect("its signals"), 16).expect("a mask");
        caught >> (15 - 1) & 1 == 1
    });
    let code = stop(&container, program);
    podman.get(&["rm", &container]);
    code
}

/// Stops a container and returns its exit code: 137 if podman had to kill the program.
pub fn stop(container: &str, program: &str) -> String {
    let start = Instant::now();
    podman().get(&["stop", "--time", STOP_TIMEOUT, container]);
    println!("podman stop: {program} ends in {} ms", start.elapsed().as_millis());
    podman().get(&["wait", container])
}

#[test]
#[ignore = "runs containers: make e2e"]
fn each_program_ends_when_its_container_is_stopped() {
    let users = format!("--volume={USERS_LDIF}:/users.ldif:ro");
    assert_eq!(exit_code_after_stop("scan-uids", &[], &["--files0-from=-"]), "143");
    assert_eq!(exit_code_after_stop("resolver", &[&users], &["--ldif=/users.ldif"]), "143");
}

#[test]
#[ignore = "runs containers: make e2e"]
fn resolve_in_pod_ends_with_both_stages_when_its_container_is_stopped() {
    // A directory server that accepts connections and never answers.
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("--url=ldap://{}", server.local_addr().expect("its address"));
    let args = [&url[..], "--base-dn=dc=example,dc=com", "--timeout=600", "/"];
    assert_eq!(exit_code_after_stop("resolve-in-pod", &["--network=host"], &args), "143");
}

#[test]
#[ignore = "runs containers: make e2e"]
fn provisioner_ends_while_it_waits_for_readers() {
    let dir = podman().dir().join("ends");
    for name in ["source", "target"] {
        fs::create_dir_all(dir.join(name)).expect("made");
    }
    // The image's user owns neither directory.
    fs::set_permissions(dir.join("target"), fs::Permissions::from_mode(0o777)).expect("set");
    let volume = format!("--volume={}:/data", dir.display());
    let args = ["--source=/data/source", "--target=/data/target", "--grace=600"];
    let file = dir.join("source/file");
    fs::write(&file, "old\n").expect("written");
    let mut first =
        vec!["run", "--rm", "--network=none", "--entrypoint=provisioner", &volume, IMAGE];
    first.extend(args);
    podman().get(&first);
    fs::write(&file, "new\n").expect("written");
    let code = exit_code_after_stop("provisioner", &[&volume], &args);
    // 143 if SIGTERM arrives before the publication is complete, 0 if it arrives later.
    assert!(code == "0" || code == "143", "{code}");
}

#[test]
#[ignore = "runs containers: make e2e"]
fn exit_codes_reach_podman() {
    let users = format!("--volume={USERS_LDIF}:/users.ldif:ro");
    let code = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none", &users, IMAGE];
        all.extend(args);
        podman().run(&all).code
    };
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["--ldif=/users.ldif", "--output=/owners.json", "/usr"]), Some(1));
    assert_eq!(code(&["--no-such-option"]), Some(2));
}
