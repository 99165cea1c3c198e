//! Settings in different files that must agree: data paths, users and groups, image versions, ports.

use std::collections::BTreeMap;

use e2e::programs::{command, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::documents::pages;
use crate::objects::{containers, fields, kind_and_name, list, name, template, text, texts};
use crate::rendered::{Set, set, sets};
use crate::tools::{read, top};

const BASE: &str = "k8s/provisioning/base";
const VERIFIED: &str = "k8s/provisioning/overlays/verified";
/// The claim of the provisioned volume.
const CLAIM: &str = "provisioning-data-pvc";

/// Translates a path in a container to a path on the provisioned volume.
fn published<'p>(pod: &Value, container: &Value, path: &'p str) -> Option<&'p str> {
    let is_claim = |v: &&Value| text(v, "/persistentVolumeClaim/claimName") == CLAIM;
    let volume = list(pod, "/spec/volumes").iter().find(is_claim)?;
    let mut mounts = list(container, "/volumeMounts").iter();
    let mount = mounts.find(|mount| mount["name"] == volume["name"])?;
    path.strip_prefix(text(mount, "/mountPath"))?.strip_prefix('/')
}

fn pod<'s>(set: &'s Set, deployment: &str) -> &'s Value {
    set.get("Deployment", deployment).and_then(template).expect(deployment)
}

fn container<'p>(pod: &'p Value, wanted_name: &str) -> &'p Value {
    containers(pod).find(|c| text(c, "/name") == wanted_name).expect(wanted_name)
}

#[test]
fn each_application_reads_the_folder_that_the_guides_name() {
    let set = set(BASE);
    let config = |prefix: &str| {
        &set.of_kind("ConfigMap").find(|map| name(map).starts_with(prefix)).expect(prefix)["data"]
    };

    let (keycloak, watcher) = (pod(set, "keycloak"), pod(set, "keycloak-reloader"));
    let path = text(config("keycloak-config-"), "/KC_TRUSTSTORE_PATHS");
    assert_eq!(published(keycloak, container(keycloak, "keycloak"), path), Some("truststores"));
    let watched = container(watcher, "reloader");
    let path = texts(watched, "/args").last().copied().expect("the watched directory");
    assert_eq!(published(watcher, watched, path), Some("truststores"));

    let nginx = pod(set, "nginx");
    let conf = text(config("nginx-config-"), "/nginx.conf");
    let included = conf.lines().filter_map(|line| line.trim().strip_prefix("include "));
    let path =
        included.map(|path| path.trim_end_matches(';')).find(|path| path.ends_with("/*.conf"));
    let path = path.expect("an include of published files");
    assert_eq!(published(nginx, container(nginx, "nginx"), path), Some("nginx/*.conf"));

    let opa = pod(set, "opa");
    let sidecar = container(opa, "reloader");
    let path = texts(sidecar, "/args").last().copied().expect("the watched directory");
    assert_eq!(published(opa, sidecar, path), Some("opa"));

    for guide in ["docs/OPERATIONS.md", "docs/BEREITSTELLUNG.de.md"] {
        let guide = read(guide);
        for folder in ["`truststores`", "`nginx", "`opa`"] {
            assert!(guide.contains(folder), "{folder}");
        }
    }
}

#[test]
fn keycloak_reloads_its_certificate_from_the_mounted_secret() {
    for set in sets().iter().filter(|set| !set.is_ownership) {
        let pod = pod(set, "keycloak");
        let mut mounts = list(container(pod, "keycloak"), "/volumeMounts").iter();
        let tls =
            mounts.find(|mount| mount["name"] == "tls").expect("the mount of the certificate");
        let map = set.of_kind("ConfigMap").find(|map| name(map).starts_with("keycloak-config-"));
        let config = &map.expect("the ConfigMap")["data"];
        // The keys of a Secret of the type kubernetes.io/tls.
        for (setting, key) in
            [("KC_HTTPS_CERTIFICATE_FILE", "tls.crt"), ("KC_HTTPS_CERTIFICATE_KEY_FILE", "tls.key")]
        {
            assert_eq!(config[setting], format!("{}/{key}", text(tls, "/mountPath")));
        }
        // With less than 30 seconds Keycloak ends.
        assert_eq!(config["KC_HTTPS_CERTIFICATES_RELOAD_PERIOD"], "10m");
    }
}

#[test]
fn keycloak_serves_until_services_stop_sending_requests_and_ends_in_time() {
    for set in sets().iter().filter(|set| !set.is_ownership) {
        let map = set.of_kind("ConfigMap").find(|map| name(map).starts_with("keycloak-config-"));
        let delay = text(map.expect("the ConfigMap"), "/data/KC_SHUTDOWN_DELAY");
        let delay = delay.strip_suffix('s').expect("seconds").parse::<u64>().expect("a number");
        let grace = &pod(set, "keycloak")["spec"]["terminationGracePeriodSeconds"];
        // Without the setting Kubernetes waits for 30 seconds. After the delay Keycloak needs a few.
        let grace = grace.as_u64().unwrap_or(30);
        assert!((10..=grace - 15).contains(&delay), "{}: {delay} of {grace} s", set.from);
    }
}

/// A volume belongs to root until `fsGroup` gives it to a group, and Secrets and tokens are readable by
/// that group alone.
#[test]
fn pods_without_root_access_volumes_and_secrets_by_their_group() {
    for set in sets() {
        for object in &set.objects {
            let Some(pod) = template(object) else { continue };
            let context = &pod["spec"]["securityContext"];
            let location = format!("{}: {}", set.from, kind_and_name(object));
            let is_root = context["runAsUser"] == 0;
            let mounts: Vec<&Value> =
                containers(pod).flat_map(|c| list(c, "/volumeMounts")).collect();
            for volume in list(pod, "/spec/volumes") {
                let is_written =
                    mounts.iter().any(|m| m["name"] == volume["name"] && m["readOnly"] != true);
                let claim = volume.get("persistentVolumeClaim").is_some() && is_written;
                let secret = volume.get("secret").or_else(|| volume.get("projected"));
                let mode = secret.and_then(|secret| secret["defaultMode"].as_u64());
                if (claim || mode.is_some()) && !is_root {
                    assert_eq!(context["fsGroup"], context["runAsGroup"], "{location}: {volume}");
                    assert!(context["fsGroup"].is_u64(), "{location}: {volume}");
                }
                // Readable by root, or by root and the group.
                let expected = if is_root { 0o400 } else { 0o440 };
                assert_eq!(mode.unwrap_or(expected), expected, "{location}: {volume}");
            }
        }
    }
}

/// Name and literal value of each variable of a container.
fn variables(container: &Value) -> Vec<(&str, &str)> {
    list(container, "/env").iter().map(|v| (text(v, "/name"), text(v, "/value"))).collect()
}

#[test]
fn published_files_are_readable_if_applications_run_as_other_users() {
    for set in sets().iter().filter(|set| !set.is_ownership) {
        let pod = set.get("CronJob", "data-provisioner").and_then(template).expect("it");
        let user = |pod: &Value| pod["spec"]["securityContext"]["runAsUser"].clone();
        let readers = set.of_kind("Deployment").filter_map(template);
        let is_other = readers.map(user).any(|reader| reader != user(pod));
        let has = variables(container(pod, "provisioner"));
        assert_eq!(has.contains(&("PROVISIONER_READABLE", "true")), is_other, "{}", set.from);
    }
}

#[test]
fn the_verified_overlay_pins_the_digest_and_requires_checksums() {
    let set = set(VERIFIED);
    let pod = set.get("CronJob", "data-provisioner").and_then(template).expect("it");
    let provisioner = container(pod, "provisioner");
    let (image, digest) = text(provisioner, "/image").split_once("@sha256:").expect("a digest");
    assert!(image.ends_with("/zeta-guard-provisioning"), "{image}");
    assert_eq!(digest.len(), 64);

    // Runs provisioner with the pod's variables.
    let place = TempDir::new().unwrap();
    let volume = place.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let publish = |source: &std::path::Path| {
        let mut provisioner_here = command("provisioner");
        provisioner_here.envs(variables(provisioner)).args(["--grace", "0", "--source"]);
        run(provisioner_here.arg(source).arg("--target").arg(&volume), b"")
    };
    let example = top().join("examples/zeta-guard-provisioning");
    let outcome = publish(&example);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    // An unlisted file, a file with another checksum, and no list are refused.
    let assert_refused = |content: &str, list: Option<&str>| {
        let source = TempDir::new().unwrap();
        std::fs::write(source.path().join("file"), content).unwrap();
        if let Some(list) = list {
            std::fs::write(source.path().join("SHA256SUMS"), list).unwrap();
        }
        let outcome = publish(source.path());
        assert!([Some(1), Some(2)].contains(&outcome.code), "{content}: {outcome:?}");
        assert!(outcome.stderr.contains("SHA256SUMS"), "{outcome:?}");
    };
    let checksums = read("examples/zeta-guard-provisioning/SHA256SUMS");
    assert_refused("content\n", Some(""));
    assert_refused("content\n", Some(&checksums.replace("endpoints.json", "file")));
    assert_refused("content\n", None);
    // The live version is unchanged.
    let live = std::fs::read_to_string(volume.join("endpoints.json")).unwrap();
    assert_eq!(live, read("examples/zeta-guard-provisioning/endpoints.json"));
}

#[test]
fn each_image_has_one_version_in_manifests_and_guides() {
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    let mut check = |image: &str, location: &str| {
        let (repository, tag) = image.rsplit_once(':').expect(image);
        // The verified overlay pins another version on purpose.
        if !repository.ends_with("@sha256") {
            let known = tags.entry(repository.to_owned()).or_insert_with(|| tag.to_owned());
            assert_eq!(known, tag, "{location}: {image}");
        }
    };
    for set in sets() {
        for object in &set.objects {
            for container in template(object).into_iter().flat_map(containers) {
                check(
                    text(container, "/image"),
                    &format!("{}: {}", set.from, kind_and_name(object)),
                );
            }
        }
    }
    for page in pages() {
        let content = read(&page);
        let is_part = |c: char| c.is_ascii_alphanumeric() || "./:-_@".contains(c);
        for word in
            content.split(|c| !is_part(c)).filter(|w| w.starts_with("registry.example.com/"))
        {
            if word.contains(':') {
                check(word.trim_end_matches(['.', ':']), &page);
            }
        }
    }
    let version = &tags["registry.example.com/data-owner-resolver"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "the programs' own version");
}

#[test]
fn the_pod_monitor_and_the_guide_name_the_metrics_endpoint() {
    let set = set("k8s/provisioning/overlays/monitoring");
    let monitor = set.get("PodMonitor", "reloader").expect("it");
    assert_eq!(text(monitor, "/spec/podMetricsEndpoints/0/path"), "/metrics");
    let guide = read("docs/OPERATIONS.md");
    let pod = pod(set, "nginx");
    let port = &container(pod, "reloader")["ports"][0]["containerPort"];
    assert!(guide.contains(&format!("`/metrics` on port {port}")), "{port}");
}

#[test]
fn policies_select_namespaces_by_their_standard_name_label() {
    for policy in sets().iter().flat_map(|set| set.of_kind("NetworkPolicy")) {
        for rule in list(policy, "/spec/ingress").iter().chain(list(policy, "/spec/egress")) {
            for peer in list(rule, "/from").iter().chain(list(rule, "/to")) {
                let labels = fields(peer, "/namespaceSelector/matchLabels").into_iter();
                let keys: Vec<&str> = labels.map(|(key, _)| key).collect();
                let is_absent = peer.get("namespaceSelector").is_none();
                assert!(is_absent || keys == ["kubernetes.io/metadata.name"], "{}", name(policy));
            }
        }
    }
}

#[test]
fn scans_tolerate_the_taints_of_the_nodes_that_they_select() {
    let set = set("k8s/ownership/overlays/node-selection");
    let scan = set.get("CronJob", "data-owner-resolver").and_then(template).expect("it");
    let selected = fields(scan, "/spec/nodeSelector");
    let tolerated: Vec<(&str, &Value)> = list(scan, "/spec/tolerations")
        .iter()
        .map(|toleration| (text(toleration, "/key"), &toleration["value"]))
        .collect();
    assert!(!selected.is_empty());
    assert_eq!(selected, tolerated);
}

#[test]
fn config_map_values_are_not_empty() {
    for set in sets() {
        for map in set.of_kind("ConfigMap") {
            for (setting, value) in fields(map, "/data") {
                assert_ne!(value, "", "{}: {setting}", set.from);
            }
        }
    }
}
