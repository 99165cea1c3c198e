//! Versions that OPA refuses: the old one stays whole, and the reload has failed with OPA's reason.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::pod::{Pod, program};
use super::queries::Queries;
use super::{version, version_with};
use crate::container::{Container, wait_for};
use crate::data::Volume;

/// Waits until the reload has failed with a reason, and the old version answers.
pub fn assert_refused(pod: &Pod, reason: &str, old: usize) {
    let is_refused =
        |line: &str| line.contains("OPA refuses the bundle: ") && line.contains(reason);
    wait_for(&format!("a refusal with {reason}"), || {
        pod.sidecar.log().lines().any(is_refused).then_some(())
    });
    assert!(pod.uses(old), "{:?}", pod.get("/v1/data/check/all"));
    assert_eq!(pod.metric("reloader_last_reload_successful"), Some(0.0));
}

/// Waits until a version is in use, and its reload has succeeded.
pub fn assert_used(pod: &Pod, number: usize) {
    wait_for(&format!("version {number}"), || pod.uses(number).then_some(()));
    wait_for("the metric", || {
        pod.metric("reloader_last_reload_successful").filter(|value| *value == 1.0)
    });
}

#[test]
#[ignore = "run by make test-applications"]
fn a_broken_version_leaves_the_old_one_whole() {
    let volume = Volume::new();
    volume.publish(&version(1));
    let pod = Pod::start(&volume);
    assert_used(&pod, 1);
    let queries = Queries::start(pod.port);
    for (path, content, reason) in [
        ("opa/m5.rego", "package m5\n\nv := ", "/m5.rego:3: rego_parse_error"),
        ("opa/m5.rego", "package m5\n\nv := nothing(1)\n", "undefined function nothing"),
        ("opa/data.json", "[]", "root value must be object"),
        ("opa/sub/data.yaml", "{a: [", "yaml"),
        ("opa/x.manifest", "{\"roots\": [\"other\"]}", "roots"),
    ] {
        volume.publish(&version_with(2, &[(path, content.as_bytes())]));
        assert_refused(&pod, reason, 1);
        volume.roll_back();
        assert_used(&pod, 1);
    }
    volume.publish(&version(3));
    assert_used(&pod, 3);
    let counts = queries.end();
    println!("{counts:?}");
    assert_eq!((counts.errors, counts.undefined, counts.mixed), (0, 0, 0), "{counts:?}");
    assert_eq!(counts.versions, 2, "{counts:?}");
}

#[test]
#[ignore = "run by make test-applications"]
fn a_restarted_container_has_the_last_good_version() {
    let volume = Volume::new();
    volume.publish(&version(1));
    let mut bundles = None;
    let mut pod = Pod::start_with(&volume, |containers| {
        bundles = Some(containers.opa.path_of("bundles").to_owned());
    });
    assert_used(&pod, 1);
    volume.publish(&version_with(2, &[("opa/m5.rego", b"package m5\n\nv := ")]));
    assert_refused(&pod, "rego_parse_error", 1);
    pod.opa.terminate();
    // Without its sidecar: only the disk has the version.
    let mut opa = Container::of("Deployment", "opa", "opa", &["/opa"]);
    opa.file(program(), "/opa");
    opa.volume("bundles", &bundles.expect("its path"));
    opa.replace(":8181", &format!("127.0.0.1:{}", pod.port));
    opa.replace("127.0.0.1:9534", "127.0.0.1:1");
    pod.opa = opa.start();
    wait_for("the old version", || pod.uses(1).then_some(()));
    assert!(pod.get("/health?bundles").is_some());
}

/// Forwards connections, and cuts answers off after some bytes while it is told so.
fn forward(to: String, is_cutting: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // reloader may not listen yet.
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let is_cutting = is_cutting.clone();
            let clones = client.try_clone().and_then(|client| Ok((client, server.try_clone()?)));
            let Ok((mut from_client, mut to_server)) = clones else { continue };
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || copy_part(server, client, &is_cutting));
        }
    });
    address
}

fn copy_part(mut server: TcpStream, mut client: TcpStream, is_cutting: &AtomicBool) {
    let mut buffer = [0; 400];
    while let Ok(count) = server.read(&mut buffer) {
        if count == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
        if is_cutting.load(Ordering::Relaxed) {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}

#[test]
#[ignore = "run by make test-applications"]
fn a_bundle_that_is_cut_off_leaves_the_old_version_whole() {
    let volume = Volume::new();
    volume.publish(&version(1));
    let is_cutting = Arc::new(AtomicBool::new(false));
    let pod = Pod::start_with(&volume, |containers| {
        let proxy = forward(containers.bundle.clone(), is_cutting.clone());
        containers.opa.replace(&containers.bundle, &proxy);
    });
    assert_used(&pod, 1);
    is_cutting.store(true, Ordering::Relaxed);
    volume.publish(&version(2));
    assert_refused(&pod, "unexpected EOF", 1);
    is_cutting.store(false, Ordering::Relaxed);
    assert_used(&pod, 2);
}
