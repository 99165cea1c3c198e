//! Groups the action flags of the command line into actions, each with its own options.
//!
//! clap returns the values of each flag separately, so this module restores their order:
//! 1. Every value of an action flag or action option is collected with its place.
//! 2. The values are sorted by place. Values from the environment come last; if there are no
//!    others, they are sorted by flag, so that options follow their action.
//! 3. A flag such as `--exec` starts an action; an option such as `--http-ca` belongs to the action
//!    before it.

use anyhow::Result;
use clap::ArgMatches;
use clap::parser::ValueSource;
use diagnostics::exit::misconfigured;

/// An action of the command line, with its values as text.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestedAction {
    /// `--signal`, `--pid`, `--process` or `--pid-file`.
    Signal {
        /// The signal, if one was named.
        name: Option<String>,
        /// The process, if one was named.
        target: Option<(TargetFlag, String)>,
    },
    /// `--exec` with its command line.
    Exec(String),
    /// `--http` with the `--http-...` options after it.
    Http {
        /// `POST`
        method: String,
        /// `http://127.0.0.1/`
        url: String,
        /// The options in their order.
        options: Vec<(HttpFlag, String)>,
    },
    /// `--rollout` with its workload.
    Rollout(String),
}

/// Flags that name the process to signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetFlag {
    /// `--pid`
    Pid,
    /// `--process`
    Process,
    /// `--pid-file`
    PidFile,
}

/// Options of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFlag {
    /// `--http-header`
    Header,
    /// `--http-header-file`
    HeaderFile,
    /// `--http-bearer-file`
    BearerFile,
    /// `--http-basic`
    Basic,
    /// `--http-body`
    Body,
    /// `--http-ca`
    Ca,
    /// `--http-expect`
    Expect,
    /// `--http-timeout`
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Signal,
    Target(TargetFlag),
    Exec,
    Http,
    HttpOption(HttpFlag),
    Rollout,
}

/// Each flag by its id in [`Cli`](crate::cli::Cli), in the order for values from the environment.
const FLAGS: [(&str, Flag); 15] = [
    ("signal", Flag::Signal),
    ("pid", Flag::Target(TargetFlag::Pid)),
    ("process", Flag::Target(TargetFlag::Process)),
    ("pid_file", Flag::Target(TargetFlag::PidFile)),
    ("exec", Flag::Exec),
    ("http", Flag::Http),
    ("http_header", Flag::HttpOption(HttpFlag::Header)),
    ("http_header_file", Flag::HttpOption(HttpFlag::HeaderFile)),
    ("http_bearer_file", Flag::HttpOption(HttpFlag::BearerFile)),
    ("http_basic", Flag::HttpOption(HttpFlag::Basic)),
    ("http_body", Flag::HttpOption(HttpFlag::Body)),
    ("http_ca", Flag::HttpOption(HttpFlag::Ca)),
    ("http_expect", Flag::HttpOption(HttpFlag::Expect)),
    ("http_timeout", Flag::HttpOption(HttpFlag::Timeout)),
    ("rollout", Flag::Rollout),
];

/// One use of a flag.
struct Occurrence {
    flag: Flag,
    id: &'static str,
    from_environment: bool,
    index: usize,
    values: Vec<String>,
}

/// The requested actions in their order. Of each kind, the environment can add one.
///
/// # Errors
/// Fails if an option does not follow an action that it can belong to.
pub fn requested_actions(matches: &ArgMatches) -> Result<Vec<RequestedAction>> {
    in_order(FLAGS.iter().flat_map(|&(id, flag)| occurrences(matches, id, flag)).collect())
}

fn occurrences(matches: &ArgMatches, id: &'static str, flag: Flag) -> Vec<Occurrence> {
    let from_environment = matches.value_source(id) == Some(ValueSource::EnvVariable);
    let values_each = if flag == Flag::Http { 2 } else { 1 };
    let indices: Vec<_> = matches.indices_of(id).into_iter().flatten().collect();
    let values: Vec<_> = matches.get_many::<String>(id).into_iter().flatten().cloned().collect();
    let uses = indices.chunks(values_each).zip(values.chunks(values_each));
    uses.map(|(indices, values)| Occurrence {
        flag,
        id,
        from_environment,
        index: indices[0],
        values: values.to_vec(),
    })
    .collect()
}

/// Groups occurrences, which are sorted by flag, into actions.
fn in_order(mut occurrences: Vec<Occurrence>) -> Result<Vec<RequestedAction>> {
    if !occurrences.iter().all(|occurrence| occurrence.from_environment) {
        occurrences.sort_by_key(|occurrence| (occurrence.from_environment, occurrence.index));
    }
    let mut actions = Vec::new();
    for Occurrence { flag, id, mut values, .. } in occurrences {
        let Some(value) = values.pop() else { continue };
        match flag {
            Flag::Signal => {
                actions.push(RequestedAction::Signal { name: Some(value), target: None });
            }
            Flag::Target(flag) => add_target(&mut actions, (flag, value)),
            Flag::Exec => actions.push(RequestedAction::Exec(value)),
            Flag::Http => {
                let method = values.pop();
                let method = method.ok_or_else(|| misconfigured("--http takes a method and a URL"));
                actions.push(RequestedAction::Http {
                    method: method?,
                    url: value,
                    options: Vec::new(),
                });
            }
            Flag::HttpOption(flag) => match actions.last_mut() {
                Some(RequestedAction::Http { options, .. }) => options.push((flag, value)),
                _ => {
                    let option = id.replace('_', "-");
                    return Err(misconfigured(format_args!(
                        "--{option} must follow the --http that it belongs to"
                    )));
                }
            },
            Flag::Rollout => actions.push(RequestedAction::Rollout(value)),
        }
    }
    Ok(actions)
}

/// Adds a target to the signal before it, or adds another signal.
fn add_target(actions: &mut Vec<RequestedAction>, added: (TargetFlag, String)) {
    match actions.last_mut() {
        Some(RequestedAction::Signal { target: target @ None, .. }) => *target = Some(added),
        _ => actions.push(RequestedAction::Signal { name: None, target: Some(added) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Vec<RequestedAction>> {
        requested_actions(
            &Cli::command().try_get_matches_from([&["reloader"], args].concat()).unwrap(),
        )
    }

    fn signal(name: Option<&str>, flag: TargetFlag, target: &str) -> RequestedAction {
        RequestedAction::Signal {
            name: name.map(str::to_owned),
            target: Some((flag, target.to_owned())),
        }
    }

    fn http(method: &str, url: &str, option: (HttpFlag, &str)) -> RequestedAction {
        let (method, url) = (method.to_owned(), url.to_owned());
        RequestedAction::Http { method, url, options: vec![(option.0, option.1.to_owned())] }
    }

    #[test]
    fn actions_keep_their_order_and_options() {
        let args = "/data --exec one --process nginx --signal USR1 --pid 7 --http POST http://a/ \
                    --http-ca ca --exec two --http GET http://b/ --http-expect 204";
        let args: Vec<_> = args.split_whitespace().collect();
        let expected = [
            RequestedAction::Exec("one".to_owned()),
            signal(None, TargetFlag::Process, "nginx"),
            signal(Some("USR1"), TargetFlag::Pid, "7"),
            http("POST", "http://a/", (HttpFlag::Ca, "ca")),
            RequestedAction::Exec("two".to_owned()),
            http("GET", "http://b/", (HttpFlag::Expect, "204")),
        ];
        assert_eq!(parse(&args).unwrap(), expected);
        assert_eq!(parse(&["/data"]).unwrap(), []);
    }

    #[test]
    fn two_targets_are_two_signals() {
        let expected =
            [signal(None, TargetFlag::Pid, "7"), signal(None, TargetFlag::PidFile, "/run/pid")];
        assert_eq!(parse(&["--pid", "7", "--pid-file", "/run/pid"]).unwrap(), expected);
    }

    #[test]
    fn an_option_without_its_action_is_refused() {
        for args in [
            &["--http-ca", "ca", "--http", "GET", "http://a/"][..],
            &["--http", "GET", "http://a/", "--exec", "x", "--http-ca", "ca"],
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert_eq!(error, "--http-ca must follow the --http that it belongs to");
        }
    }

    /// As clap reports them: each at an index that says nothing about the order.
    fn occurrence(id: &str, from_environment: bool, index: usize, values: &[&str]) -> Occurrence {
        let &(id, flag) = FLAGS.iter().find(|(known, _)| *known == id).unwrap();
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Occurrence { flag, id, from_environment, index, values }
    }

    #[test]
    fn options_from_the_environment_follow_their_action() {
        let actions = in_order(vec![
            occurrence("signal", true, 9, &["USR1"]),
            occurrence("process", true, 1, &["nginx"]),
            occurrence("http", true, 7, &["GET", "http://a/"]),
            occurrence("http_ca", true, 2, &["ca"]),
        ]);
        let expected = [
            signal(Some("USR1"), TargetFlag::Process, "nginx"),
            http("GET", "http://a/", (HttpFlag::Ca, "ca")),
        ];
        assert_eq!(actions.unwrap(), expected);
    }

    #[test]
    fn the_environment_comes_after_the_command_line() {
        let actions = in_order(vec![
            occurrence("exec", true, 1, &["second"]),
            occurrence("rollout", false, 5, &["deployment/first"]),
        ]);
        let expected = [
            RequestedAction::Rollout("deployment/first".to_owned()),
            RequestedAction::Exec("second".to_owned()),
        ];
        assert_eq!(actions.unwrap(), expected);
    }
}
