//! The memory of both containers with 20 MB of data.

use std::fmt::Write;
use std::fs;

use super::pod::Pod;
use super::refusals::assert_used;
use super::version_with;
use crate::container::Running;
use crate::data::Volume;
use crate::rendered::{container, pod, text};

/// The peak of a process's resident memory, in MiB.
fn peak(process: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// The limit of a container in the manifest, in MiB.
fn limit(name: &str) -> u64 {
    let limit = &container(pod("Deployment", "opa"), name)["resources"]["limits"]["memory"];
    text(limit).trim_end_matches("Mi").parse().expect("a number of MiB")
}

/// 20 MB of users as JSON.
fn users(version: usize) -> String {
    let mut users = "{\"list\": {".to_owned();
    for number in 0..100_000 {
        let comma = if number == 0 { "" } else { "," };
        let roles = format!("[\"reader\", \"writer-{}\"]", number % 50);
        let notes = "n".repeat(60);
        write!(
            users,
            "{comma}\"user-{number:07}\": {{\"roles\": {roles}, \"email\": \"user{number}@example.com\", \
             \"active\": true, \"version\": {version}, \"notes\": \"{notes}\"}}"
        )
        .expect("written");
    }
    users + "}}"
}

#[test]
#[ignore = "run by make test-applications"]
fn twenty_megabytes_fit_into_the_limits_through_two_publications() {
    let volume = Volume::new();
    let mut pod = None;
    for number in 1..=3 {
        let users = users(number);
        assert!(users.len() > 18_000_000, "{}", users.len());
        volume.publish(&version_with(number, &[("opa/users/data.json", users.as_bytes())]));
        let pod = pod.get_or_insert_with(|| Pod::start(&volume));
        assert_used(pod, number);
        pod.opa.assert_runs();
        let [opa, sidecar] = [&pod.opa, &pod.sidecar].map(peak);
        println!("version {number}: OPA {opa} MiB, reloader {sidecar} MiB at most");
        assert!(opa < limit("opa"), "{opa} MiB");
        assert!(sidecar < limit("reloader"), "{sidecar} MiB");
    }
}
