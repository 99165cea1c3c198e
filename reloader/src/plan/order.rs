//! The actions as they stand on the command line: in which order, and which option belongs to
//! which of them.

use anyhow::Result;
use clap::ArgMatches;
use clap::parser::ValueSource;
use diagnostics::exit::misconfigured;

/// Options that begin an action.
const ACTIONS: [&str; 4] = ["signal", "exec", "http", "rollout"];
/// Options that say more of one: of which, and whether it begins one itself if there is none.
const DETAILS: [(&str, &str, bool); 11] = [
    ("pid", "signal", true),
    ("process", "signal", true),
    ("pid_file", "signal", true),
    ("http_header", "http", false),
    ("http_header_file", "http", false),
    ("http_bearer_file", "http", false),
    ("http_basic", "http", false),
    ("http_body", "http", false),
    ("http_ca", "http", false),
    ("http_expect", "http", false),
    ("http_timeout", "http", false),
];

/// An action as it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What begins it, such as `signal`.
    pub action: &'static str,
    /// With what; nothing if it was begun by one of its details.
    pub values: Vec<String>,
    /// What else was said of it.
    pub details: Vec<(&'static str, String)>,
}

/// The actions in the order in which they were asked for. What the environment says comes after
/// the command line, and of each kind there is one.
///
/// # Errors
/// An option stands where there is no action that it could belong to.
pub fn order(matches: &ArgMatches) -> Result<Vec<Asked>> {
    let mut said: Vec<((bool, usize), &'static str, Vec<String>)> = Vec::new();
    for id in ACTIONS.into_iter().chain(DETAILS.map(|(id, ..)| id)) {
        let from_environment = matches.value_source(id) == Some(ValueSource::EnvVariable);
        let each = if id == "http" { 2 } else { 1 };
        let places: Vec<_> = matches.indices_of(id).into_iter().flatten().collect();
        let texts: Vec<_> = matches.get_raw(id).into_iter().flatten().collect();
        for (places, texts) in places.chunks(each).zip(texts.chunks(each)) {
            let texts = texts.iter().map(|text| text.to_str().map(str::to_owned));
            let Some(texts) = texts.collect() else {
                let option = id.replace('_', "-");
                return Err(misconfigured(format_args!("the value of --{option} is not UTF-8")));
            };
            said.push(((from_environment, places[0]), id, texts));
        }
    }
    if said.iter().all(|(place, ..)| place.0) {
        // Nothing but the environment: what says more of an action follows it.
        said.sort_by_key(|(_, id, _)| rank(id));
    } else {
        said.sort_by_key(|(place, ..)| *place);
    }
    let mut asked: Vec<Asked> = Vec::new();
    for (_, id, values) in said {
        match DETAILS.iter().find(|(detail, ..)| *detail == id) {
            None => asked.push(Asked { action: action_of(id), values, details: Vec::new() }),
            Some((detail, action, begins)) => {
                add_detail(&mut asked, detail, action, *begins, &values)?;
            }
        }
    }
    Ok(asked)
}

fn add_detail(
    asked: &mut Vec<Asked>,
    detail: &'static str,
    action: &'static str,
    begins: bool,
    values: &[String],
) -> Result<()> {
    let is_taken = |asked: &Asked| begins && !asked.details.is_empty();
    match asked.last_mut() {
        Some(last) if last.action == action && !is_taken(last) => {}
        _ if begins => asked.push(Asked { action, values: Vec::new(), details: Vec::new() }),
        _ => {
            let (option, action) = (detail.replace('_', "-"), action.replace('_', "-"));
            return Err(misconfigured(format_args!(
                "--{option} must follow the --{action} that it belongs to"
            )));
        }
    }
    if let Some(last) = asked.last_mut() {
        last.details.extend(values.iter().map(|value| (detail, value.clone())));
    }
    Ok(())
}

fn action_of(id: &str) -> &'static str {
    ACTIONS.iter().find(|action| **action == id).copied().unwrap_or_default()
}

/// Actions by their place in [`ACTIONS`], each with its details after it.
fn rank(id: &str) -> (usize, bool) {
    let detail = DETAILS.iter().find(|(detail, ..)| *detail == id);
    let action = detail.map_or(id, |(_, action, _)| action);
    (ACTIONS.iter().position(|known| *known == action).unwrap_or_default(), detail.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn asked(args: &[&str]) -> Result<Vec<Asked>> {
        order(&Cli::command().try_get_matches_from([&["reloader"], args].concat()).unwrap())
    }

    fn action(action: &'static str, values: &[&str], details: &[(&'static str, &str)]) -> Asked {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let details = details.iter().map(|(id, value)| (*id, (*value).to_owned())).collect();
        Asked { action, values, details }
    }

    #[test]
    fn actions_stand_in_their_order_with_what_belongs_to_them() {
        let args = "/data --exec one --process nginx --signal USR1 --pid 7 --http POST http://a/ \
                    --http-ca ca --exec two --http GET http://b/ --http-expect 204";
        let args: Vec<_> = args.split_whitespace().collect();
        let expected = [
            action("exec", &["one"], &[]),
            action("signal", &[], &[("process", "nginx")]),
            action("signal", &["USR1"], &[("pid", "7")]),
            action("http", &["POST", "http://a/"], &[("http_ca", "ca")]),
            action("exec", &["two"], &[]),
            action("http", &["GET", "http://b/"], &[("http_expect", "204")]),
        ];
        assert_eq!(asked(&args).unwrap(), expected);
        assert_eq!(asked(&["/data"]).unwrap(), []);
    }

    #[test]
    fn an_option_that_belongs_to_nothing_is_refused() {
        for args in [
            &["--http-ca", "ca", "--http", "GET", "http://a/"][..],
            &["--http", "GET", "http://a/", "--exec", "x", "--http-ca", "ca"],
        ] {
            let error = asked(args).unwrap_err().to_string();
            assert_eq!(error, "--http-ca must follow the --http that it belongs to");
        }
    }
}
