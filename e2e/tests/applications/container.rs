//! Starts a container of the rendered base as a process of this machine.
//!
//! 1. [`Container::of`] takes command, arguments, environment, user and mounts from the manifest.
//! 2. The test says what lies outside the manifest: the files of the image, the content of volumes and of
//!    Secrets. ConfigMaps come from the base, and an emptyDir is a new directory.
//! 3. It replaces addresses, one by one. Each replacement must find its text.
//! 4. `e2e/applications/container` mounts these in a private namespace and runs the command.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::programs::program;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::rendered::{self, config, items, text, texts, workspace};

/// A new directory below that of the run, which `e2e/applications/contained` removes.
///
/// # Panics
/// Panics if the tests do not run in `e2e/applications/contained`.
pub fn new_dir(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = std::env::var_os("APPLICATIONS_DIR").expect("run `make test-applications`");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = Path::new(&all).join(format!("{number}-{name}"));
    fs::create_dir(&dir).expect("a new directory");
    dir
}

/// A port that no other test uses. No other process does: the run has a loopback for itself, and these ports
/// are below those that the kernel chooses.
pub fn new_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Polls until `done` returns a value, and returns it with the time that this took.
///
/// # Panics
/// Panics if that takes longer than two minutes.
pub fn wait_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> (T, Duration) {
    poll(what, Duration::from_millis(20), Duration::from_secs(120), done)
}

/// As [`wait_for`], for what takes a JVM minutes on a busy machine, and costs it time.
///
/// # Panics
/// Panics if that takes longer than ten minutes.
pub fn wait_long_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> (T, Duration) {
    poll(what, Duration::from_millis(500), Duration::from_secs(600), done)
}

fn poll<T>(
    what: &str,
    pause: Duration,
    limit: Duration,
    mut done: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return (value, start.elapsed());
        }
        assert!(start.elapsed() < limit, "timed out waiting for {what}");
        std::thread::sleep(pause);
    }
}

/// A container that has not started yet.
pub struct Container {
    name: String,
    pod: &'static Value,
    container: &'static Value,
    dir: PathBuf,
    /// The entry point, arguments included.
    pub command: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    volumes: BTreeMap<String, PathBuf>,
    image: Vec<(&'static str, PathBuf, String)>,
}

impl Container {
    /// Takes a container from a workload of the base. `entrypoint` is that of its image, which the manifest
    /// may replace.
    ///
    /// # Panics
    /// Panics if the base has none.
    pub fn of(kind: &str, workload: &str, name: &str, entrypoint: &[&str]) -> Self {
        let pod = rendered::pod(kind, workload);
        let container = rendered::container(pod, name);
        let mut command = texts(&container["command"]);
        if command.is_empty() {
            command = entrypoint.iter().map(|&word| word.to_owned()).collect();
        }
        command.extend(texts(&container["args"]));
        let mut env = BTreeMap::new();
        for source in items(&container["envFrom"]) {
            env.extend(config(text(&source["configMapRef"]["name"])));
        }
        for variable in items(&container["env"]) {
            if let Some(value) = variable["value"].as_str() {
                env.insert(text(&variable["name"]).to_owned(), value.to_owned());
            }
        }
        let mut new = Self {
            name: format!("{workload}-{name}"),
            dir: new_dir(name),
            volumes: BTreeMap::new(),
            image: Vec::new(),
            pod,
            container,
            command,
            env,
        };
        for name in ["provisioner", "reloader"] {
            new.file(program(name), &format!("/usr/local/bin/{name}"));
        }
        new.prepare_volumes();
        new
    }

    /// Writes the ConfigMaps of the pod, and makes its emptyDirs.
    fn prepare_volumes(&mut self) {
        for volume in items(&self.pod["volumes"]) {
            let name = text(&volume["name"]);
            let dir = self.dir.join(name);
            if let Some(map) = volume["configMap"]["name"].as_str() {
                fs::create_dir(&dir).expect("a directory");
                for (file, content) in config(map) {
                    fs::write(dir.join(file), content).expect("written");
                }
            } else if volume.get("emptyDir").is_some() {
                fs::create_dir(&dir).expect("a directory");
                fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("set");
            } else {
                continue;
            }
            self.volumes.insert(name.to_owned(), dir);
        }
    }

    /// The number at this field of the container's or the pod's security context.
    fn security(&self, field: &str) -> Option<u32> {
        let contexts = [self.container, self.pod].map(|of| &of["securityContext"][field]);
        contexts.iter().find_map(|value| value.as_u64()).and_then(|id| id.try_into().ok())
    }

    /// The user of the manifest.
    ///
    /// # Panics
    /// Panics if it names none.
    pub fn user(&self) -> u32 {
        self.security("runAsUser").expect("runAsUser")
    }

    /// A folder of the container's image.
    pub fn folder(&mut self, source: PathBuf, target: &str) {
        self.image.push(("image", source, target.to_owned()));
    }

    /// A file of the container's image.
    pub fn file(&mut self, source: PathBuf, target: &str) {
        self.image.push(("ro", source, target.to_owned()));
    }

    /// What a volume of the pod holds: a published tree, a Secret, or an emptyDir that another container of
    /// the pod shares.
    ///
    /// # Panics
    /// Panics if the pod has no such volume.
    pub fn volume(&mut self, name: &str, dir: &Path) {
        let volumes = items(&self.pod["volumes"]);
        assert!(volumes.iter().any(|volume| volume["name"] == name), "no volume {name}");
        self.volumes.insert(name.to_owned(), dir.to_owned());
    }

    /// Where the content of a volume lies on this machine.
    pub fn path_of(&self, volume: &str) -> &Path {
        &self.volumes[volume]
    }

    /// Gives the variables that come from a Secret their values.
    ///
    /// # Panics
    /// Panics if a key is not used.
    pub fn secret(&mut self, name: &str, values: &[(&str, &str)]) {
        for (key, value) in values {
            let reads = |variable: &&Value| {
                let from = &variable["valueFrom"]["secretKeyRef"];
                from["name"] == name && from["key"] == *key
            };
            let variable = items(&self.container["env"]).iter().find(reads);
            let variable = variable.unwrap_or_else(|| panic!("key {key} of {name} is not used"));
            self.env.insert(text(&variable["name"]).to_owned(), (*value).to_owned());
        }
    }

    /// Replaces an address in the arguments, the environment and the files of ConfigMaps.
    ///
    /// # Panics
    /// Panics if none of them has it.
    pub fn replace(&mut self, from: &str, to: &str) {
        let mut count = 0;
        let mut replace = |value: &mut String| {
            count += value.matches(from).count();
            *value = value.replace(from, to);
        };
        self.command.iter_mut().chain(self.env.values_mut()).for_each(&mut replace);
        for volume in items(&self.pod["volumes"]) {
            let Some(map) = volume["configMap"]["name"].as_str() else { continue };
            for (file, _) in config(map) {
                let path = self.volumes[text(&volume["name"])].join(file);
                let mut content = fs::read_to_string(&path).expect("read");
                replace(&mut content);
                fs::write(&path, content).expect("written");
            }
        }
        assert!(count > 0, "{}: `{from}` is not there", self.name);
    }

    /// Starts the container.
    ///
    /// # Panics
    /// Panics if a variable, a volume or the user is missing.
    pub fn start(self) -> Running {
        self.assert_env_is_complete();
        fs::write(self.dir.join("mounts"), self.mounts()).expect("written");
        let user = self.user();
        let group = self.security("runAsGroup").expect("runAsGroup");
        let more = self.security("fsGroup").map(|group| group.to_string()).unwrap_or_default();
        let log = self.dir.join("log");
        let output = OpenOptions::new().create_new(true).append(true).open(&log).expect("a log");
        // nginx opens /dev/stderr again, as its user.
        fs::set_permissions(&log, Permissions::from_mode(0o666)).expect("set");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(workspace().join("e2e/applications/container"))
            .arg(&self.dir)
            .args([user.to_string(), group.to_string(), more])
            .args(&self.command)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.env)
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a descriptor"))
            .stdout(output)
            .spawn()
            .expect("unshare is installed");
        Running { name: self.name, child, log }
    }

    /// Runs the container to its end. Returns its exit code and its output.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn run(self) -> (Option<i32>, String) {
        let mut running = self.start();
        let status = running.child.wait().expect("its end");
        (status.code(), running.log())
    }

    fn assert_env_is_complete(&self) {
        for variable in items(&self.container["env"]) {
            let name = text(&variable["name"]);
            assert!(self.env.contains_key(name), "{}: {name} has no value", self.name);
        }
    }

    /// The lines that `e2e/applications/container` reads: what the image has, then the volumes.
    fn mounts(&self) -> String {
        let image = self
            .image
            .iter()
            .map(|(mode, source, target)| format!("{mode} {} {target}\n", source.display()));
        let volumes = items(&self.container["volumeMounts"]).iter().map(|mount| {
            let name = text(&mount["name"]);
            let source = self.volumes.get(name);
            let source = source.unwrap_or_else(|| panic!("{}: no volume {name}", self.name));
            let source = source.join(mount["subPath"].as_str().unwrap_or_default());
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            let source = source.to_str().expect("UTF-8").trim_end_matches('/').to_owned();
            format!("{mode} {source} {}\n", text(&mount["mountPath"]))
        });
        image.chain(volumes).collect()
    }
}

/// A running container. It is ended when dropped; its log is shown if the test fails.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it has written to stdout and stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("its log")).into_owned()
    }

    /// The id of its process.
    pub fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Panics if it has ended.
    pub fn assert_runs(&mut self) {
        let status = self.child.try_wait().expect("its state");
        assert!(status.is_none(), "{} has ended: {status:?}", self.name);
    }

    /// Waits for its end; whether SIGKILL ended it.
    pub fn was_killed(&mut self) -> bool {
        let status = self.child.wait().expect("its end");
        status.signal() == Some(Signal::SIGKILL as i32)
    }

    /// Sends SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        kill(self.id(), Signal::SIGTERM).expect("a running process");
        wait_for(&format!("{} to end", self.name), || self.child.try_wait().expect("its state"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // All of its processes are in one group.
        let _ = killpg(self.id(), Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(20_000);
            let start = (start..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(start);
            println!("--- the end of the log of {}\n{}", self.name, &log[start..]);
        }
    }
}

/// Gives a directory to a group, as the kubelet does for `fsGroup`.
pub fn give_to_group(dir: &Path, group: u32) {
    chown(dir, None, Some(group)).expect("given away");
    fs::set_permissions(dir, Permissions::from_mode(0o2775)).expect("set");
}
