//! Publishes data images to a volume, and checks that reloader makes nginx load them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::run;
use e2e::wait_for;

use crate::ends::stop;
use crate::image::{DATA_IMAGE, data_image};
use crate::pod::{Pod, Running};
use crate::podman::{podman, workspace};

/// The provisioner's `fsGroup`: the kubelet gives the volume to this group.
const GROUP: u32 = 65532;

/// A new volume with the group and mode that the kubelet sets.
pub fn volume(name: &str) -> PathBuf {
    let volume = podman().dir().join(name);
    fs::create_dir(&volume).expect("made");
    chown(&volume, None, Some(GROUP)).expect("given to the group");
    fs::set_permissions(&volume, Permissions::from_mode(0o2775)).expect("set");
    volume
}

/// Builds a data image whose nginx configuration answers with `text`, and returns its name.
fn image_with_answer(text: &str) -> String {
    let data = podman().dir().join(format!("data-{text}"));
    fs::create_dir_all(data.join("nginx")).expect("made");
    let server = format!("server {{ listen 8090; return 200 \"{text}\\n\"; }}\n");
    fs::write(data.join("nginx/site.conf"), server).expect("written");
    let image = format!("localhost/data-{text}");
    data_image(&image, Some(&data));
    image
}

/// Publishes a data image by the CronJob's pod.
fn publish(image: &str, volume: &Path) {
    let mut pod = Pod::from_manifest("k8s/provisioning/base/provisioner.yaml", "CronJob");
    pod.container("provisioner")["image"] = image.into();
    pod.set_volume("provisioned-data", volume);
    let outcome = pod.play().outcome("provisioner");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
}

/// The Deployment's pod with nginx and reloader.
fn nginx(volume: &Path) -> Pod {
    let mut pod = Pod::from_manifest("k8s/provisioning/base/nginx.yaml", "Deployment");
    pod.set_volume("provisioned-data", volume);
    pod.set_volume("nginx-config", &workspace().join("k8s/provisioning/base"));
    pod
}

/// The body of nginx's answer; empty if there is no answer.
fn answer(address: &str) -> String {
    let url = format!("http://{address}:8090/");
    run(Command::new("curl").args(["--silent", "--max-time", "5", &url]), b"").stdout
}

/// Name and start time of the pod's first process (proc(5)).
fn first_process(pod: &Running) -> (String, String) {
    let stat = podman().get(&["exec", &pod.container("nginx"), "cat", "/proc/1/stat"]);
    let (start, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let name = start.split_once('(').expect("a name in parentheses").1;
    (name.to_owned(), rest.split(' ').nth(19).expect("a start time").to_owned())
}

#[test]
#[ignore = "runs pods: make e2e"]
fn nginx_loads_a_new_data_image_and_no_other_process_is_signalled() {
    let volume = volume("published");
    publish(&image_with_answer("first"), &volume);
    let pod = nginx(&volume).play();
    let address = pod.address();
    wait_for("nginx to answer", || answer(&address) == "first\n");
    let before = first_process(&pod);
    assert_eq!(before.0, "catatonit", "podman's pause process");
    let reloader = pod.container("reloader");
    let id = podman().get(&["inspect", "--format={{.State.Pid}}", &reloader]);
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    for mask in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{mask}:\t0000000000000000\n")), "{status}");
    }

    publish(&image_with_answer("second"), &volume);
    wait_for("nginx to load the new configuration", || answer(&address) == "second\n");
    assert_eq!(first_process(&pod), before);
    assert_eq!(stop(&reloader, "reloader"), "0", "{:?}", pod.logs_of("reloader"));
}

#[test]
#[ignore = "runs pods: make e2e"]
fn a_reloader_of_another_user_reports_the_setting_to_change() {
    let volume = volume("other-user");
    publish(&image_with_answer("other"), &volume);
    let mut pod = nginx(&volume);
    pod.container("reloader")["securityContext"]["runAsUser"] = 102.into();
    let pod = pod.play();
    let expected = "which runs as user 101, reloader as 102: both containers must run as the same \
                    user (runAsUser)";
    wait_for("reloader's message", || pod.logs_of("reloader").stderr.contains(expected));
}

#[test]
#[ignore = "runs pods: make e2e"]
fn the_example_data_image_publishes_its_files() {
    let volume = volume("example");
    data_image(DATA_IMAGE, None);
    publish(DATA_IMAGE, &volume);
    let example = workspace().join("examples/zeta-guard-provisioning");
    for name in ["endpoints.json", "SHA256SUMS"] {
        let published = fs::read(volume.join(name)).expect("published");
        assert_eq!(published, fs::read(example.join(name)).expect("read"));
    }
}
