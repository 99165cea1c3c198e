//! Strings that manifests, examples and guides must not contain: removed APIs and unsafe settings.

use crate::documents::pages;
use crate::rendered::{parse, sets};
use crate::tools::{files, read};

const BANNED: [&str; 8] = [
    "PodSecurityPolicy",
    "v1beta1\n",
    "policy/v1beta1",
    "privileged: true",
    ":latest",
    "test-latest",
    "serviceAccount:",
    "LDAP_SKIP_TLS_VERIFY",
];

/// The text without lines that are comments.
fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn manifests_and_examples_contain_no_banned_string() {
    let checked = [
        files("k8s", &[".yaml", ".env"]),
        files("examples", &[".yaml", ".yml", ".py", ".sh", "Containerfile"]),
    ];
    for file in checked.concat() {
        let text = without_comments(&read(&file));
        // Kustomize's own format has this version.
        let text = text.replace("kustomize.config.k8s.io/v1beta1\n", "");
        for banned in BANNED {
            assert!(!text.contains(banned), "{file}: {banned}");
        }
        let starts_tls = text.contains("LDAP_STARTTLS=true");
        assert!(starts_tls || !text.contains("ldap://"), "{file}: ldap:// without StartTLS");
    }
}

/// Checks the code blocks alone: the prose of the migration guide names removed settings.
#[test]
fn code_in_the_guides_contains_no_banned_string() {
    let mut count = 0;
    for page in pages() {
        let content = read(&page);
        for block in content.split("```").skip(1).step_by(2) {
            count += 1;
            for banned in BANNED {
                assert!(!block.contains(banned), "{page}: {banned}: {block}");
            }
            let starts_tls = block.contains("LDAP_STARTTLS=true");
            assert!(starts_tls || !block.contains("ldap://"), "{page}: ldap://: {block}");
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn every_manifest_file_is_used_by_a_kustomization() {
    let all = files("k8s", &["kustomization.yaml"]);
    let named: String = all.iter().map(read).collect();
    for file in files("k8s", &[""]) {
        let (_, last) = file.rsplit_once('/').expect("a path");
        let stands_alone = ["kustomization.yaml", "job.yaml", "README.md"].contains(&last);
        assert!(stands_alone || named.contains(last), "no kustomization names {file}");
    }
}

#[test]
fn api_versions_are_stable() {
    for set in sets() {
        for object in &set.objects {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            assert!(
                !version.contains("alpha") && !version.contains("beta"),
                "{}: {version}",
                set.from
            );
        }
    }
    assert_eq!(parse("a: 1\n---\nb: 2\n").len(), 2);
}
