//! Checks the command lines, variables, paths and ports in pods against the programs' definitions.

use clap::{Command, CommandFactory};
use serde_json::Value;

use crate::objects::{containers, fields, kind_and_name, list, template, text, texts};
use crate::rendered::{Set, sets};

/// The directory of the programs in the image.
const BIN: &str = "/usr/local/bin/";

/// The command line of a program of this workspace.
pub fn program(name: &str) -> Option<Command> {
    Some(match name {
        "provisioner" => provisioner::cli::Cli::command(),
        "reloader" => reloader::cli::Cli::command(),
        "resolve-in-pod" => resolve_in_pod::cli::Cli::command(),
        "resolver" => resolver::cli::Cli::command(),
        "scan-uids" => scan_uids::cli::Cli::command(),
        _ => return None,
    })
}

/// The command-line definition, name and arguments of a container's program, if it is of this workspace.
fn workspace_program(container: &Value) -> Option<(Command, &str, Vec<&str>)> {
    let name = text(container, "/command/0").strip_prefix(BIN)?;
    Some((program(name).expect("a program of this workspace"), name, texts(container, "/args")))
}

fn assert_parses(command: Command, args: &[&str], location: &str) {
    let name = command.get_name().to_owned();
    let line = std::iter::once(name.as_str()).chain(args.iter().copied());
    if let Err(error) = command.try_get_matches_from(line) {
        panic!("{location}: {args:?}: {error}");
    }
}

/// Calls `check` with the set, the pod template, the container and the location for messages, for each
/// container that runs a program of this workspace. Returns the number of calls.
fn for_each_container(
    mut check: impl FnMut(&'static Set, &'static Value, &'static Value, &str),
) -> usize {
    let mut count = 0;
    for set in sets() {
        for object in &set.objects {
            let Some(template) = template(object) else { continue };
            for container in containers(template).filter(|c| workspace_program(c).is_some()) {
                count += 1;
                check(
                    set,
                    template,
                    container,
                    &format!("{}: {}", set.from, kind_and_name(object)),
                );
            }
        }
    }
    count
}

#[test]
fn the_programs_accept_the_arguments() {
    let count = for_each_container(|_, _, container, location| {
        let (command, _, args) = workspace_program(container).unwrap();
        assert_parses(command, &args, location);
        for line in args.iter().filter_map(|arg| arg.strip_prefix("--exec=")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words[0].strip_prefix(BIN).expect("a program of the image");
            assert_parses(program(name).expect(name), &words[1..], location);
        }
    });
    assert!(count > 20, "{count}");
}

#[test]
fn the_programs_define_the_variables() {
    for_each_container(|set, _, container, location| {
        let (command, ..) = workspace_program(container).unwrap();
        let known: Vec<&str> =
            command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).collect();
        let own = list(container, "/env").iter().map(|variable| text(variable, "/name"));
        let maps = list(container, "/envFrom")
            .iter()
            .filter_map(|source| set.get("ConfigMap", text(source, "/configMapRef/name")));
        let shared = maps.flat_map(|map| fields(map, "/data")).map(|(name, _)| name);
        for variable in own.chain(shared) {
            assert!(known.contains(&variable), "{location}: the program defines no {variable}");
        }
    });
}

/// The volume mount that contains a path in a container.
fn mount<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    list(container, "/volumeMounts").iter().find(|mount| {
        let at = text(mount, "/mountPath");
        path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'))
    })
}

#[test]
fn paths_in_arguments_are_on_mounted_volumes() {
    for_each_container(|set, _, container, location| {
        let (_, program, args) = workspace_program(container).unwrap();
        let is_writable =
            |path: &str| mount(container, path).is_some_and(|m| m["readOnly"] != true);
        for path in args.iter().filter(|arg| arg.starts_with('/')) {
            assert!(mount(container, path).is_some(), "{location}: {path}");
        }
        for line in args.iter().filter_map(|arg| arg.strip_prefix("--exec=")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value =
                |flag: &str| words[words.iter().position(|word| *word == flag).expect(flag) + 1];
            assert!(mount(container, value("--source")).is_some(), "{location}: {line}");
            assert!(is_writable(value("--target")), "{location}: {line}");
        }
        if program == "provisioner" {
            assert!(is_writable("/data-output"), "{location}");
        }
        for variable in list(container, "/env") {
            if text(variable, "/name") == "RESOLVE_IN_POD_OUTPUT" {
                assert!(is_writable(text(variable, "/value")), "{location}");
            }
        }
        if program == "resolve-in-pod" {
            let config =
                &set.get("ConfigMap", "data-owner-resolver-config").expect(location)["data"];
            let file = text(config, "/LDAP_BIND_PASS_FILE");
            let mount = mount(container, file).expect(location);
            assert_eq!(format!("{}/LDAP_BIND_PASS", text(mount, "/mountPath")), file, "{location}");
            let secret = set.get("Secret", "data-owner-resolver-secret");
            let by_operator = set.get("ExternalSecret", "data-owner-resolver-secret");
            let has_key = secret.is_some_and(|s| s["data"].get("LDAP_BIND_PASS").is_some())
                || by_operator
                    .is_some_and(|e| text(e, "/spec/data/0/secretKey") == "LDAP_BIND_PASS");
            assert!(has_key, "{location}");
        }
    });
}

#[test]
fn declared_ports_are_the_ports_that_reloader_listens_on() {
    let mut seen = 0;
    for_each_container(|_, _, container, location| {
        let (_, program, args) = workspace_program(container).unwrap();
        if program != "reloader" || container.get("ports").is_none() {
            return;
        }
        seen += 1;
        let line = args.join(" ").replace("--listen=", "--listen ");
        let port = line.split("--listen :").nth(1).and_then(|rest| rest.split(' ').next());
        let port: u64 = port.expect(location).parse().expect(location);
        assert_eq!(container["ports"][0]["containerPort"], port, "{location}");
    });
    assert!(seen > 5, "{seen}");
}
