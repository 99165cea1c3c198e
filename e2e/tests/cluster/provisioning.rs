//! The provisioning pipeline as a site deploys it: what reaches the applications on two nodes, and what
//! happens when they refuse it. One deployment serves all tests, which take turns.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::deployment::{Base, Content};
use crate::kubectl::eventually;
use crate::monitoring::reload_failed_fires;

/// The deployment, with a version that answers `good` in use.
fn base() -> MutexGuard<'static, Base> {
    static BASE: LazyLock<Mutex<Base>> = LazyLock::new(|| Mutex::new(Base::deploy()));
    let base = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    base.publish(&Content::with_answer("good"));
    base.wait_for_answer("good");
    base
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_new_version_reaches_every_pod_of_nginx_and_opa() {
    let base = base();
    let start = base.publish(&Content::with_answer("better"));
    base.wait_for_answer("better");
    let elapsed = start.elapsed().as_secs_f32();
    println!(
        "a new version is in every pod of nginx and OPA {elapsed:.1} s after its Job was created"
    );
    assert_eq!(base.restarts(), 0, "containers were restarted");
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_broken_nginx_configuration_is_reported_and_the_old_one_stays() {
    let broken = Content::with_answer("broken").with_file("nginx/broken.conf", "server { listen");
    assert_refused("nginx", 2, &broken);
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_broken_policy_is_reported_and_the_old_one_stays() {
    let broken =
        Content::with_answer("broken").with_file("opa/broken.rego", "package broken\nallow {");
    assert_refused("opa", 2, &broken);
}

/// Keycloak skips what is not PEM, but ends when it cannot read a key store. The Deployment then keeps
/// the pod that runs.
#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_broken_truststore_is_reported_and_the_old_keycloak_stays() {
    let broken =
        Content::with_answer("good").with_file("truststores/broken.p12", "not a key store");
    assert_refused("keycloak-reloader", 1, &broken);
}

/// Publishes a version that an application refuses: the old one stays in use, the metric and the alert
/// tell, and after a rollback they tell the success.
fn assert_refused(app: &str, replicas: usize, broken: &Content) {
    let base = base();
    eventually("a success before", || base.reload_states(app) == vec!["1"; replicas]);
    let keycloak = base.keycloak();
    base.publish(broken);
    eventually("each pod to report the failure", || base.reload_states(app) == vec!["0"; replicas]);
    assert!(reload_failed_fires("0"));
    let answering = if app == "keycloak-reloader" { 0 } else { replicas };
    assert_eq!(base.answers_of(app), vec!["good"; answering]);
    assert_eq!(base.keycloak(), keycloak);
    base.roll_back();
    eventually("a success after the rollback", || base.reload_states(app) == vec!["1"; replicas]);
    assert!(!reload_failed_fires("1"));
    base.unpin();
}
