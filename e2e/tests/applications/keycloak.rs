//! Keycloak with PostgreSQL: its certificate, its truststores, and a rolling restart.

mod directory;
mod pair;
mod server;

use crate::container::{wait_for, wait_long_for};
use crate::keycloak::directory::Directory;
use crate::keycloak::server::{Keycloak, Site, serial};

/// One test, because a start of Keycloak takes a minute on a small machine.
#[test]
#[ignore = "run by make test-applications"]
fn keycloak_takes_certificates_while_it_runs_and_truststores_at_a_rolling_restart() {
    let directory = Directory::start();
    let site = Site::new();
    let mut old = site.start();
    let after = old.wait_until_ready();
    println!("Keycloak is ready {after:.2?} after its start on an empty database");
    assert_serials(&old, &site.serial());
    let session = old.log_in();
    assert_eq!(
        old.test_directory(&session, &directory.url),
        400,
        "the authority is not trusted yet"
    );

    // Garbage is skipped without a warning: it is missing in the list of files, and that is all.
    let authority = directory.authority();
    site.publish(&[("truststores/new.pem", &authority), ("truststores/garbage.pem", b"garbage\n")]);
    let expected = site.serial();
    for port in [old.https, old.management] {
        let (_, after) = wait_long_for("the new certificate", || {
            serial(port).filter(|found| *found == expected)
        });
        println!("port {port} presents a published certificate after {after:.2?} (period: 30 s)");
    }
    assert_eq!(
        old.test_directory(&session, &directory.url),
        400,
        "truststores are read at a start"
    );

    // A rolling restart: the new instance is ready before the old one ends.
    let mut new = site.start();
    let after = new.wait_until_ready();
    println!("Keycloak is ready {after:.2?} after its start on a database in use");
    let (_, after) = old.running.terminate();
    println!("the old instance has ended {after:.2?} after SIGTERM");
    let session = new.refresh(&session);
    assert_eq!(new.test_directory(&session, &directory.url), 204, "the authority is trusted now");
    let log = new.running.log();
    let found = log.lines().find(|line| line.contains("Found the following truststore files"));
    let found = found.unwrap_or_else(|| panic!("Keycloak does not list its truststores: {log}"));
    for (name, is_listed) in [("site.pem", true), ("new.pem", true), ("garbage.pem", false)] {
        assert_eq!(found.contains(name), is_listed, "{name}: {found}");
    }
    assert!(
        !log.replace(found, "").contains("garbage.pem"),
        "Keycloak warns of the file now: say so"
    );
}

fn assert_serials(keycloak: &Keycloak, expected: &str) {
    for port in [keycloak.https, keycloak.management] {
        let (found, _) = wait_for("the certificate", || serial(port));
        assert_eq!(found, expected);
    }
}
