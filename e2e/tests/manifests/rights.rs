//! Roles: each grants the API calls that its account makes, and no others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{Access, Answer, Api, deployment};
use crate::objects::{containers, kind_and_name, list, name, namespace, template, text, texts};
use crate::rendered::{set, sets};
use crate::tools::{outcome, tool};

/// Verb, group/resource, and the object's name if the right is limited to one object.
type Right = (String, String, Option<String>);

/// Role, name and namespace of each account that another installation creates.
const FOREIGN_ACCOUNTS: [(&str, &str, &str); 1] = [("scan-airflow", "airflow-worker", "airflow")];

/// The single rights that a Role grants.
pub fn rights(role: &Value) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in list(role, "/rules") {
        let names = texts(rule, "/resourceNames");
        let names =
            if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for group in texts(rule, "/apiGroups") {
            for resource in texts(rule, "/resources") {
                for verb in texts(rule, "/verbs") {
                    for name in &names {
                        let resource = format!("{group}/{resource}");
                        all.insert((verb.to_owned(), resource, name.map(str::to_owned)));
                    }
                }
            }
        }
    }
    all
}

/// Asserts that the Role allows every access, and grants no right that no access uses.
pub fn assert_exact(role: &Value, accesses: &[Access]) {
    let granted = rights(role);
    let mut used = BTreeSet::new();
    for Access { verb, resource, name } in accesses {
        let with_name = (verb.clone(), resource.clone(), Some(name.clone()));
        let without = (verb.clone(), resource.clone(), None);
        let right = [with_name, without].into_iter().find(|right| granted.contains(right));
        used.insert(right.unwrap_or_else(|| panic!("{verb} {resource} {name} is not allowed")));
    }
    assert_eq!(granted, used, "{} grants unused rights", kind_and_name(role));
}

#[test]
fn no_role_has_a_wildcard_and_each_is_bound_to_one_account() {
    let mut seen = BTreeSet::new();
    for set in sets() {
        for role in set.of_kind("Role") {
            let location = format!("{}: {}", set.from, kind_and_name(role));
            seen.insert(name(role));
            assert!(!role["rules"].to_string().contains('*'), "{location}");
            let binding = set.get("RoleBinding", name(role)).expect(&location);
            let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name(role)});
            assert_eq!(binding["roleRef"], reference, "{location}");
            let other = FOREIGN_ACCOUNTS.iter().find(|(role_name, ..)| *role_name == name(role));
            let (account, namespace_name) = other
                .map_or((name(role), namespace(role)), |(_, account, namespace_name)| {
                    (*account, *namespace_name)
                });
            let subject =
                json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace_name}]);
            assert_eq!(binding["subjects"], subject, "{location}");
            if other.is_none() {
                let account = set.get("ServiceAccount", account).expect(&location);
                assert_eq!(account["automountServiceAccountToken"], false, "{location}");
            }
            for rule in list(role, "/rules") {
                for named in texts(rule, "/resourceNames") {
                    let kind = if texts(rule, "/resources") == ["cronjobs"] {
                        "CronJob"
                    } else {
                        "Deployment"
                    };
                    assert!(set.get(kind, named).is_some(), "{location}: no {kind}/{named}");
                }
            }
        }
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            assert_eq!(set.of_kind(kind).count(), 0, "{}", set.from);
        }
    }
    let known = ["keycloak-reloader", "nightly-restart", "scan-airflow", "scan-trigger"];
    assert_eq!(Vec::from_iter(seen), known);
}

/// Runs the nightly restart as its pod would, against the fake API server.
#[test]
fn the_role_of_the_nightly_restart_is_exact() {
    let set = set("k8s/provisioning/overlays/nightly-restart");
    let cron = set.get("CronJob", "nightly-restart").expect("the object");
    let container = containers(template(cron).unwrap()).next().unwrap();
    let deployments: Vec<&str> = set.of_kind("Deployment").map(name).collect();
    let api = Api::serve(move |request| {
        let known = deployments.iter().find(|name| **name == request.name)?;
        Some(Answer::json(200, &deployment("provisioning", known)))
    });
    let mut kubectl = tool("kubectl");
    api.configure_kubectl(&mut kubectl, "provisioning");
    let outcome = outcome(kubectl.args(texts(container, "/args")));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_exact(set.get("Role", "nightly-restart").unwrap(), &api.accesses());
    let restarted: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(restarted.len(), 3, "{outcome:?}");
}

/// Checks the Role in each overlay. `sidecars` records the calls that reloader really makes.
#[test]
fn the_role_of_reloader_allows_its_target_in_each_overlay() {
    for set in sets().iter().filter(|set| !set.is_ownership) {
        let reloader =
            set.get("Deployment", "keycloak-reloader").and_then(template).expect("the object");
        let container = containers(reloader).next().unwrap();
        let target =
            texts(container, "/args").iter().find_map(|arg| arg.strip_prefix("--rollout="));
        let target =
            target.and_then(|target| target.strip_prefix("deployment/")).expect("a target");
        assert!(set.get("Deployment", target).is_some(), "{}: {target}", set.from);
        let accesses = ["get", "patch"].map(|verb| Access {
            verb: verb.to_owned(),
            resource: "apps/deployments".to_owned(),
            name: target.to_owned(),
        });
        assert_exact(set.get("Role", "keycloak-reloader").unwrap(), &accesses);
        // The token is mounted where clients of Kubernetes look for it.
        let account = text(reloader, "/spec/serviceAccountName");
        assert_eq!(account, "keycloak-reloader");
        let mounts: Vec<&str> = list(container, "/volumeMounts")
            .iter()
            .map(|mount| text(mount, "/mountPath"))
            .collect();
        assert!(mounts.contains(&"/var/run/secrets/kubernetes.io/serviceaccount"), "{mounts:?}");
    }
}
