//! Builds the image of `examples/checks` upon the project's image, and publishes with it as the component
//! `checked` asks.

use std::fs;
use std::path::Path;

use e2e::certificates::Authority;
use e2e::programs::run;
use serde_json::Value;

use crate::image::IMAGE;
use crate::pod::{Pod, read, read_text};
use crate::podman::{DEBIAN, podman, workspace};
use crate::provisioning::volume;

/// An image with a file `/opa`. It accepts everything: `make test-applications` tests the check with OPA
/// itself.
const OPA_IMAGE: &str = "localhost/opa";

/// Builds a data image with the checks.
fn data_image(name: &str, data: &Path) {
    let checks = workspace().join("examples/checks");
    let context = format!("--build-context=data={}", data.display());
    let (tools, nginx) = (format!("TOOLS={IMAGE}"), format!("NGINX={DEBIAN}"));
    let opa = format!("OPA={OPA_IMAGE}");
    podman().get(&[
        "build",
        "--quiet",
        "--pull=never",
        "--target=provisioning-data",
        "--build-arg",
        &tools,
        "--build-arg",
        &nginx,
        "--build-arg",
        &opa,
        &context,
        "--tag",
        name,
        checks.to_str().expect("UTF-8"),
    ]);
}

/// The pod of the CronJob with the component `checked`.
fn checked(image: &str, volume: &Path) -> Pod {
    let mut pod = Pod::from_manifest("k8s/provisioning/base/provisioner.yaml", "CronJob");
    let component = workspace().join("k8s/provisioning/components/checked/kustomization.yaml");
    let component = &read(&component)[0];
    let patch = &read_text(component["patches"][0]["patch"].as_str().expect("a patch"))[0];
    let spec = &patch["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let added = &spec["containers"][0];
    let append = |list: &mut Value, more: &Value| {
        let more = more.as_array().expect("a list").iter().cloned();
        list.as_array_mut().expect("a list").extend(more);
    };
    let container = pod.container("provisioner");
    container["image"] = image.into();
    append(&mut container["env"], &added["env"]);
    append(&mut container["volumeMounts"], &added["volumeMounts"]);
    append(&mut pod.spec()["volumes"], &spec["volumes"]);
    pod.set_volume("provisioned-data", volume);
    pod.set_volume("nginx-config", &workspace().join("k8s/provisioning/base"));
    pod
}

#[test]
#[ignore = "runs pods: make e2e"]
fn a_data_image_that_nginx_or_openssl_refuses_does_not_go_live() {
    let opa = "FROM localhost/debian AS made\nRUN printf '#!/bin/sh\\n' >/opa && chmod 755 /opa\n\
               FROM scratch\nCOPY --from=made /opa /opa\n";
    let build = ["build", "--quiet", "--pull=never", "--tag", OPA_IMAGE, "-"];
    let built = run(&mut podman().command(&build), opa.as_bytes());
    assert_eq!(built.code, Some(0), "{}", built.stderr);

    let data = podman().dir().join("checked-data");
    for directory in ["nginx/tls", "opa", "truststores"] {
        fs::create_dir_all(data.join(directory)).expect("made");
    }
    let authority = Authority::new(&data.join("truststores"), "ca");
    let (certificate, key) = authority.issue("tls", &["localhost"]);
    fs::rename(certificate, data.join("nginx/tls/tls.crt")).expect("moved");
    fs::rename(key, data.join("nginx/tls/tls.key")).expect("moved");
    // Files are named where nginx will find them.
    let server = "server { listen 8443 ssl; ssl_certificate provisioning-data/nginx/tls/tls.crt;\n\
                  ssl_certificate_key /etc/nginx/provisioning-data/nginx/tls/tls.key; }\n";
    let put = |name: &str, content: &str| fs::write(data.join(name), content).expect("written");
    put("nginx/site.conf", server);
    put("opa/policy.rego", "package a\n");

    let volume = volume("checked");
    let publish = |image: &str| {
        data_image(image, &data);
        checked(image, &volume).play().outcome("provisioner")
    };
    let outcome = publish("localhost/checked-good");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
    let live = || fs::read_to_string(volume.join("nginx/site.conf")).expect("published");
    assert_eq!(live(), server);

    put("nginx/site.conf", "server { lisen 8090; }\n");
    let outcome = publish("localhost/checked-broken");
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let reason = "the check `nginx-config` refused the tree: exit code 1: nginx refuses: unknown \
                  directive \"lisen\" in nginx/site.conf:1";
    assert!(outcome.stderr.contains(reason), "{outcome:?}");
    assert_eq!(live(), server);

    put("nginx/site.conf", server);
    put("truststores/garbage.pem", "garbage");
    let outcome = publish("localhost/checked-garbage");
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let reason = "exit code 1: truststores/garbage.pem: it holds no PEM block";
    assert!(outcome.stderr.contains(reason), "{outcome:?}");
    assert!(!volume.join("truststores/garbage.pem").exists());
}
