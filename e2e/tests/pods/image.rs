//! Builds the image from the Containerfile, offline, and checks its content and its labels.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::programs::run;
use serde_json::Value;

use crate::podman::{DEBIAN, Podman, podman, workspace};

/// The image of the programs.
pub const IMAGE: &str = "localhost/data-owner-resolver";
/// The data image of the example, which holds the programs too.
pub const DATA_IMAGE: &str = "localhost/zeta-guard-provisioning";

const PROGRAMS: [&str; 5] = ["provisioner", "reloader", "resolve-in-pod", "resolver", "scan-uids"];
/// Debian with a C compiler. Builds mount this machine's Rust toolchain into it.
const RUST_IMAGE: &str = "localhost/rust";
/// The maximum size of the image in bytes.
const MAX_SIZE: u64 = 20_000_000;
/// The Cargo profile of released images. Other profiles may exceed [`MAX_SIZE`].
const RELEASE: &str = "release";

/// Builds the Rust image and the image of the programs.
pub fn build_all(podman: &Podman) {
    let text = format!(
        "FROM {DEBIAN}\nENV CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true \
         PATH=/opt/cargo/bin:/opt/rust/bin:/usr/bin\nRUN mkdir -p /opt/cargo/bin /opt/rust\n"
    );
    let built =
        run(&mut podman.command(&["build", "--quiet", "--tag", RUST_IMAGE, "-"]), text.as_bytes());
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let context = copy_of_sources(podman);
    let time = build(podman, &context, &["--tag", IMAGE], "image.log");
    println!("image: built from nothing ({}) in {} s", profile(), time.as_secs());
}

/// Builds a data image from a directory, or from the example if `data` is `None`.
pub fn data_image(name: &str, data: Option<&Path>) {
    let context = data.map(|data| format!("--build-context=data={}", data.display()));
    let mut args = vec!["--tag", name, "--target=provisioning-data"];
    args.extend(context.as_deref());
    build(
        podman(),
        &podman().dir().join("first"),
        &args,
        &format!("{}.log", name.replace('/', "-")),
    );
}

/// Builds as `make image` does, but with this machine's toolchain and downloaded crates. Returns the
/// duration.
fn build(podman: &Podman, context: &Path, args: &[&str], log: &str) -> Duration {
    let volumes = [
        (command_output("rustc", &["--print", "sysroot"]), "/opt/rust"),
        (format!("{}/registry", cargo_home().display()), "/opt/cargo/registry"),
        (as_str(&auditable()).to_owned(), "/opt/cargo/bin/cargo-auditable"),
    ];
    let mut command = podman.command(&["build", "--pull=never", "--timestamp=0"]);
    command.arg(format!("--build-arg=RUST_IMAGE={RUST_IMAGE}"));
    command.arg(format!("--build-arg=PROFILE={}", profile()));
    for (from, to) in volumes {
        command.arg(format!("--volume={from}:{to}:ro"));
    }
    let path = podman.dir().join(log);
    let output = File::create(&path).expect("a log");
    command.args(args).arg(context).stdin(Stdio::null());
    command.stderr(output.try_clone().expect("its descriptor")).stdout(output);
    let start = Instant::now();
    let status = command.status().expect("podman");
    let output = fs::read_to_string(&path).expect("the log");
    let lines: Vec<_> = output.lines().collect();
    let end = lines[lines.len().saturating_sub(40)..].join("\n");
    assert!(status.success(), "podman build {args:?}:\n{end}");
    start.elapsed()
}

/// The Cargo profile of the programs in the image.
fn profile() -> String {
    std::env::var("PODS_PROFILE").unwrap_or_else(|_| RELEASE.into())
}

/// Copies the source tree without `.git` and `target`.
fn copy_of_sources(podman: &Podman) -> PathBuf {
    let copy = podman.dir().join("first");
    fs::create_dir(&copy).expect("made");
    let script = "tar -C \"$1\" --exclude=./.git --exclude=target -c . | tar -C \"$2\" -x";
    let mut shell = Command::new("sh");
    shell.args(["-ec", script, "sh"]).arg(workspace()).arg(&copy);
    assert!(shell.status().expect("sh").success());
    copy
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

fn auditable() -> PathBuf {
    let own = workspace().join("target/tools/bin/cargo-auditable");
    if own.is_file() { own } else { command_output("which", &["cargo-auditable"]).into() }
}

fn command_output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(workspace()).output();
    let output = output.expect("started");
    assert!(output.status.success(), "{program} {args:?} failed");
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}

fn as_str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn id_of(image: &str) -> String {
    podman().get(&["image", "inspect", "--format={{.Id}}", image])
}

#[test]
#[ignore = "builds the image: make e2e"]
fn the_image_holds_the_programs_and_their_files_alone() {
    let podman = podman();
    let container = podman.get(&["create", IMAGE]);
    let archive = podman.dir().join("image.tar");
    podman.get(&["export", "--output", as_str(&archive), &container]);
    podman.get(&["rm", &container]);
    let listed = command_output("tar", &["-tvf", as_str(&archive)]);
    // Fields of a line: mode, owner, size, date, time, name. Podman creates these names in each container.
    let podmans = [
        "dev/",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        "proc/",
        "run/",
        "sys/",
    ];
    let mut files: Vec<_> = listed
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let name = fields[5..].join(" ");
            let is_ignored =
                name.ends_with('/') || podmans.iter().any(|other| name.starts_with(other));
            (!is_ignored).then(|| format!("{} {name}", fields[0]))
        })
        .collect();
    files.sort();
    let names = PROGRAMS.into_iter().chain(["resolve-in-pod.sh", "scan-uids.sh"]);
    let mut expected: Vec<_> =
        names.map(|name| format!("lrwxrwxrwx usr/local/bin/{name} -> multicall")).collect();
    expected.push("-rwxr-xr-x usr/local/bin/multicall".into());
    expected.push("-rw-r--r-- etc/nsswitch.conf".into());
    expected.push("-rw-r--r-- etc/ssl/certs/ca-certificates.crt".into());
    expected.sort();
    assert_eq!(files, expected);

    let size = podman.get(&["image", "inspect", "--format={{.Size}}", IMAGE]);
    println!("image: {size} bytes");
    println!("{}", podman.get(&["history", "--format={{.Size}}\t{{.CreatedBy}}", IMAGE]));
    let size = size.parse::<u64>().expect("a number");
    assert!(size > 0 && (size <= MAX_SIZE || profile() != RELEASE), "{size} bytes");
}

#[test]
#[ignore = "builds the image: make e2e"]
fn the_image_has_labels_an_entrypoint_and_an_unprivileged_user() {
    let podman = podman();
    let config = podman.get(&["image", "inspect", "--format={{json .Config}}", IMAGE]);
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/resolve-in-pod"]));
    for label in ["title", "description", "licenses", "version", "revision"] {
        let label = &config["Labels"][format!("org.opencontainers.image.{label}")];
        assert!(label.as_str().is_some_and(|value| !value.is_empty()), "{config}");
    }
    let version = command_output("sed", &["-n", "s/^version = //p", "Cargo.toml"]).replace('"', "");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], version);
    // Podman finds the program in PATH.
    let outcome = podman.run(&["run", "--rm", "--entrypoint=scan-uids", IMAGE, "--version"]);
    assert_eq!((outcome.code, outcome.stdout), (Some(0), format!("scan-uids {version}\n")));
}

#[test]
#[ignore = "builds the image: make e2e"]
fn the_program_lists_its_dependencies_for_scanners() {
    let podman = podman();
    let container = podman.get(&["create", IMAGE]);
    let script = "import json, sys, zlib
packages = json.loads(zlib.decompress(open(sys.argv[1], 'rb').read()))['packages']
print(*(package['name'] for package in packages))";
    let (file, section) = (podman.dir().join("multicall"), podman.dir().join("dependencies"));
    let (file, section) = (as_str(&file), as_str(&section));
    podman.get(&["cp", &format!("{container}:/usr/local/bin/multicall"), file]);
    let only = ["-O", "binary", "--only-section=.dep-v0", "--set-section-flags=.dep-v0=alloc"];
    command_output("objcopy", &[&only[..], &[file, section]].concat());
    let packages = command_output("/usr/bin/python3", &["-c", script, section]);
    for name in PROGRAMS.into_iter().chain(["sha2", "clap", "nix", "ldap3", "rustix"]) {
        assert!(packages.split(' ').any(|package| package == name), "{name}: {packages}");
    }
    podman.get(&["rm", &container]);
}

#[test]
#[ignore = "builds the image: make e2e"]
fn a_changed_line_rebuilds_no_dependency_and_builds_are_reproducible() {
    let podman = podman();
    // A copy in another directory, built later. The added comment does not change the programs, but
    // all of them are compiled again.
    let context = podman.dir().join("second");
    command_output("cp", &["-r", as_str(&podman.dir().join("first")), as_str(&context)]);
    let file = context.join("diagnostics/src/lib.rs");
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, text + "// One more line.\n").expect("written");
    let time = build(podman, &context, &["--tag", "localhost/again"], "again.log");
    println!("image: built again after a change of one line in {} s", time.as_secs());
    let log = fs::read_to_string(podman.dir().join("again.log")).expect("the log");
    let compiled: Vec<_> =
        log.lines().filter(|line| line.trim_start().starts_with("Compiling ")).collect();
    assert!(compiled.iter().any(|line| line.contains("diagnostics")), "{log}");
    assert!(compiled.iter().all(|line| line.contains("(/build/")), "{compiled:?}");
    assert_eq!(id_of(IMAGE), id_of("localhost/again"));
}

#[test]
fn the_containerfile_has_the_rust_version_of_the_workspace() {
    let containerfile = fs::read_to_string(workspace().join("Containerfile")).expect("read");
    let toolchain = fs::read_to_string(workspace().join("rust-toolchain.toml")).expect("read");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.expect("a channel").trim_matches('"');
    let builder = format!("ARG RUST_IMAGE=docker.io/library/rust:{channel}-");
    assert!(containerfile.contains(&builder), "{builder}");
}
