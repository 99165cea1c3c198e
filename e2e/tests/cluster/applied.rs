//! Every base, overlay and example site as the API server of the cluster takes it: no refusal, no warning,
//! and nothing to change at a second apply.

use crate::kubectl::Namespace;
use crate::site::{Site, kustomizations};

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn every_kustomization_is_applied_without_a_warning_and_then_unchanged() {
    let all = kustomizations();
    assert!(all.len() >= 15, "{all:?}");
    for (number, base) in all.iter().enumerate() {
        let namespace = Namespace::create(&format!("applied-{number}"));
        // No pods: this is about the objects, and most would need more than this namespace has.
        namespace.kubectl(&["create", "quota", "no-pods", "--hard=pods=0"]);
        let site = Site::new(base, &namespace.name, "");
        let applied = site.apply();
        assert!(applied.contains("cronjob.batch/"), "{base}: {applied}");
        site.assert_unchanged();
        println!("{base}: {} objects", applied.lines().count());
    }
}
