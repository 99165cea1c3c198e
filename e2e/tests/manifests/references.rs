//! References between objects: each name, key, label and port that an object refers to exists.

use serde_json::Value;

use crate::objects::{
    containers, fields, job, kind, kind_and_name, labels, list, name, namespace, selects, template,
    text, texts,
};
use crate::rendered::{JOB, Set, set, sets};
use crate::tools::read;

/// Objects that the site creates with commands from the operations guide.
const MADE_BY_THE_SITE: [(&str, &str); 3] = [
    ("Secret", "keycloak-database"),
    ("Secret", "keycloak-tls"),
    ("Secret", "registry-credentials"),
];
/// Objects that Kubernetes creates in each namespace.
const MADE_BY_KUBERNETES: [(&str, &str); 1] = [("ConfigMap", "kube-root-ca.crt")];

/// The guide with the commands that create [`MADE_BY_THE_SITE`].
const GUIDE: &str = "docs/OPERATIONS.md";

/// The cluster-scoped kinds.
const CLUSTER_KINDS: [&str; 1] = ["Namespace"];

/// Kind and name of each object that a pod template refers to.
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

/// Whether the object is in the set, or is created by an operator, the site or Kubernetes.
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
fn every_object_that_a_pod_refers_to_exists() {
    for set in sets() {
        for object in &set.objects {
            for (wanted_kind, wanted_name) in
                template(object).map(referenced_objects).unwrap_or_default()
            {
                let exists = exists(set, namespace(object), wanted_kind, wanted_name);
                assert!(
                    exists,
                    "{}: {} refers to the missing {wanted_kind}/{wanted_name}",
                    set.from,
                    kind_and_name(object)
                );
            }
        }
    }
}

#[test]
fn the_guide_has_a_command_for_each_object_that_the_site_creates() {
    let guide = read(GUIDE);
    for (_, wanted_name) in MADE_BY_THE_SITE {
        let command = |line: &str| {
            line.contains("create secret")
                && line.split_whitespace().any(|word| word == wanted_name)
        };
        assert!(guide.lines().any(command), "{GUIDE} has no command that creates {wanted_name}");
        let refers_to_it = |object: &Value| {
            template(object)
                .is_some_and(|t| referenced_objects(t).contains(&("Secret", wanted_name)))
        };
        assert!(
            sets().iter().flat_map(|set| &set.objects).any(refers_to_it),
            "no object uses {wanted_name}"
        );
    }
}

#[test]
fn objects_are_in_the_namespace_of_their_set() {
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
fn every_mount_has_a_volume_and_every_volume_is_mounted() {
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
fn mounted_keys_are_in_their_config_map() {
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
fn selectors_select_the_intended_pods() {
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
                assert_eq!(selected.len(), 1, "{location} selects pods of other objects");
                assert_eq!(
                    Some(*selected[0]),
                    template(object),
                    "{location} does not select its own pods"
                );
            }
            // If no pod has the value, the label was renamed in one place alone.
            for expression in list(selector, "/matchExpressions") {
                for value in texts(expression, "/values") {
                    let key = text(expression, "/key");
                    let has = |pod: &&Value| labels(pod)[key] == value;
                    assert!(pods.iter().any(has), "{location}: no pod has {key}={value}");
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

/// The names of the container ports that an object refers to.
fn ports_of(object: &Value) -> Vec<&str> {
    let (pointer, field) = match kind(object) {
        "Service" => ("/spec/ports", "/targetPort"),
        "PodMonitor" => ("/spec/podMetricsEndpoints", "/port"),
        _ => return Vec::new(),
    };
    list(object, pointer).iter().map(|port| text(port, field)).collect()
}

#[test]
fn affinity_and_spread_terms_select_the_pods_that_have_them() {
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
                    "{}: {} does not select itself",
                    set.from,
                    kind_and_name(object)
                );
            }
        }
    }
}

#[test]
fn pods_that_mount_a_read_write_once_volume_stay_on_one_node() {
    let mut seen = 0;
    for set in sets() {
        let is_single = |claim: &Value| {
            name(claim) == "provisioning-data-pvc"
                && texts(claim, "/spec/accessModes") == ["ReadWriteOnce"]
        };
        let is_single = set.of_kind("PersistentVolumeClaim").any(is_single);
        seen += u32::from(is_single);
        // The pods of the examples must work with every access mode.
        for object in set.objects.iter().filter(|object| is_single || kind(object) == "Pod") {
            let Some(template) = template(object) else { continue };
            let mounts = referenced_objects(template)
                .contains(&("PersistentVolumeClaim", "provisioning-data-pvc"));
            let is_bound = template.pointer("/spec/affinity/podAffinity").is_some();
            assert!(
                is_bound || !mounts,
                "{}: {} may be scheduled to another node",
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
fn the_job_equals_the_job_of_the_cron_job() {
    let set = set(JOB);
    let made = set.get("CronJob", "data-owner-resolver").and_then(job).expect("the CronJob");
    let alone = set.get("Job", "data-owner-resolver").and_then(job).expect("the Job");
    assert_eq!(made, alone);
}

#[test]
fn the_base_is_read_write_many_and_the_image_volume_overlay_uses_two_images() {
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
