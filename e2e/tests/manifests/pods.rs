//! What every workload has: labels, rights, bounds, probes and deadlines.

use serde_json::{Value, json};

use crate::objects::{
    containers, job, kind, labels, list, name, namespace, spelt, template, text, texts,
};
use crate::rendered::{Set, sets};

/// The only pods that ask the API with a token that Kubernetes mounts.
const WITH_TOKEN: [&str; 1] = ["nightly-restart"];
/// The only one with a capability, to see below directories of mode 0700.
const SCANNER: &str = "data-owner-resolver";
/// Those that run as root: the scan, and who reads the file that it has written for root alone.
const ROOT: [&str; 2] = [SCANNER, "results-reader"];
/// Those that write to the provisioned volume.
const WRITERS: [&str; 2] = ["data-provisioner", "provisioner-shell"];
/// Sources of volumes that the level `restricted` allows.
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

/// Calls `check` with each object that makes pods, its template, and what to call it.
fn each(mut check: impl FnMut(&'static Set, &'static Value, &'static Value, &str)) {
    let mut count = 0;
    for set in sets() {
        for object in &set.objects {
            if let Some(template) = template(object) {
                count += 1;
                check(set, object, template, &format!("{}: {}", set.from, spelt(object)));
            }
        }
    }
    assert!(count > 20, "only {count} workloads");
}

#[test]
fn every_object_has_the_common_labels() {
    let common =
        ["app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of"];
    // Made by kustomize, or the same for all.
    let fewer = ["ConfigMap", "Secret", "Namespace"];
    for set in sets() {
        for object in &set.objects {
            let wanted = if fewer.contains(&kind(object)) { &common[2..] } else { &common };
            for label in wanted {
                let of = format!("{}: {}", set.from, spelt(object));
                let found = object["metadata"]["labels"].get(label);
                assert!(found.is_some(), "{of} has no {label}");
                let inner = [object.pointer("/spec/jobTemplate"), template(object)];
                for part in inner.into_iter().flatten() {
                    assert_eq!(labels(part).get(label), found, "{of}: {label}");
                }
            }
        }
    }
}

#[test]
fn pods_have_no_more_rights_than_they_need() {
    each(|_, object, template, of| {
        let pod = &template["spec"];
        let is_scanner = name(object) == SCANNER;
        let is_root = ROOT.contains(&name(object));
        let context = &pod["securityContext"];
        assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{of}");
        assert_eq!(context["runAsNonRoot"], !is_root, "{of}");
        assert_eq!(context["runAsUser"] == 0, is_root, "{of}: {context}");
        assert!(context["runAsUser"].is_number(), "{of}: {context}");
        let token = WITH_TOKEN.contains(&name(object));
        assert_eq!(pod["automountServiceAccountToken"], token, "{of}");
        assert_eq!(pod["enableServiceLinks"], false, "{of}");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(field).is_none(), "{of}: {field}");
        }
        for container in containers(template) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{of}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{of}");
            assert_eq!(texts(context, "/capabilities/drop"), ["ALL"], "{of}");
            let added: &[&str] = if is_scanner { &["DAC_READ_SEARCH"] } else { &[] };
            assert_eq!(texts(context, "/capabilities/add"), added, "{of}");
            for field in ["privileged", "runAsUser", "seccompProfile"] {
                assert!(context.get(field).is_none(), "{of}: {field}");
            }
        }
    });
}

#[test]
fn a_namespace_allows_what_its_pods_need_and_no_more() {
    each(|set, object, template, of| {
        let space = set.get("Namespace", namespace(object)).expect("the namespace");
        let level = &space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        let sources = list(template, "/spec/volumes").iter().flat_map(|volume| {
            volume.as_object().expect("a volume").keys().filter(|key| *key != "name")
        });
        let beyond: Vec<&String> =
            sources.filter(|source| !RESTRICTED_VOLUMES.contains(&source.as_str())).collect();
        match level.as_str() {
            Some("restricted") => assert!(beyond.is_empty(), "{of}: {beyond:?}"),
            Some("privileged") if name(object) != SCANNER => assert!(beyond.is_empty(), "{of}"),
            Some("privileged") => assert_eq!(beyond, ["hostPath"], "{of}"),
            _ => panic!("{of}: {level}"),
        }
    });
}

#[test]
fn containers_are_bounded_and_say_why_they_ended() {
    each(|_, _, template, of| {
        for container in containers(template) {
            let resources = &container["resources"];
            for bound in ["requests", "limits"] {
                for what in ["cpu", "memory"] {
                    assert!(resources[bound][what].is_string(), "{of}: no {what} in {bound}");
                }
            }
            assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "{of}");
            let image = text(container, "/image");
            let (_, tag) =
                image.rsplit_once('/').and_then(|(_, last)| last.split_once(':')).expect(image);
            assert_ne!(tag, "latest", "{of}: {image}");
            let moves = tag == "stable";
            let policy = if moves { "Always" } else { "IfNotPresent" };
            assert_eq!(container["imagePullPolicy"], policy, "{of}: {image}");
        }
        for volume in list(template, "/spec/volumes") {
            let is_bounded = volume.get("emptyDir").is_none_or(|dir| dir["sizeLimit"].is_string());
            assert!(is_bounded, "{of}: {volume}");
        }
    });
}

#[test]
fn what_runs_on_is_probed() {
    each(|_, object, template, of| {
        let sidecars = list(template, "/spec/initContainers").iter();
        let sidecars: Vec<&Value> = sidecars.filter(|c| c["restartPolicy"] == "Always").collect();
        assert_eq!(sidecars.len(), list(template, "/spec/initContainers").len(), "{of}");
        let is_long = kind(object) == "Deployment";
        let mains = list(template, "/spec/containers").iter().filter(|_| is_long);
        for container in sidecars.into_iter().chain(mains) {
            let probe = &container["livenessProbe"]["httpGet"];
            let port = list(container, "/ports").iter().find(|port| port["name"] == probe["port"]);
            assert!(port.is_some(), "{of}: {probe}");
            if text(container, "/command/0").ends_with("/reloader") {
                assert_eq!(probe["path"], "/healthz", "{of}");
                assert_eq!(port.unwrap()["containerPort"], 9533, "{of}");
            }
        }
    });
}

#[test]
fn jobs_end_and_mistakes_end_them_at_once() {
    each(|_, object, _, of| {
        let Some(job) = job(object) else { return };
        for field in ["activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
            assert!(job[field].is_u64(), "{of}: no {field}");
        }
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "{of}");
        let container = text(&job["template"], "/spec/containers/0/name");
        let first = &job["podFailurePolicy"]["rules"][0];
        assert_eq!(
            *first,
            json!({"action": "FailJob", "onExitCodes":
                {"containerName": container, "operator": "In", "values": [2]}}),
            "{of}"
        );
        if kind(object) == "CronJob" {
            let cron = &object["spec"];
            assert_eq!(cron["timeZone"], "Etc/UTC", "{of}");
            assert_eq!(cron["concurrencyPolicy"], "Forbid", "{of}");
            assert!(cron["startingDeadlineSeconds"].is_u64(), "{of}");
        }
    });
}

#[test]
fn only_the_provisioner_writes_and_hosts_are_only_read() {
    let mut hosts = 0;
    each(|_, object, template, of| {
        for volume in list(template, "/spec/volumes") {
            let mounts = containers(template).flat_map(|c| list(c, "/volumeMounts"));
            for mount in mounts.filter(|mount| mount["name"] == volume["name"]) {
                if volume.get("hostPath").is_some() {
                    hosts += 1;
                    assert_eq!(mount["readOnly"], true, "{of}");
                    assert_eq!(mount["recursiveReadOnly"], "Enabled", "{of}");
                }
                let claim = &volume["persistentVolumeClaim"];
                if claim["claimName"] == "provisioning-data-pvc" {
                    let reads = !WRITERS.contains(&name(object));
                    assert_eq!(mount["readOnly"] == true, reads, "{of}");
                    assert_eq!(claim["readOnly"] == true, reads, "{of}");
                    // Links of what is published lead nowhere in a mount of a part of it.
                    assert!(mount.get("subPath").is_none(), "{of}");
                }
            }
        }
    });
    assert!(hosts > 0, "no hostPath was seen");
}

#[test]
fn signals_reach_nginx() {
    each(|_, object, template, of| {
        let signals = containers(template).any(|c| texts(c, "/args").contains(&"--process"));
        assert_eq!(signals, name(object) == "nginx", "{of}");
        assert_eq!(template["spec"]["shareProcessNamespace"] == true, signals, "{of}");
    });
}
