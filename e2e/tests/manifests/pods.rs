//! Rules for every workload: labels, rights, resource limits, probes and deadlines.

use serde_json::{Value, json};

use crate::objects::{
    containers, fields, job, kind, kind_and_name, labels, list, name, namespace, template, text,
    texts,
};
use crate::rendered::{Set, sets};

/// The workloads whose pods call the API with the token that Kubernetes mounts.
const TOKEN_WORKLOADS: [&str; 1] = ["nightly-restart"];
/// The only workload with a capability. It reads directories of mode 0700 that others own.
const SCANNER: &str = "data-owner-resolver";
/// The workloads that run as root: the scan, and the reader of its results, which only root may read.
const ROOT_WORKLOADS: [&str; 2] = [SCANNER, "results-reader"];
/// The workloads that write to the provisioned volume.
const WRITERS: [&str; 2] = ["data-provisioner", "provisioner-shell"];
/// The volume types that the Pod Security Standard `restricted` allows.
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Calls `check` with the set, the object, its pod template and the object's location for messages,
/// for each object that makes pods.
fn for_each_workload(mut check: impl FnMut(&'static Set, &'static Value, &'static Value, &str)) {
    let mut count = 0;
    for set in sets() {
        for object in &set.objects {
            if let Some(template) = template(object) {
                count += 1;
                check(set, object, template, &format!("{}: {}", set.from, kind_and_name(object)));
            }
        }
    }
    assert!(count > 20, "only {count} workloads");
}

#[test]
fn every_object_has_the_common_labels() {
    let common =
        ["app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of"];
    // Kustomize generates these, or all workloads share them.
    let fewer = ["ConfigMap", "Secret", "Namespace"];
    for set in sets() {
        for object in &set.objects {
            let wanted = if fewer.contains(&kind(object)) { &common[2..] } else { &common };
            for label in wanted {
                let location = format!("{}: {}", set.from, kind_and_name(object));
                let found = object["metadata"]["labels"].get(label);
                assert!(found.is_some(), "{location} has no {label}");
                let inner = [object.pointer("/spec/jobTemplate"), template(object)];
                for part in inner.into_iter().flatten() {
                    assert_eq!(labels(part).get(label), found, "{location}: {label}");
                }
            }
        }
    }
}

#[test]
fn pods_have_no_more_rights_than_they_need() {
    for_each_workload(|_, object, template, location| {
        let pod = &template["spec"];
        let is_scanner = name(object) == SCANNER;
        let is_root = ROOT_WORKLOADS.contains(&name(object));
        let context = &pod["securityContext"];
        assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{location}");
        assert_eq!(context["runAsNonRoot"], !is_root, "{location}");
        assert_eq!(context["runAsUser"] == 0, is_root, "{location}: {context}");
        assert!(context["runAsUser"].is_number(), "{location}: {context}");
        let token = TOKEN_WORKLOADS.contains(&name(object));
        assert_eq!(pod["automountServiceAccountToken"], token, "{location}");
        assert_eq!(pod["enableServiceLinks"], false, "{location}");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(field).is_none(), "{location}: {field}");
        }
        for container in containers(template) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{location}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{location}");
            assert_eq!(texts(context, "/capabilities/drop"), ["ALL"], "{location}");
            let added: &[&str] = if is_scanner { &["DAC_READ_SEARCH"] } else { &[] };
            assert_eq!(texts(context, "/capabilities/add"), added, "{location}");
            for field in ["privileged", "runAsUser", "seccompProfile"] {
                assert!(context.get(field).is_none(), "{location}: {field}");
            }
        }
    });
}

#[test]
fn a_namespace_enforces_the_strictest_level_that_its_pods_meet() {
    for_each_workload(|set, object, template, location| {
        let namespace_object = set.get("Namespace", namespace(object)).expect("the namespace");
        let level = &namespace_object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        let sources = list(template, "/spec/volumes").iter().flat_map(|volume| {
            volume.as_object().expect("a volume").keys().filter(|key| *key != "name")
        });
        let not_restricted: Vec<&String> =
            sources.filter(|source| !RESTRICTED_VOLUMES.contains(&source.as_str())).collect();
        match level.as_str() {
            Some("restricted") => {
                assert!(not_restricted.is_empty(), "{location}: {not_restricted:?}");
            }
            Some("privileged") if name(object) != SCANNER => {
                assert!(not_restricted.is_empty(), "{location}");
            }
            Some("privileged") => assert_eq!(not_restricted, ["hostPath"], "{location}"),
            _ => panic!("{location}: {level}"),
        }
    });
}

#[test]
fn containers_have_limits_pinned_images_and_termination_messages() {
    for_each_workload(|_, _, template, location| {
        for container in containers(template) {
            let resources = &container["resources"];
            for bound in ["requests", "limits"] {
                for resource in ["cpu", "memory"] {
                    assert!(
                        resources[bound][resource].is_string(),
                        "{location}: no {resource} in {bound}"
                    );
                }
            }
            assert_eq!(
                container["terminationMessagePolicy"], "FallbackToLogsOnError",
                "{location}"
            );
            let image = text(container, "/image");
            let last = image.rsplit('/').next().expect("a name");
            let is_pinned = last.contains("@sha256:");
            let tag = last.split_once(':').expect(image).1;
            assert_ne!(tag, "latest", "{location}: {image}");
            let moves = tag == "stable" && !is_pinned;
            let policy = if moves { "Always" } else { "IfNotPresent" };
            assert_eq!(container["imagePullPolicy"], policy, "{location}: {image}");
        }
        for volume in list(template, "/spec/volumes") {
            let is_bounded = volume.get("emptyDir").is_none_or(|dir| dir["sizeLimit"].is_string());
            assert!(is_bounded, "{location}: {volume}");
        }
    });
}

/// Field name and HTTP path of each probe.
type Probes = &'static [(&'static str, &'static str)];

/// Workload, container and probes of each container that does not end.
const PROBES: [(&str, &str, Probes); 6] = [
    ("nginx", "reloader", &[("livenessProbe", "/healthz")]),
    ("nginx", "nginx", &[("livenessProbe", "/healthz"), ("readinessProbe", "/healthz")]),
    // `/health/started` is up before Keycloak's bootstrap has ended.
    (
        "keycloak",
        "keycloak",
        &[
            ("livenessProbe", "/health/live"),
            ("readinessProbe", "/health/ready"),
            ("startupProbe", "/health/ready"),
        ],
    ),
    (
        "keycloak-reloader",
        "reloader",
        &[("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")],
    ),
    // A startup probe with `/readyz` would never succeed: OPA starts after it, and reloader is ready
    // once OPA has the bundle.
    ("opa", "reloader", &[("livenessProbe", "/healthz")]),
    ("opa", "opa", &[("livenessProbe", "/health"), ("readinessProbe", "/health?bundles")]),
];

#[test]
fn containers_that_do_not_end_have_probes() {
    for_each_workload(|_, object, template, location| {
        let sidecars = list(template, "/spec/initContainers").iter();
        let sidecars: Vec<&Value> = sidecars.filter(|c| c["restartPolicy"] == "Always").collect();
        assert_eq!(sidecars.len(), list(template, "/spec/initContainers").len(), "{location}");
        let is_long = kind(object) == "Deployment";
        let mains = list(template, "/spec/containers").iter().filter(|_| is_long);
        for container in sidecars.into_iter().chain(mains) {
            let found: Vec<(&str, &str)> = fields(container, "")
                .into_iter()
                .filter(|(field, _)| field.ends_with("Probe"))
                .map(|(field, probe)| (field, text(probe, "/httpGet/path")))
                .collect();
            let is_for_container = |(pod, container_name, _): &&(&str, &str, Probes)| {
                (*pod, *container_name) == (name(object), text(container, "/name"))
            };
            let (_, _, expected) = PROBES.iter().find(is_for_container).expect(location);
            assert_eq!(found, *expected, "{location}");
            for (probe, _) in found {
                let port = &container[probe]["httpGet"]["port"];
                let declared = list(container, "/ports").iter().find(|p| p["name"] == *port);
                assert!(declared.is_some(), "{location}: {probe}: {port}");
            }
        }
    });
}

#[test]
fn jobs_have_deadlines_and_usage_errors_are_not_retried() {
    for_each_workload(|_, object, _, location| {
        let Some(job) = job(object) else { return };
        for field in ["activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
            assert!(job[field].is_u64(), "{location}: no {field}");
        }
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "{location}");
        let container = text(&job["template"], "/spec/containers/0/name");
        let first = &job["podFailurePolicy"]["rules"][0];
        assert_eq!(
            *first,
            json!({"action": "FailJob", "onExitCodes":
                {"containerName": container, "operator": "In", "values": [2]}}),
            "{location}"
        );
        if kind(object) == "CronJob" {
            let cron = &object["spec"];
            assert_eq!(cron["timeZone"], "Etc/UTC", "{location}");
            assert_eq!(cron["concurrencyPolicy"], "Forbid", "{location}");
            assert!(cron["startingDeadlineSeconds"].is_u64(), "{location}");
            assert!(is_schedule(text(cron, "/schedule")), "{location}: {}", cron["schedule"]);
        }
    });
}

/// Whether this is a valid cron schedule: five fields of numbers, steps and ranges, each in its bounds.
/// The schemas of Kubernetes do not check schedules.
fn is_schedule(schedule: &str) -> bool {
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    let is_number = |word: &str, (least, most): (u32, u32)| {
        word.parse::<u32>().is_ok_and(|number| (least..=most).contains(&number))
    };
    let is_part = |part: &str, bounds| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let is_range = match range.split_once('-') {
            Some((first, last)) => is_number(first, bounds) && is_number(last, bounds),
            None => range == "*" || is_number(range, bounds),
        };
        is_range && is_number(step, (1, 59))
    };
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let is_field =
        |(field, bounds): (&&str, (u32, u32))| field.split(',').all(|part| is_part(part, bounds));
    fields.len() == bounds.len() && fields.iter().zip(bounds).all(is_field)
}

#[test]
fn invalid_schedules_are_refused() {
    for schedule in ["0 2 * * *", "15 */6 * * *", "0,30 1-5 1 12 0"] {
        assert!(is_schedule(schedule), "{schedule}");
    }
    for schedule in ["0 25 * * *", "0 2 * *", "60 2 * * *", "0 2 0 * *", "@daily", "0 2- * * *"] {
        assert!(!is_schedule(schedule), "{schedule}");
    }
}

#[test]
fn only_writers_mount_the_claim_writable_and_host_paths_are_read_only() {
    let mut host_mounts = 0;
    for_each_workload(|_, object, template, location| {
        for volume in list(template, "/spec/volumes") {
            let mounts = containers(template).flat_map(|c| list(c, "/volumeMounts"));
            for mount in mounts.filter(|mount| mount["name"] == volume["name"]) {
                if volume.get("hostPath").is_some() {
                    host_mounts += 1;
                    assert_eq!(mount["readOnly"], true, "{location}");
                    assert_eq!(mount["recursiveReadOnly"], "Enabled", "{location}");
                }
                let claim = &volume["persistentVolumeClaim"];
                if claim["claimName"] == "provisioning-data-pvc" {
                    let is_reader = !WRITERS.contains(&name(object));
                    assert_eq!(mount["readOnly"] == true, is_reader, "{location}");
                    assert_eq!(claim["readOnly"] == true, is_reader, "{location}");
                    // The published symbolic links would dangle in a mount of a subdirectory.
                    assert!(mount.get("subPath").is_none(), "{location}");
                }
            }
        }
    });
    assert!(host_mounts > 0, "no workload mounts a hostPath");
}

#[test]
fn only_the_nginx_pod_shares_processes_and_signals_the_master() {
    for_each_workload(|_, object, template, location| {
        // The process title of nginx's master process.
        let wanted = ["--process", "nginx: master"];
        let signals = containers(template).any(|c| texts(c, "/args").starts_with(&wanted));
        assert_eq!(signals, name(object) == "nginx", "{location}");
        assert_eq!(template["spec"]["shareProcessNamespace"] == true, signals, "{location}");
    });
}
