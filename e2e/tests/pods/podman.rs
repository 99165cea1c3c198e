//! Runs Podman with private configuration, storage and networks. `e2e/pods/contained` creates the
//! directories, and ends the processes that Podman has started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use e2e::programs::{Outcome, run};

use crate::image;

/// A Debian with nginx, from `e2e/pods/debian`.
pub const DEBIAN: &str = "localhost/debian";

/// The time limit of one call in seconds: a build on a busy machine takes long.
const TIMEOUT: &str = "1500";

/// Podman with storage and configuration that no other podman shares.
pub struct Podman {
    dir: PathBuf,
    driver: &'static str,
}

/// The podman of this test run. The first call builds the images.
///
/// # Panics
/// Panics outside of `e2e/pods/contained`, or if a build fails.
pub fn podman() -> &'static Podman {
    static PODMAN: OnceLock<Podman> = OnceLock::new();
    PODMAN.get_or_init(|| {
        let podman = Podman::new();
        podman.import_debian();
        image::build_all(&podman);
        podman
    })
}

impl Podman {
    fn new() -> Self {
        let dir = std::env::var_os("PODS_DIR").expect("run these tests by `make e2e`");
        let dir = PathBuf::from(dir);
        fs::create_dir(dir.join("etc")).expect("made");
        let runtime = workspace().join("e2e/pods/runtime");
        // By default, podman shares locks in memory and its database with other runs of podman.
        let config = format!(
            "[engine]\nlock_type = \"file\"\nevents_logger = \"none\"\ncgroup_manager = \"cgroupfs\"\n\
             tmp_dir = \"/run/pods/tmp\"\nruntime = \"contained\"\n\
             [engine.runtimes]\ncontained = [\"{}\"]\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"/run/pods/networks\"\n",
            runtime.display()
        );
        fs::write(dir.join("etc/containers.conf"), config).expect("written");
        fs::write(dir.join("etc/registries.conf"), "unqualified-search-registries = []\n")
            .expect("written");
        let driver = if supports_overlay(&dir) { "overlay" } else { "vfs" };
        Self { dir, driver }
    }

    /// A podman command with a time limit.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", TIMEOUT, "podman", "--storage-driver", self.driver]);
        command.arg("--root").arg(self.dir.join("storage"));
        command.args(["--runroot", "/run/pods/run"]).args(args);
        command.env("CONTAINERS_CONF", self.dir.join("etc/containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.dir.join("etc/registries.conf"));
        // Podman packs layers in TMPDIR, and /tmp may be small.
        command.env("TMPDIR", &self.dir);
        command
    }

    /// Runs podman and returns its exit code and output.
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"")
    }

    /// Runs podman and returns its stdout.
    ///
    /// # Panics
    /// Panics if podman fails.
    pub fn get(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "podman {args:?}: {}", outcome.stderr);
        outcome.stdout.trim_end().to_owned()
    }

    /// The directory on disk for the tests' files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn import_debian(&self) {
        let archive = workspace().join("target/pods/debian.tar");
        let path = "ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin";
        self.get(&[
            "import",
            "--quiet",
            "--change",
            path,
            archive.to_str().expect("UTF-8"),
            DEBIAN,
        ]);
    }
}

/// The root directory of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Whether an overlay file system can be mounted in a directory. On another overlay it cannot.
fn supports_overlay(dir: &Path) -> bool {
    let script = "mkdir -p probe/lower probe/upper probe/work probe/all && cd probe && \
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay all && umount all";
    let tried = Command::new("sh").args(["-c", script]).current_dir(dir).output().expect("sh");
    tried.status.success()
}
