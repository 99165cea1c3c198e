//! Keycloak with PostgreSQL.

mod server;

use crate::container::wait_for;
use crate::keycloak::server::{Site, serial};

#[test]
#[ignore = "run by make test-applications"]
fn keycloak_becomes_ready_on_a_read_only_root() {
    let site = Site::new();
    let mut keycloak = site.start();
    let after = keycloak.wait_until_ready();
    println!("Keycloak is ready {after:.2?} after its start on an empty database");
    for port in [keycloak.https, keycloak.management] {
        let (found, _) = wait_for("the certificate", || serial(port));
        assert_eq!(found, site.serial());
    }
    let (status, after) = keycloak.running.terminate();
    println!("Keycloak has ended {after:.2?} after SIGTERM: {status}");
}
