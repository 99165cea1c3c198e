//! Test support, shared by the tests of every crate: real servers on loopback, in temporary
//! directories, ended by their own process id; programs of this workspace; deadlines.
//!
//! Nothing here is part of the product. Failures panic, since that is how tests fail.

pub mod certificates;
pub mod dirsrv;
mod freshness;
pub mod measure;
pub mod nginx;
pub mod place;
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

/// Their e-mail addresses.
pub const USERS: [(u32, &str); 5] = [
    (30001, "alice.johnson@example.com"),
    (30002, "bob.smith@example.com"),
    (30003, "charlie.brown@example.com"),
    (30004, "diana.prince@example.com"),
    (30005, "teamlead@example.com"),
];

/// Polls until `done` says yes.
///
/// # Panics
/// When it has not after 30 seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the tests run as root, and so can give files to other users. CI must: there nothing
/// may be left out.
///
/// # Panics
/// Under `CI=true` as another user.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(root || !in_ci, "under CI=true the tests run as root, or they would leave cases out");
    root
}

/// Debian keeps servers where users do not look.
fn server_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Two ports of loopback that nobody listens on yet.
fn free_ports() -> [u16; 2] {
    let listeners = [0; 2].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
