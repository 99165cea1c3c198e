//! The component `checked`: its checks exist, and judge with what nginx and OPA start with.

use crate::objects::{containers, list, name, template, text};
use crate::rendered::set;
use crate::tools::read;

const CHECKED: &str = "k8s/provisioning/overlays/checked";
const CHECKS: &str = "examples/checks";

#[test]
fn the_checks_use_the_configuration_and_the_paths_of_the_applications() {
    let set = set(CHECKED);
    let cron_job = set.get("CronJob", "data-provisioner").and_then(template).expect("the CronJob");
    let provisioner = containers(cron_job).next().expect("a container");
    let mut variables = list(provisioner, "/env").iter();
    let variable = variables.find(|variable| variable["name"] == "PROVISIONER_CHECK");
    let containerfile = read(format!("{CHECKS}/Containerfile"));
    let copied = containerfile.lines().find(|line| line.starts_with("COPY --chmod=755 "));
    let mut copied: Vec<_> = copied.expect("the checks").split(' ').skip(2).collect();
    assert_eq!(copied.pop(), Some("/usr/local/bin/"));
    let lines: Vec<_> = text(variable.expect("the checks"), "/value").lines().collect();
    assert_eq!(lines, copied);

    // nginx-config takes these defaults.
    let script = read(format!("{CHECKS}/nginx-config"));
    let default = |variable: &str| {
        let lines = script.lines().find_map(|line| line.strip_prefix(&format!("{variable}=${{")));
        let value = lines.and_then(|rest| rest.split_once(":-")).expect("a default").1;
        value.trim_end_matches('}').to_owned()
    };
    let deployment = set.get("Deployment", "nginx").and_then(template).expect("nginx");
    let nginx = containers(deployment).find(|c| c["name"] == "nginx").expect("nginx");
    let mount = |container, volume| {
        let mut mounts = list(container, "/volumeMounts").iter();
        mounts.find(|mount| mount["name"] == volume).expect("a mount")
    };
    let config = mount(nginx, "nginx-config");
    assert_eq!(config["mountPath"], default("config"));
    assert_eq!(config, mount(provisioner, "nginx-config"));
    assert_eq!(mount(nginx, "provisioned-data")["mountPath"], default("data"));
    assert!(containerfile.contains(&format!(" {} ", default("data"))));
    // Both ConfigMaps are the same one.
    let map = |pod| {
        let mut volumes = list(pod, "/spec/volumes").iter();
        let volume = volumes.find(|volume| volume["name"] == "nginx-config").expect("a volume");
        text(volume, "/configMap/name").to_owned()
    };
    assert_eq!(map(deployment), map(cron_job));
    assert!(set.of_kind("ConfigMap").any(|object| name(object) == map(cron_job)));
}

#[test]
fn the_checks_have_the_versions_of_the_applications() {
    let containerfile = read(format!("{CHECKS}/Containerfile"));
    let set = set(CHECKED);
    let images = set.objects.iter().filter_map(template).flat_map(containers);
    let images: Vec<_> = images.map(|container| text(container, "/image").to_owned()).collect();
    let arguments = containerfile.lines().filter_map(|line| line.strip_prefix("ARG "));
    let arguments: Vec<_> = arguments.filter_map(|line| line.split_once('=')).collect();
    assert_eq!(arguments.len(), 3);
    for (argument, image) in arguments {
        assert!(images.iter().any(|other| other == image), "{argument}: {image}");
    }
}
