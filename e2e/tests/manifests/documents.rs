//! The documents: their links, paths, make targets, objects and options exist.

use std::collections::BTreeSet;

use crate::objects::{kind, name};
use crate::programs::program;
use crate::rendered::{kustomizations, sets};
use crate::tools::{files, read, top};

/// The paths of all Markdown documents of the workspace.
pub fn pages() -> Vec<String> {
    let crates = [
        "diagnostics",
        "owner-json",
        "provisioner",
        "reloader",
        "resolve-in-pod",
        "resolver",
        "scan-uids",
    ];
    let mut all: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
            .map(str::to_owned)
            .into();
    all.extend(crates.map(|name| format!("{name}/README.md")));
    all.retain(|page| top().join(page).is_file());
    for below in ["docs", "examples", "k8s"] {
        all.extend(files(below, &[".md"]));
    }
    all
}

/// The anchors that GitLab and GitHub make of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let is_kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    page.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|line| line.chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// The targets of all Markdown links of a page.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_have_existing_targets() {
    let mut count = 0;
    for page in pages() {
        let content = read(&page);
        let dir = top().join(&page).parent().expect("a directory").to_owned();
        for link in links(&content) {
            if link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { top().join(&page) } else { dir.join(file) };
            assert!(target.exists(), "{page}: {link}");
            if !anchor.is_empty() {
                assert!(anchors(&read(&target)).contains(anchor), "{page}: {link}");
            }
        }
    }
    assert!(count > 20, "{count}");
}

/// The lines of all blocks of shell code on a page, continued lines joined.
pub fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        let Some((language, code)) = block.split_once('\n') else { continue };
        if ["sh", "bash"].contains(&language) {
            let joined = code.replace("\\\n", " ");
            found.extend(
                joined
                    .lines()
                    .map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()),
            );
        }
    }
    found
}

/// The code spans of a page, outside of code blocks.
pub fn quoted(page: &str) -> Vec<String> {
    let text: String = page.split("```").step_by(2).collect();
    text.split('`').skip(1).step_by(2).map(|word| word.replace('\n', " ")).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut count = 0;
    for page in pages() {
        let content = read(&page);
        let code = commands(&content).into_iter().chain(quoted(&content));
        for word in
            code.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        {
            let word = word.trim_end_matches([':', ',', '.']);
            let is_path =
                ["k8s/", "examples/", "docs/", "e2e/"].iter().any(|top| word.starts_with(top));
            if is_path && !word.contains(['*', '{', '<', '=']) {
                count += 1;
                let is_removed = page.contains("MIGRATION") && REMOVED.contains(&word);
                assert!(is_removed || top().join(word).exists(), "{page}: {word}");
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn make_targets_in_documents_exist() {
    let makefile = read("Makefile");
    let mut count = 0;
    for page in pages() {
        let content = read(&page);
        for line in commands(&content).into_iter().chain(quoted(&content)) {
            let Some(target) =
                line.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next())
            else {
                continue;
            };
            count += 1;
            assert!(makefile.contains(&format!("\n{target}:")), "{page}: make {target}");
        }
    }
    assert!(count > 5, "{count}");
}

/// The kind that a resource name of kubectl stands for.
pub fn kind_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "cronjob" | "cronjobs" => "CronJob",
        "deployment" | "deployments" => "Deployment",
        "pod" | "pods" => "Pod",
        "configmap" | "configmaps" => "ConfigMap",
        "namespace" | "ns" => "Namespace",
        "networkpolicy" => "NetworkPolicy",
        "pvc" | "persistentvolumeclaim" => "PersistentVolumeClaim",
        "secret" | "secrets" => "Secret",
        "serviceaccount" => "ServiceAccount",
        _ => return None,
    })
}

/// Removed files and objects, which the migration guide may name.
pub const REMOVED: [&str; 9] = [
    "k8s/configmap.yaml",
    "k8s/cronjob.yaml",
    "k8s/job.yaml",
    "data-owner-resolver-scheduled",
    "data-provisioner-cronjob",
    "keycloak-deployment",
    "nginx-deployment",
    "opa-deployment",
    "resolver-policy",
];

#[test]
fn objects_in_kubectl_commands_exist() {
    let all = || sets().iter().flat_map(|set| &set.objects);
    let dirs = kustomizations("Kustomization");
    let mut count = 0;
    // READMEs of programs name other clusters.
    let is_readme_of_a_program =
        |page: &String| page.ends_with("/README.md") && !page.starts_with("k8s/");
    for page in pages().into_iter().filter(|page| !is_readme_of_a_program(page)) {
        for line in commands(&read(&page)).iter().filter(|line| line.contains("kubectl")) {
            let words: Vec<&str> =
                line.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
            for pair in words.windows(2) {
                match pair {
                    ["-n" | "--namespace", space] => {
                        count += 1;
                        let is_one =
                            |o: &&serde_json::Value| kind(o) == "Namespace" && name(o) == *space;
                        assert!(all().any(|o| is_one(&o)) || *space == "default", "{page}: {line}");
                    }
                    ["-k", dir] => {
                        count += 1;
                        assert!(dirs.iter().any(|known| known == dir), "{page}: {line}");
                    }
                    _ => {}
                }
            }
            for word in words {
                let word = word.strip_prefix("--from=").unwrap_or(word);
                let Some((kind_word, wanted_name)) = word.split_once('/') else { continue };
                let Some(wanted) = kind_of(kind_word) else { continue };
                count += 1;
                let exists = all().any(|o| kind(o) == wanted && name(o) == wanted_name);
                let is_removed = page.contains("MIGRATION") && REMOVED.contains(&wanted_name);
                assert!(exists || is_removed, "{page}: {line}");
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn options_in_documents_exist() {
    let mut count = 0;
    for page in pages() {
        let content = read(&page);
        for line in commands(&content).into_iter().chain(quoted(&content)) {
            for part in line.split('|') {
                let words = shlex::split(part).unwrap_or_default();
                let Some((first, words)) = words.split_first() else { continue };
                let Some(command) = program(first) else { continue };
                for word in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                    let flag = word.trim_start_matches("--").split('=').next().expect("a flag");
                    count += 1;
                    let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                    let mut known = command
                        .get_arguments()
                        .chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
                    let exists = known.any(|arg| arg.get_long() == Some(flag));
                    assert!(
                        exists || ["help", "version"].contains(&flag),
                        "{page}: {line}: --{flag}"
                    );
                }
            }
        }
    }
    assert!(count > 20, "{count}");
}
