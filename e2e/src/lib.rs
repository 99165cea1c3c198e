//! Test support for all crates. It is no part of the product. A failure panics, so that the test
//! fails.
//!
//! * [`programs`] runs the programs of this workspace, and others.
//! * [`slapd`], [`dirsrv`], [`samba`] and [`nginx`] start real servers on loopback, in temporary
//!   directories, and stop them by their own process ids.
//! * [`mounts`] gives a test file systems that no other process sees.
//! * [`strace`] reads the system calls of a traced program.
//! * [`skip_unless_root`] skips tests visibly, and [`signals`] resets ignored signals.
//! * [`measure`] is for benchmarks.

pub mod certificates;
pub mod dirsrv;
mod freshness;
pub mod measure;
pub mod mounts;
pub mod nginx;
pub mod programs;
pub mod samba;
pub mod signals;
mod skip;
pub mod slapd;
pub mod strace;

pub use skip::skip_unless_root;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// The five users of the examples: UIDs 30001 to 30005.
pub const USERS_LDIF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/users.ldif");

/// The UIDs of these users, and their e-mail addresses.
pub const USERS: [(u32, &str); 5] = [
    (30001, "alice.johnson@example.com"),
    (30002, "bob.smith@example.com"),
    (30003, "charlie.brown@example.com"),
    (30004, "diana.prince@example.com"),
    (30005, "teamlead@example.com"),
];

/// Polls until `done` returns true.
///
/// # Panics
/// Panics if that takes longer than 60 seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether root runs the tests, so that they can mount file systems and give files to other users.
///
/// # Panics
/// Panics under `CI=true` unless root runs the tests, because CI must skip none.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(root || !in_ci, "under CI=true the tests run as root, or they would leave cases out");
    root
}

/// The search path with the directories in which Debian installs servers.
fn server_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Two ports of loopback on which no process listens yet.
fn free_ports() -> [u16; 2] {
    let listeners = [0; 2].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
