//! The commands of the guides: kubectl accepts them, and the objects, containers, labels and variables
//! that they name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::api::{Answer, Api};
use crate::documents::{REMOVED, commands, kind_of, pages, quoted};
use crate::objects::{containers, fields, kind, labels, list, name, selects, template, text};
use crate::programs::program;
use crate::rendered::{set, sets};
use crate::tools::{outcome, read, succeed, tool};

/// A call of kubectl in a guide: the page, and the words after `kubectl`.
struct Call {
    page: String,
    words: Vec<String>,
}

impl Call {
    /// The words up to `--`. The words after it are a command for a pod.
    fn kubectl_words(&self) -> &[String] {
        let end = self.words.iter().position(|word| word == "--");
        &self.words[..end.unwrap_or(self.words.len())]
    }

    /// The words that are neither options nor values of options.
    fn positional(&self) -> Vec<&str> {
        let mut words = self.kubectl_words().iter();
        let mut found = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-n" | "-l" | "-c" | "-f" | "-k" | "-o" | "--profile" => drop(words.next()),
                option if option.starts_with('-') => {}
                positional => found.push(positional),
            }
        }
        found
    }

    /// The subcommand: `create secret tls`, `get`.
    fn subcommand(&self) -> Vec<&str> {
        let positional = self.positional();
        let length = match positional[..] {
            ["create", "secret", ..] => 3,
            ["create" | "rollout", ..] if positional.len() > 1 => 2,
            _ => 1,
        };
        positional.into_iter().take(length).collect()
    }

    /// The value of an option: `-l VALUE` or `--labels=VALUE`.
    fn value(&self, short: &str, long: &str) -> Option<&str> {
        let own = self.kubectl_words();
        let long = own.iter().find_map(|word| word.strip_prefix(long)?.strip_prefix('='));
        let after = own.iter().position(|word| word == short).map(|at| own[at + 1].as_str());
        long.or(after)
    }
}

/// The calls of kubectl in code blocks and code spans of the guides. READMEs of programs are left out:
/// their examples name other clusters.
fn calls() -> Vec<Call> {
    let is_readme_of_a_program =
        |page: &String| page.ends_with("/README.md") && !page.starts_with("k8s/");
    let mut found = Vec::new();
    for page in pages().into_iter().filter(|page| !is_readme_of_a_program(page)) {
        let content = read(&page);
        let code = commands(&content).into_iter().chain(quoted(&content));
        for part in code.flat_map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>()) {
            // Prose may name `kubectl` without arguments.
            let words = shlex::split(&part).unwrap_or_default();
            if words.first().is_some_and(|word| word == "kubectl") && words.len() > 1 {
                found.push(Call { page: page.clone(), words: words[1..].to_vec() });
            }
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

/// All names of the options in a help text.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| names.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.split('=').next().expect("a name").to_owned())
        .collect()
}

#[test]
fn kubectl_accepts_the_commands_and_their_options() {
    let global = options(&succeed(tool("kubectl").arg("options")).stdout);
    assert!(global.contains("--namespace") && global.contains("-n"), "{global:?}");
    let mut known = BTreeMap::new();
    for call in calls() {
        let subcommand: Vec<String> = call.subcommand().into_iter().map(str::to_owned).collect();
        let location = format!("{}: kubectl {}", call.page, call.words.join(" "));
        let own = known.entry(subcommand.clone()).or_insert_with(|| {
            let help = outcome(tool("kubectl").args(&subcommand).arg("--help")).stdout;
            assert!(help.contains(&format!("kubectl {}", subcommand.join(" "))), "{location}");
            options(&help)
        });
        for word in
            call.kubectl_words().iter().filter(|word| word.starts_with('-') && word.len() > 1)
        {
            let option = word.split('=').next().expect("an option");
            let short = || option.chars().skip(1).map(|letter| format!("-{letter}")).collect();
            let all = if option.starts_with("--") { vec![option.to_owned()] } else { short() };
            for option in all {
                assert!(own.contains(&option) || global.contains(&option), "{location}: {option}");
            }
        }
    }
}

/// Whether a Job (if `jobs`) or a pod of the manifests has the label.
fn has_label(jobs: bool, key: &str, value: &str) -> bool {
    sets().iter().flat_map(|set| &set.objects).any(|object| {
        let holder = match kind(object) {
            "Job" if jobs => Some(object),
            "CronJob" if jobs => object.pointer("/spec/jobTemplate"),
            _ if jobs => None,
            _ => template(object),
        };
        holder.is_some_and(|holder| labels(holder)[key] == value)
    })
}

#[test]
fn labels_in_commands_exist() {
    let mut count = 0;
    for call in calls() {
        let Some(wanted) = call.value("-l", "--labels") else { continue };
        let jobs = call.positional().iter().any(|word| ["job", "jobs"].contains(word));
        for (key, value) in wanted.split(',').filter_map(|label| label.split_once('=')) {
            // Kubernetes sets this label itself.
            if key != "batch.kubernetes.io/job-name" {
                count += 1;
                assert!(has_label(jobs, key, value), "{}: {:?}", call.page, call.words);
            }
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn objects_and_containers_in_commands_exist() {
    let all = || sets().iter().flat_map(|set| &set.objects);
    let mut count = 0;
    for call in calls() {
        let location = format!("{}: kubectl {}", call.page, call.words.join(" "));
        let positional = call.positional();
        let mut named: Vec<(&str, &str)> = Vec::new();
        match positional[..] {
            // A pod that the guide creates with `kubectl run` may have any name.
            ["exec", pod, ..] => named.push(("Pod", pod)),
            ["get" | "describe" | "delete" | "label", what, wanted_name, ..] => {
                named.extend(kind_of(what).map(|kind| (kind, wanted_name)));
            }
            _ => {}
        }
        for (wanted, wanted_name) in named {
            // `NODE` and the like are placeholders.
            if wanted_name.contains('/') || wanted_name.chars().all(|c| c.is_ascii_uppercase()) {
                continue;
            }
            count += 1;
            let exists = all().any(|o| kind(o) == wanted && name(o) == wanted_name);
            assert!(exists || REMOVED.contains(&wanted_name), "{location}: {wanted}/{wanted_name}");
        }
        let Some(container) = call.value("-c", "--container") else { continue };
        count += 1;
        let deployment = positional.iter().find_map(|word| word.strip_prefix("deployment/"));
        let pods = all().filter(|o| deployment.is_none_or(|wanted_name| name(o) == wanted_name));
        let mut inside = pods.filter_map(template).flat_map(containers);
        assert!(
            inside.any(|c| text(c, "/name") == container),
            "{location}: no container {container}"
        );
    }
    assert!(count > 10, "{count}");
}

#[test]
fn programs_in_pods_accept_the_arguments_of_the_guides() {
    let mut count = 0;
    for call in calls() {
        let Some(end) = call.words.iter().position(|word| word == "--") else { continue };
        let Some(path) = call.words.get(end + 1).and_then(|w| w.strip_prefix("/usr/local/bin/"))
        else {
            continue;
        };
        count += 1;
        let location = format!("{}: {:?}", call.page, call.words);
        let line = std::iter::once(path.to_owned()).chain(call.words[end + 2..].iter().cloned());
        if let Err(error) = program(path).expect(&location).try_get_matches_from(line) {
            panic!("{location}: {error}");
        }
    }
    assert!(count > 3, "{count}");
}

/// The environment variables that the programs and the manifests define.
fn variables() -> BTreeSet<String> {
    let names = ["provisioner", "reloader", "resolve-in-pod", "resolver", "scan-uids"];
    let mut known: BTreeSet<String> = names
        .into_iter()
        .flat_map(|wanted_name| {
            let program = program(wanted_name).expect(wanted_name);
            let all = program.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
            all.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    // reloader sets these for its commands.
    known.extend(["RELOADER_DIGEST", "RELOADER_DIRECTORIES"].map(str::to_owned));
    // A secret has no option on the command line.
    known.insert("LDAP_BIND_PASS".to_owned());
    // provisioner sets these for the commands of --check and --then.
    known.extend(["PROVISIONER_DIGEST", "PROVISIONER_STAGED"].map(str::to_owned));
    let maps = sets().iter().flat_map(|set| set.of_kind("ConfigMap"));
    known.extend(maps.flat_map(|map| fields(map, "/data")).map(|(name, _)| name.to_owned()));
    known
}

#[test]
fn variables_in_the_guides_exist() {
    let known = variables();
    let mut count = 0;
    for page in pages().into_iter().filter(|page| !page.ends_with("/README.md")) {
        let content = read(&page);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let prefixes =
            ["LDAP_", "PROVISIONER_", "RELOADER_", "RESOLVE_IN_POD_", "SCAN_UIDS_", "KC_"];
        for word in content.split(|c| !is_part(c)) {
            let rest = prefixes.iter().find_map(|prefix| word.strip_prefix(prefix));
            if rest.is_some_and(|rest| !rest.is_empty()) && page.starts_with("docs/") {
                count += 1;
                assert!(known.contains(word), "{page}: {word}");
            }
        }
    }
    assert!(count > 10, "{count}");
}

/// Runs the pipe of the guides with the real kubectl and jq against the fake API server.
#[test]
fn the_command_that_ends_a_rollback_creates_a_job_with_the_unpin_setting() {
    for page in ["docs/OPERATIONS.md", "docs/BEREITSTELLUNG.de.md"] {
        let content = read(page);
        let mut lines = commands(&content).into_iter();
        let line = lines.find(|line| line.contains("PROVISIONER_UNPIN")).expect(page);
        // The fake server has no schema to validate with, and the test reads the object from stderr.
        let create = "| kubectl create -f -";
        assert!(line.contains(create), "{line}");
        let line = line.replace(create, "| tee /dev/stderr | kubectl create --validate=false -f -");
        let cron = set("k8s/provisioning/base").get("CronJob", "data-provisioner").unwrap();
        let api = Api::serve(move |request| match request.verb.as_str() {
            "get" => Some(Answer::json(200, cron)),
            "create" => Some(Answer::json(201, &request.body)),
            _ => None,
        });
        let kubectl = PathBuf::from(tool("kubectl").get_program());
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", kubectl.parent().unwrap().display());
        let mut shell = Command::new("sh");
        shell.env("PATH", path).args(["-c", &line]);
        api.configure_kubectl(&mut shell, "");
        let outcome = outcome(&mut shell);
        assert_eq!(outcome.code, Some(0), "{page}: {outcome:?}");
        let sent: Value =
            serde_json::from_str(&outcome.stderr).expect("the object that kubectl sends");
        let container = &sent["spec"]["template"]["spec"]["containers"][0];
        let variables = list(container, "/env").iter();
        let unpin = variables.filter(|v| v["name"] == "PROVISIONER_UNPIN" && v["value"] == "true");
        assert_eq!(unpin.count(), 1, "{page}: {container}");
    }
}

/// Checks the pod that kubectl creates for the manual LDAP query of the guide.
#[test]
fn the_pod_of_the_manual_ldap_query_may_reach_the_server() {
    let content = read("docs/OPERATIONS.md");
    let mut lines = commands(&content).into_iter();
    let line = lines.find(|line| line.contains(" run ldap-test ")).expect("the command");
    let line = line.split_once("| kubectl ").expect("a pipe").1;
    let line = line.replace(" --rm -i ", " --dry-run=client --output=json ");
    let api = Api::serve(|_| None);
    let mut kubectl = tool("kubectl");
    api.configure_kubectl(&mut kubectl, "");
    let outcome = succeed(kubectl.args(shlex::split(&line).unwrap()));
    let pod: Value = serde_json::from_str(&outcome.stdout).expect("a pod");
    let set = set("k8s/ownership/base");
    let policy = set.get("NetworkPolicy", "data-owner-resolver").unwrap();
    assert!(selects(&policy["spec"]["podSelector"], labels(&pod)), "{pod}");
    let cron = set.get("CronJob", "data-owner-resolver").and_then(template).unwrap();
    assert_eq!(pod["spec"]["imagePullSecrets"], cron["spec"]["imagePullSecrets"], "{pod}");
    assert_eq!(pod["metadata"]["namespace"], "data-owner-resolver");
    let known = variables();
    for variable in list(&pod, "/spec/containers/0/env") {
        assert!(known.contains(text(variable, "/name")), "{variable}");
    }
}

#[test]
fn the_guide_lists_every_alert() {
    let guide = read("docs/OPERATIONS.md");
    let chapter = guide.split("\n## Alerts\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows =
        chapter.expect("the chapter on alerts").lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let rules = sets().iter().flat_map(|set| set.of_kind("PrometheusRule"));
    let groups = rules.flat_map(|rule| list(rule, "/spec/groups"));
    let alerts = groups.flat_map(|group| list(group, "/rules")).map(|rule| text(rule, "/alert"));
    assert_eq!(listed, alerts.filter(|alert| !alert.is_empty()).collect());
}
