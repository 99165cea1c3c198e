//! Names that stand in one object and belong to another.

use serde_json::Value;

use crate::objects::{
    containers, fields, job, kind, kind_and_name, labels, list, name, namespace, selects, template,
    text, texts,
};
use crate::rendered::{JOB, Set, set, sets};
use crate::tools::read;

/// What a site makes itself, by commands of the operations guide.
const MADE_BY_THE_SITE: [(&str, &str); 3] = [
    ("Secret", "keycloak-database"),
    ("Secret", "keycloak-tls"),
    ("Secret", "registry-credentials"),
];
/// What Kubernetes makes in each namespace.
const MADE_BY_KUBERNETES: [(&str, &str); 1] = [("ConfigMap", "kube-root-ca.crt")];

/// The guide that says how to make what is not in the manifests.
const GUIDE: &str = "docs/OPERATIONS.md";

/// All kinds that have no namespace.
const CLUSTER_KINDS: [&str; 1] = ["Namespace"];

/// All names of objects that a pod template mentions, with the kind.
fn referenced_objects(template: &Value) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    for volume in list(template, "/spec/volumes") {
        found.push(("ConfigMap", text(volume, "/configMap/name")));
        found.push(("Secret", text(volume, "/secret/secretName")));
        found.push(("PersistentVolumeClaim", text(volume, "/persistentVolumeClaim/claimName")));
        for source in list(volume, "/projected/sources") {
            found.push(("ConfigMap", text(source, "/configMap/name")));
            found.push(("Secret", text(source, "/secret/name")));
        }
    }
    for container in containers(template) {
        for source in list(container, "/envFrom") {
            found.push(("ConfigMap", text(source, "/configMapRef/name")));
            found.push(("Secret", text(source, "/secretRef/name")));
        }
        for variable in list(container, "/env") {
            found.push(("ConfigMap", text(variable, "/valueFrom/configMapKeyRef/name")));
            found.push(("Secret", text(variable, "/valueFrom/secretKeyRef/name")));
        }
    }
    for secret in list(template, "/spec/imagePullSecrets") {
        found.push(("Secret", text(secret, "/name")));
    }
    found.push(("ServiceAccount", text(template, "/spec/serviceAccountName")));
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn exists(set: &Set, namespace_name: &str, wanted_kind: &str, wanted_name: &str) -> bool {
    let by_operator = |object: &Value| {
        kind(object) == "ExternalSecret" && text(object, "/spec/target/name") == wanted_name
    };
    set.get(wanted_kind, wanted_name).is_some_and(|object| namespace(object) == namespace_name)
        || wanted_kind == "Secret" && set.objects.iter().any(by_operator)
        || MADE_BY_THE_SITE.contains(&(wanted_kind, wanted_name))
        || MADE_BY_KUBERNETES.contains(&(wanted_kind, wanted_name))
}

#[test]
fn what_a_pod_mentions_is_there() {
    for set in sets() {
        for object in &set.objects {
            for (wanted_kind, wanted_name) in
                template(object).map(referenced_objects).unwrap_or_default()
            {
                let exists = exists(set, namespace(object), wanted_kind, wanted_name);
                assert!(
                    exists,
                    "{}: {} mentions {wanted_kind}/{wanted_name}",
                    set.from,
                    kind_and_name(object)
                );
            }
        }
    }
}

#[test]
fn what_the_site_makes_is_in_the_guide() {
    let guide = read(GUIDE);
    for (_, wanted_name) in MADE_BY_THE_SITE {
        let command = |line: &str| {
            line.contains("create secret")
                && line.split_whitespace().any(|word| word == wanted_name)
        };
        assert!(guide.lines().any(command), "{GUIDE} has no command that makes {wanted_name}");
        let mentions = |object: &Value| {
            template(object)
                .is_some_and(|t| referenced_objects(t).contains(&("Secret", wanted_name)))
        };
        assert!(
            sets().iter().flat_map(|set| &set.objects).any(mentions),
            "no object uses {wanted_name}"
        );
    }
}

#[test]
fn everything_is_in_the_namespace_of_its_set() {
    for set in sets() {
        let namespace_names: Vec<&str> = set.of_kind("Namespace").map(name).collect();
        let [namespace_name] = namespace_names[..] else {
            panic!("{}: {namespace_names:?}", set.from)
        };
        for object in set.objects.iter().filter(|o| !CLUSTER_KINDS.contains(&kind(o))) {
            assert_eq!(
                namespace(object),
                namespace_name,
                "{}: {}",
                set.from,
                kind_and_name(object)
            );
        }
    }
}

#[test]
fn volumes_and_mounts_belong_together() {
    for set in sets() {
        for object in &set.objects {
            let Some(template) = template(object) else { continue };
            let volumes: Vec<&str> =
                list(template, "/spec/volumes").iter().map(|v| text(v, "/name")).collect();
            let mounted: Vec<&str> = containers(template)
                .flat_map(|c| list(c, "/volumeMounts"))
                .map(|mount| text(mount, "/name"))
                .collect();
            let location = format!("{}: {}", set.from, kind_and_name(object));
            assert!(mounted.iter().all(|name| volumes.contains(name)), "{location}: {mounted:?}");
            assert!(volumes.iter().all(|name| mounted.contains(name)), "{location}: {volumes:?}");
        }
    }
}

#[test]
fn keys_are_in_what_they_are_taken_from() {
    for set in sets() {
        for object in &set.objects {
            let Some(template) = template(object) else { continue };
            for volume in list(template, "/spec/volumes") {
                let map = set.get("ConfigMap", text(volume, "/configMap/name"));
                let Some(map) = map else { continue };
                let mounts = containers(template).flat_map(|c| list(c, "/volumeMounts"));
                for mount in mounts.filter(|m| text(m, "/name") == text(volume, "/name")) {
                    let key = text(mount, "/subPath");
                    let exists = key.is_empty() || map["data"].get(key).is_some();
                    assert!(exists, "{}: no {key} in {}", set.from, kind_and_name(map));
                }
            }
        }
    }
}

#[test]
fn selectors_meet_pods() {
    for set in sets() {
        let pods: Vec<&Value> = set.objects.iter().filter_map(template).collect();
        for object in &set.objects {
            let selector = match kind(object) {
                "Deployment" | "PodMonitor" => object.pointer("/spec/selector"),
                "Service" => object.pointer("/spec/selector"),
                "NetworkPolicy" => object.pointer("/spec/podSelector"),
                _ => None,
            };
            let Some(selector) = selector else { continue };
            let selected: Vec<&&Value> =
                pods.iter().filter(|p| selects(selector, labels(p))).collect();
            let location = format!("{}: {}", set.from, kind_and_name(object));
            assert!(!selected.is_empty(), "{location} selects no pod");
            if kind(object) == "Deployment" {
                assert_eq!(selected.len(), 1, "{location} selects pods of others");
                assert_eq!(
                    Some(*selected[0]),
                    template(object),
                    "{location} does not select its own pods"
                );
            }
            // A value that selects nothing is a name that has changed elsewhere.
            for expression in list(selector, "/matchExpressions") {
                for value in texts(expression, "/values") {
                    let key = text(expression, "/key");
                    let has = |pod: &&Value| labels(pod)[key] == value;
                    assert!(pods.iter().any(has), "{location}: nothing has {key}={value}");
                }
            }
            for port in ports_of(object) {
                let has = |pod: &&&Value| {
                    containers(pod).flat_map(|c| list(c, "/ports")).any(|p| p["name"] == port)
                };
                assert!(selected.iter().all(has), "{location}: a pod has no port {port}");
            }
        }
    }
}

/// The names of ports that an object wants its pods to have.
fn ports_of(object: &Value) -> Vec<&str> {
    let (pointer, field) = match kind(object) {
        "Service" => ("/spec/ports", "/targetPort"),
        "PodMonitor" => ("/spec/podMetricsEndpoints", "/port"),
        _ => return Vec::new(),
    };
    list(object, pointer).iter().map(|port| text(port, field)).collect()
}

#[test]
fn pods_that_must_be_together_or_apart_mean_each_other() {
    for set in sets() {
        for object in &set.objects {
            let Some(template) = template(object) else { continue };
            let required =
                "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution";
            let terms = list(template, required).iter();
            for term in terms.chain(list(template, "/spec/topologySpreadConstraints")) {
                let selects_itself = selects(&term["labelSelector"], labels(template));
                assert!(
                    selects_itself,
                    "{}: {} does not mean itself",
                    set.from,
                    kind_and_name(object)
                );
            }
        }
    }
}

#[test]
fn a_single_node_means_all_pods_that_mount_the_volume() {
    let mut seen = 0;
    for set in sets() {
        let is_single = |claim: &Value| {
            name(claim) == "provisioning-data-pvc"
                && texts(claim, "/spec/accessModes") == ["ReadWriteOnce"]
        };
        let is_single = set.of_kind("PersistentVolumeClaim").any(is_single);
        seen += u32::from(is_single);
        // Pods of the examples are for every kind of volume.
        for object in set.objects.iter().filter(|object| is_single || kind(object) == "Pod") {
            let Some(template) = template(object) else { continue };
            let mounts = referenced_objects(template)
                .contains(&("PersistentVolumeClaim", "provisioning-data-pvc"));
            let is_bound = template.pointer("/spec/affinity/podAffinity").is_some();
            assert!(
                is_bound || !mounts,
                "{}: {} may go elsewhere",
                set.from,
                kind_and_name(object)
            );
        }
    }
    assert!(seen >= 2, "no set with ReadWriteOnce");
}

#[test]
fn rules_for_failed_pods_name_their_container() {
    for set in sets() {
        for object in &set.objects {
            let Some(job) = job(object) else { continue };
            for rule in list(job, "/podFailurePolicy/rules") {
                let container = text(rule, "/onExitCodes/containerName");
                let known = containers(&job["template"]).any(|c| text(c, "/name") == container);
                assert!(known || container.is_empty(), "{}: {container}", set.from);
            }
        }
    }
}

#[test]
fn the_job_is_what_the_cron_job_makes() {
    let set = set(JOB);
    let made = set.get("CronJob", "data-owner-resolver").and_then(job).expect("the CronJob");
    let alone = set.get("Job", "data-owner-resolver").and_then(job).expect("the Job");
    assert_eq!(made, alone);
}

#[test]
fn the_single_node_and_image_volume_stay_what_they_are() {
    let claim =
        |from| &set(from).get("PersistentVolumeClaim", "provisioning-data-pvc").unwrap()["spec"];
    assert_eq!(texts(claim("k8s/provisioning/base"), "/accessModes"), ["ReadWriteMany"]);
    let overlay = set("k8s/provisioning/overlays/image-volume");
    let provisioner = overlay.get("CronJob", "data-provisioner").and_then(template).unwrap();
    let volumes = list(provisioner, "/spec/volumes");
    let image =
        volumes.iter().find_map(|v| v.pointer("/image/reference")).expect("an image volume");
    assert!(image.as_str().unwrap().contains("/zeta-guard-provisioning:"), "{image}");
    let program = containers(provisioner).next().unwrap();
    assert!(text(program, "/image").contains("/data-owner-resolver:"), "{program}");
    assert_eq!(fields(program, "/resources").len(), 2);
}
