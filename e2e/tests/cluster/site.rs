//! Kustomizations of a test site: the project's manifests with the registry, addresses and storage of
//! the test cluster, as a user's own repository holds them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::kubectl::{REGISTRY, kubectl};

/// The data image, as the manifests name it below their registry.
pub const DATA_IMAGE: &str = "zeta-dcr/zeta-guard-provisioning";

/// Images of the manifests, and their names in the registry of the test cluster. The tags stay.
const IMAGES: [(&str, &str); 8] = [
    ("registry.example.com/zeta-dcr/zeta-guard-provisioning", DATA_IMAGE),
    ("registry.example.com/data-owner-resolver", "data-owner-resolver"),
    ("registry.corp.example/tools/data-owner-resolver", "data-owner-resolver"),
    ("registry.example.com/keycloak", "keycloak"),
    ("registry.corp.example/keycloak", "keycloak"),
    ("docker.io/nginxinc/nginx-unprivileged", "nginxinc/nginx-unprivileged"),
    ("docker.io/openpolicyagent/opa", "openpolicyagent/opa"),
    ("registry.k8s.io/kubectl", "kubectl"),
];

/// A kustomization in a temporary directory.
pub struct Site {
    dir: TempDir,
}

impl Site {
    /// A site that puts a kustomization of the workspace (`base`, relative to its root) into
    /// `namespace`. `more` are more lines of the kustomization: patches, components, generators.
    ///
    /// # Panics
    /// Panics if the files cannot be written.
    pub fn new(base: &str, namespace: &str, more: &str) -> Self {
        // kustomize accepts a base only by a relative path, so the site is in the workspace: in the folder
        // of the cluster, which ends with it.
        let parent = std::env::var_os("CLUSTER_DIR").expect("CLUSTER_DIR is the cluster's folder");
        let dir = TempDir::with_prefix_in("site.", parent).expect("a directory");
        let images: String = IMAGES
            .iter()
            .map(|(name, local)| format!("- name: {name}\n  newName: {REGISTRY}/{local}\n"))
            .collect();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
             namespace: {namespace}\nresources:\n- ../../../../{base}\nimages:\n{images}{more}"
        );
        fs::write(dir.path().join("kustomization.yaml"), text).expect("written");
        Self { dir }
    }

    /// Its directory, for more files that the kustomization names.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Applies the site on the server's side and returns what kubectl printed.
    ///
    /// # Panics
    /// Panics if the server refuses an object or warns.
    pub fn apply(&self) -> String {
        let dir = self.dir.path().to_str().expect("UTF-8");
        let args = ["apply", "--server-side", "--validate=strict", "-k", dir];
        let outcome = kubectl(&args);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
        outcome.stdout
    }

    /// Asserts that a second apply would change nothing.
    ///
    /// # Panics
    /// Panics with the differences.
    pub fn assert_unchanged(&self) {
        let dir = self.dir.path().to_str().expect("UTF-8");
        let outcome = kubectl(&["diff", "--server-side", "-k", dir]);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), ""), "{outcome:?}");
    }
}

/// The root directory of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The directories of all bases, overlays and example sites, relative to the workspace.
pub fn kustomizations() -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![workspace().join("k8s"), workspace().join("examples/site")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.ends_with("kustomization.yaml")
                && fs::read_to_string(&path).expect("read").contains("\nkind: Kustomization\n")
            {
                let dir = path.parent().and_then(|dir| dir.strip_prefix(workspace()).ok());
                found.push(dir.expect("below the workspace").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}
