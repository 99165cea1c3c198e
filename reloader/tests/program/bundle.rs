//! `--serve-bundle`: which files a bundle has, that it is whole, and what the server bears.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use e2e::programs::{command, run};
use e2e::wait_for;
use nix::sys::signal::Signal;
use tempfile::{TempDir, tempdir};

use crate::client::{End, get, request, tar};
use crate::run::Reloader;

/// A directory of versions. The link `live` leads to one of them.
struct Versions(TempDir);

impl Versions {
    fn new() -> Self {
        Self(tempdir().expect("a directory"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes files of a version, by their paths.
    fn write(&self, version: &str, files: &[(&str, &[u8])]) {
        for (path, content) in files {
            let path = self.at(version).join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
    }

    /// Makes a version live, in one step.
    fn switch(&self, version: &str) {
        symlink(version, self.at("next")).expect("linked");
        fs::rename(self.at("next"), self.at("live")).expect("renamed");
    }

    fn serve(&self) -> (Reloader, String) {
        serve(&self.at("live"), &[])
    }
}

/// Starts a reloader that serves a directory. Returns the address of the bundle.
fn serve(directory: &Path, args: &[&str]) -> (Reloader, String) {
    let args = [&["--serve-bundle", "127.0.0.1:0"], args].concat();
    let reloader = Reloader::start(&args, directory);
    let mut address = None;
    wait_for("the address of the bundle", || {
        let stdout = reloader.stdout();
        let url = stdout.lines().find_map(|line| line.strip_prefix("serving http://"));
        address = url.and_then(|url| url.strip_suffix("/bundle.tar.gz")).map(str::to_owned);
        address.is_some()
    });
    (reloader, address.expect("one"))
}

/// Bytes that gzip does not make smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

const WAIT: &str = "Prefer: modes=snapshot,delta;wait=60";

#[test]
fn a_bundle_has_the_files_of_the_directory_and_the_digest_as_its_revision() {
    let versions = Versions::new();
    let long = format!("{}/data.json", "long-name/".repeat(20));
    let files: &[(&str, &[u8])] =
        &[("a.rego", b"package a\n"), ("b/data.yaml", b"x: 1\n"), (&long, b"{}"), ("README", b"")];
    versions.write("v1", files);
    // Not for OPA: links, provisioner's checksums, names of ConfigMap volumes.
    versions.write("v1", &[("SHA256SUMS", b"x"), ("..state/data.json", b"{}")]);
    symlink("/etc/passwd", versions.at("v1/passwd.rego")).expect("linked");
    symlink("a.rego", versions.at("v1/link.rego")).expect("linked");
    versions.switch("v1");
    let (reloader, address) = versions.serve();
    let response = get(&address, &[WAIT]);
    assert_eq!(response.status, 200);
    let opa_bundle = Some("application/vnd.openpolicyagent.bundles");
    assert_eq!(response.header("content-type"), opa_bundle);
    let digest = response.digest();
    response.unpack(&versions.at("unpacked"));
    let manifest = fs::read_to_string(versions.at("unpacked/.manifest")).expect("a manifest");
    assert_eq!(manifest, format!("{{\"revision\":\"{digest}\"}}"));
    wait_for("the line", || reloader.stdout().contains(&format!("sha256:{digest}; serve the")));
    assert!(reloader.stdout().contains("4 files, without the links link.rego, passwd.rego"));

    fs::remove_file(versions.at("unpacked/.manifest")).expect("removed");
    let expected = versions.at("expected");
    for (path, content) in files {
        versions.write("expected", &[(path, content)]);
    }
    let mut diff = std::process::Command::new("diff");
    let outcome = run(diff.arg("-r").arg(versions.at("unpacked")).arg(expected), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn a_directory_with_a_manifest_or_signatures_is_served_as_it_is() {
    for name in [".manifest", "sub/.manifest", ".signatures.json", ".manifest.pb"] {
        let versions = Versions::new();
        versions.write("v1", &[(name, b"{}"), ("data.json", b"{}")]);
        versions.switch("v1");
        let (_reloader, address) = versions.serve();
        get(&address, &[WAIT]).unpack(&versions.at("unpacked"));
        assert_eq!(fs::read(versions.at("unpacked").join(name)).expect("there"), b"{}");
        let is_added = name != ".manifest" && versions.at("unpacked/.manifest").exists();
        assert!(!is_added, "{name}");
    }
}

#[test]
fn the_live_version_of_a_config_map_is_served() {
    let dir = tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("volume/..v1")).expect("made");
    fs::write(at("volume/..v1/a.rego"), "package a\n").expect("written");
    symlink("..v1", at("volume/..data")).expect("linked");
    symlink("..data/a.rego", at("volume/a.rego")).expect("linked");
    let (reloader, address) = serve(&at("volume"), &[]);
    get(&address, &[WAIT]).unpack(&at("unpacked"));
    assert_eq!(fs::read_to_string(at("unpacked/a.rego")).expect("there"), "package a\n");
    wait_for("the line", || reloader.stdout().contains(": 1 file; "));
}

/// A publication that leaves the directory as it was removes the version that it was served from.
#[test]
fn the_same_content_in_a_new_version_is_served_after_the_old_one_is_removed() {
    let versions = Versions::new();
    versions.write("one", &[("opa/a.rego", b"package a")]);
    versions.switch("one");
    let (_reloader, address) = serve(&versions.at("live/opa"), &["--poll=0.2"]);
    wait_for("the bundle", || get(&address, &[]).status == 200);
    let content = |address: &str| get(address, &[]).body();
    let (first, _) = content(&address);
    versions.write("two", &[("opa/a.rego", b"package a"), ("nginx/site.conf", b"")]);
    versions.switch("two");
    fs::remove_dir_all(versions.at("one")).expect("removed");
    wait_for("the bundle of the new version", || {
        content(&address) == (first.clone(), End::Complete)
    });
}

#[test]
fn a_bundle_is_served_from_the_start_in_any_case() {
    let versions = Versions::new();
    versions.write("one", &[("a.rego", b"package a")]);
    versions.switch("one");
    let (_reloader, address) = serve(&versions.at("live"), &["--at-start=false"]);
    wait_for("the bundle", || get(&address, &[]).status == 200);
}

#[test]
fn other_requests_are_refused() {
    let versions = Versions::new();
    versions.write("v1", &[("data.json", b"{}")]);
    versions.switch("v1");
    let (_reloader, address) = versions.serve();
    assert_eq!(get(&address, &[WAIT]).status, 200);
    for (line, headers, body, status) in [
        ("GET /", &[][..], "", 404),
        ("GET /bundle.tar.gz/a.rego", &[], "", 404),
        ("GET /../etc/passwd", &[], "", 404),
        ("POST /bundle.tar.gz", &["Content-Length: 1"], "x", 405),
        ("DELETE /bundle.tar.gz", &[], "", 405),
        ("GET /bundle.tar.gz", &["Content-Length: 1"], "x", 413),
        ("GET /bundle.tar.gz", &["Transfer-Encoding: chunked"], "", 413),
        ("HEAD /bundle.tar.gz", &[], "", 200),
    ] {
        assert_eq!(request(&address, line, headers, body).status, status, "{line}");
    }
    let large = format!("X: {}", "x".repeat(64 * 1024));
    assert_eq!(get(&address, &[&large]).status, 431);
}

#[test]
fn a_client_that_waits_gets_the_next_version_when_it_is_complete() {
    let versions = Versions::new();
    let (reloader, address) = versions.serve();
    assert_eq!(get(&address, &[]).status, 503);
    let first = std::thread::spawn({
        let address = address.clone();
        move || get(&address, &[WAIT]).digest()
    });
    versions.write("v1", &[("data.json", b"{\"v\": 1}")]);
    versions.switch("v1");
    let first = first.join().expect("an answer");
    let known = format!("If-None-Match: \"{first}\"");
    assert_eq!(get(&address, &[&known]).status, 304);
    let unchanged = get(&address, &[&known, "Prefer: wait=1"]);
    assert_eq!((unchanged.status, unchanged.digest()), (304, first.clone()));

    let second = std::thread::spawn({
        let (address, known) = (address.clone(), known.clone());
        move || get(&address, &[&known, WAIT])
    });
    versions.write("v2", &[("data.json", b"{\"v\": 2}")]);
    versions.switch("v2");
    let second = second.join().expect("an answer");
    assert_eq!(second.status, 200);
    assert_ne!(second.digest(), first);
    second.unpack(&versions.at("unpacked"));
    assert_eq!(fs::read(versions.at("unpacked/data.json")).expect("there"), b"{\"v\": 2}");
    // The old content again has the old digest.
    versions.switch("v1");
    wait_for("the first version", || get(&address, &[]).digest() == first);
    drop(reloader);
}

#[test]
fn a_publication_during_a_response_does_not_change_it() {
    let versions = Versions::new();
    let noise = noise(10 * 1024 * 1024);
    for version in ["v1", "v2"] {
        let files: &[(&str, &[u8])] =
            &[("a", version.as_bytes()), ("b", &noise), ("c", version.as_bytes())];
        versions.write(version, files);
    }
    versions.switch("v1");
    let (_reloader, address) = versions.serve();
    let first = get(&address, &[WAIT]);
    versions.switch("v2");
    let known = format!("If-None-Match: \"{}\"", first.digest());
    assert_eq!(get(&address, &[&known, WAIT]).status, 200, "the second version is served");
    first.unpack(&versions.at("unpacked"));
    for name in ["a", "c"] {
        let content = fs::read_to_string(versions.at("unpacked").join(name)).expect("there");
        assert_eq!(content, "v1", "{name}");
    }
}

#[test]
fn a_file_that_changes_during_a_response_cuts_it_off() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("has changed", |file| fs::write(file, "v2").expect("written")),
        ("has changed", |file| fs::write(file, "longer").expect("written")),
        ("no such file", |file| fs::remove_file(file).expect("removed")),
    ];
    let noise = noise(10 * 1024 * 1024);
    for (message, change) in changes {
        let versions = Versions::new();
        versions.write("v1", &[("a", &noise), ("b", b"v1")]);
        versions.switch("v1");
        let (reloader, address) = versions.serve();
        let response = get(&address, &[WAIT]);
        change(&versions.at("v1/b"));
        let (body, end) = response.body();
        assert_eq!(end, End::CutOff);
        assert!(body.len() > noise.len() / 2, "the first file was sent: {}", body.len());
        assert!(!tar(&["--list", "--gzip"], body), "tar takes a part for a whole");
        wait_for("the reason", || reloader.stderr().to_lowercase().contains(message));
        assert!(reloader.stderr().contains("the bundle was cut off: "), "{}", reloader.stderr());
    }
}

#[test]
fn a_partial_scan_is_never_served() {
    let versions = Versions::new();
    versions.write("v1", &[("a.rego", b"package a\n")]);
    versions.write("v2", &[("a.rego", b"package x\n"), ("b.rego", b"package b\n")]);
    versions.switch("v1");
    let (reloader, address) = serve(&versions.at("live"), &["--max-files", "1"]);
    let first = get(&address, &[WAIT]).digest();
    versions.switch("v2");
    let expected = "the bundle would not be complete: ";
    wait_for("a failed reload", || reloader.stderr().contains(expected));
    assert_eq!(get(&address, &[]).digest(), first);
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(0.0));
}

/// The largest resident size so far, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_does_not_depend_on_the_size_of_the_content() {
    let versions = Versions::new();
    versions.write("v1", &[("small", b"x")]);
    versions.write("v2", &[("large", &noise(32 * 1024 * 1024))]);
    versions.switch("v1");
    let (reloader, address) = versions.serve();
    let first = get(&address, &[WAIT]);
    let known = format!("If-None-Match: \"{}\"", first.digest());
    assert_eq!(first.body().1, End::Complete);
    let before = peak_memory(reloader.pid());
    versions.switch("v2");
    assert_eq!(get(&address, &[&known, WAIT]).body().1, End::Complete);
    let after = peak_memory(reloader.pid());
    println!("peak with 1 byte: {before} KiB, with 32 MiB: {after} KiB");
    assert!(after - before < 8 * 1024, "{before} {after}");
}

#[test]
fn a_flood_of_connections_does_not_reach_the_health_check() {
    let versions = Versions::new();
    versions.write("v1", &[("data.json", b"{}")]);
    versions.switch("v1");
    let (reloader, address) = versions.serve();
    let digest = get(&address, &[WAIT]).digest();
    let mut connections = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(&address).expect("connected");
        if number % 2 == 0 {
            write!(stream, "GET /bundle.tar.gz HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"{digest}\"\r\n{WAIT}\r\n\r\n")
                .expect("sent");
        }
        connections.push(stream);
    }
    assert_eq!(reloader.get("/healthz"), (200, "ok\n".to_owned()));
    let descriptors =
        fs::read_dir(format!("/proc/{}/fd", reloader.pid())).expect("running").count();
    assert!(descriptors < 80, "connections are not limited: {descriptors}");
    drop(connections);
    wait_for("an answer", || get(&address, &[]).status == 200);
}

#[test]
fn a_client_that_waits_does_not_delay_the_end() {
    let versions = Versions::new();
    versions.write("v1", &[("data.json", b"{}")]);
    versions.switch("v1");
    let (mut reloader, address) = versions.serve();
    let known = format!("If-None-Match: \"{}\"", get(&address, &[WAIT]).digest());
    let mut stream = TcpStream::connect(&address).expect("connected");
    write!(stream, "GET /bundle.tar.gz HTTP/1.1\r\nHost: x\r\n{known}\r\n{WAIT}\r\n\r\n")
        .expect("sent");
    reloader.signal(Signal::SIGTERM);
    assert_eq!(reloader.ended(), Some(0));
}

#[test]
fn wrong_settings_are_refused() {
    let loopback = "--serve-bundle takes a loopback address and port";
    for (args, message) in [
        (&["--serve-bundle", ":9534"][..], loopback),
        (&["--serve-bundle", "0.0.0.0:9534"], loopback),
        (&["--serve-bundle", "[::]:9534"], loopback),
        (&["--serve-bundle", "localhost"], loopback),
        (&["--serve-bundle", "127.0.0.1:0", "/a", "/b"], "takes exactly one directory"),
        (&["--serve-bundle", "127.0.0.1:0", "--once", "/a"], "cannot be used with"),
        (&["--verify-opa", "http://127.0.0.1:8181", "/a"], "--serve-bundle"),
        (&["--serve-bundle", "127.0.0.1:0", "--verify-opa", "opa", "/a"], "--verify-opa"),
    ] {
        let outcome = run(command("reloader").args(args), b"");
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
    }
}
