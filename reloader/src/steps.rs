//! Builds the steps of a reload from the command line.
//!
//! 1. [`action_flags`] groups the flags into the requested actions, in their order.
//! 2. `--serve-bundle` becomes the first step, since an application may load the bundle in another.
//! 3. Each action becomes a [`Step`]; without any, the only step is SIGHUP to process 1.
//! 4. `--check-exec` becomes the very first steps, and `--verify-http` the last one.

mod action_flags;

use anyhow::{Context, Result};
use clap::ArgMatches;
use diagnostics::exit::misconfigured;

use self::action_flags::{HttpFlag, RequestedAction, TargetFlag, requested_actions};
use crate::action::Action;
use crate::action::check::Check;
use crate::action::exec::Exec;
use crate::action::http::HttpCall;
use crate::action::rollout::Rollout;
use crate::action::serve_bundle::{ServeBundle, VerifyOpa};
use crate::action::signal::{SendSignal, SignalName, Target};
use crate::action::verify_http::VerifyHttp;
use crate::cli::{Cli, seconds};
use crate::process::nginx::LastMaster;
use crate::reload::{Step, Steps};
use crate::serve::bundle::Published;

/// What steps write and servers read.
pub struct Shared {
    /// The bundle.
    pub published: Published,
    /// The master of nginx.
    pub master: LastMaster,
}

/// The steps of a reload: `--check-exec`, `--serve-bundle`, the requested actions, or SIGHUP to process 1
/// if there is neither of these two, and `--verify-http` at the end.
///
/// # Errors
/// Fails if an action cannot be built from its values; the configuration is wrong then.
pub fn from_command_line(matches: &ArgMatches, cli: &Cli, shared: &Shared) -> Result<Steps> {
    let mut actions = requested_actions(matches)?;
    let bundle = serve_bundle(cli, &shared.published)?;
    if actions.is_empty() && bundle.is_none() {
        actions.push(RequestedAction::Signal { name: None, target: None });
    }
    let actions = actions.iter().map(|action| step(action, cli, &shared.master));
    let mut steps = bundle.into_iter().map(Ok).chain(actions).collect::<Result<Vec<_>>>()?;
    let at_start = steps.iter().any(|step| step.at_start);
    if let Some(url) = &cli.verify_http {
        steps.push(Step { action: Box::new(verification(url, cli)?), is_check: false, at_start });
    }
    let checks = cli.check_exec.iter().map(|line| check(line, at_start, cli));
    steps.splice(..0, checks.collect::<Result<Vec<_>>>()?);
    Ok(Steps::new(steps))
}

fn check(line: &str, at_start: bool, cli: &Cli) -> Result<Step> {
    let command = Exec::parse(line).context("--check-exec")?.timeout(cli.exec_timeout);
    Ok(Step { action: Box::new(Check(command)), is_check: true, at_start })
}

/// The step that publishes the bundle. It also runs at the start: OPA has nothing before.
fn serve_bundle(cli: &Cli, published: &Published) -> Result<Option<Step>> {
    if cli.serve_bundle.is_none() {
        return Ok(None);
    }
    if cli.directories.len() != 1 {
        return Err(misconfigured("--serve-bundle takes exactly one directory"));
    }
    let opa = cli.verify_opa.as_ref().map(|url| VerifyOpa::new(url, cli.verify_timeout));
    let opa = opa.transpose().context("--verify-opa")?;
    let action = Box::new(ServeBundle::new(published.clone(), opa));
    Ok(Some(Step { action, is_check: false, at_start: true }))
}

fn step(action: &RequestedAction, cli: &Cli, master: &LastMaster) -> Result<Step> {
    let (action, at_start): (Box<dyn Action>, bool) = match action {
        RequestedAction::Signal { name, target } => {
            let signal = signal(name.as_deref(), target.as_ref(), cli)?;
            (
                Box::new(SendSignal { master: master.clone(), ..signal }),
                cli.at_start.unwrap_or(true),
            )
        }
        RequestedAction::Exec(command) => (
            Box::new(Exec::parse(command).context("--exec")?.timeout(cli.exec_timeout)),
            cli.at_start.unwrap_or(false),
        ),
        RequestedAction::Http { method, url, options } => {
            (Box::new(http(method, url, options)?), cli.at_start.unwrap_or(false))
        }
        // A rollout does nothing if the workload has the content already.
        RequestedAction::Rollout(workload) => {
            (Box::new(rollout(workload, cli)?), cli.at_start.unwrap_or(true))
        }
    };
    Ok(Step { action, is_check: false, at_start })
}

fn signal(
    name: Option<&str>,
    target: Option<&(TargetFlag, String)>,
    cli: &Cli,
) -> Result<SendSignal> {
    let signal = match name {
        Some(name) => name.parse().map_err(|error| misconfigured(format_args!("{error:#}")))?,
        None => SignalName::HUP,
    };
    let target = match target {
        Some((TargetFlag::Process, text)) => Target::Process(text.clone()),
        Some((TargetFlag::PidFile, file)) => Target::PidFile(file.into()),
        Some((TargetFlag::Pid, pid)) => Target::Pid(pid.parse().map_err(|_| {
            misconfigured(format_args!("--pid takes the number of a process, not `{pid}`"))
        })?),
        None => Target::Pid(1),
    };
    let (verify, timeout) = (cli.verify, cli.verify_timeout);
    Ok(SendSignal { signal, target, verify, timeout, master: LastMaster::default() })
}

fn http(method: &str, url: &str, options: &[(HttpFlag, String)]) -> Result<HttpCall> {
    let mut call = HttpCall::new(method, url).context("--http")?;
    for (flag, value) in options {
        call = match flag {
            HttpFlag::Header => call.header(value)?,
            HttpFlag::HeaderFile => call.header_file(value)?,
            HttpFlag::BearerFile => call.bearer(value.into())?,
            HttpFlag::Basic => match value.split_once('=') {
                Some((user, file)) => call.basic(user.to_owned(), file.into())?,
                None => return Err(misconfigured("--http-basic takes USER=FILE")),
            },
            HttpFlag::Body => call.body(value.into())?,
            HttpFlag::Ca => call.ca(value.into()),
            HttpFlag::Expect => call.expect(statuses(value)?)?,
            HttpFlag::Timeout => call.timeout(seconds(value).map_err(|error| {
                misconfigured(format_args!("--http-timeout `{value}`: {error}"))
            })?),
        };
    }
    Ok(call)
}

fn statuses(text: &str) -> Result<Vec<u16>> {
    let parsed = text.split(',').map(|status| status.trim().parse().ok());
    parsed.collect::<Option<_>>().ok_or_else(|| {
        misconfigured(format_args!("--http-expect takes statuses such as 200,204, not `{text}`"))
    })
}

fn rollout(workload: &str, cli: &Cli) -> Result<Rollout> {
    let mut rollout = Rollout::parse(workload).context("--rollout")?;
    if let Some(namespace) = &cli.namespace {
        rollout = rollout.namespace(namespace)?;
    }
    if let Some(file) = &cli.kubeconfig {
        rollout = rollout.kubeconfig(file.clone());
    }
    if let Some(key) = &cli.rollout_annotation {
        rollout = rollout.annotation(key)?;
    }
    Ok(match cli.wait {
        Some(timeout) => rollout.wait(timeout),
        None => rollout,
    })
}

fn verification(url: &str, cli: &Cli) -> Result<VerifyHttp> {
    let mut call = HttpCall::new("GET", url).context("--verify-http")?;
    if let Some(file) = &cli.verify_http_ca {
        call = call.ca(file.clone());
    }
    VerifyHttp::new(call, cli.verify_http_text.clone(), cli.verify_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches};
    use diagnostics::exit::{MISCONFIGURED, code_of};

    fn plan(args: &[&str]) -> Result<Steps> {
        let matches = Cli::command().try_get_matches_from([&["reloader"], args].concat()).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let shared = Shared { published: Published::new(), master: LastMaster::default() };
        from_command_line(&matches, &cli, &shared)
    }

    #[test]
    fn without_actions_process_1_gets_sighup() {
        assert_eq!(plan(&["/data"]).unwrap().describe(), "HUP to process 1");
    }

    #[test]
    fn the_verification_comes_last() {
        let args = ["--verify-http", "http://127.0.0.1/", "--exec", "a", "--rollout", "sts/db"];
        let described = plan(&args).unwrap().describe();
        let expected = "run `a`; rolling restart of statefulset/db; GET `http://127.0.0.1/`";
        assert_eq!(described, expected);
    }

    #[test]
    fn checks_come_first_and_run_at_the_start_if_an_action_does() {
        let args = ["--exec", "a", "--check-exec", "b --key s3cret", "--check-exec", "c"];
        let steps = plan(&args).unwrap();
        assert_eq!(steps.describe(), "check with `b`; check with `c`; run `a`");
        assert!(!steps.any_at_start());
        assert!(plan(&["--check-exec", "b"]).unwrap().any_at_start());
    }

    #[test]
    fn the_bundle_comes_first_and_no_signal_is_sent() {
        let args = ["--serve-bundle", "127.0.0.1:0", "--verify-opa", "http://127.0.0.1:8181", "/a"];
        let described = plan(&args).unwrap().describe();
        assert_eq!(described, "serve the bundle to OPA at `http://127.0.0.1:8181/`");
        let args = ["--serve-bundle", "127.0.0.1:0", "--exec", "a", "--at-start=false", "/a"];
        let steps = plan(&args).unwrap();
        assert_eq!(steps.describe(), "serve the bundle; run `a`");
        assert!(steps.any_at_start());
    }

    #[test]
    fn only_signals_and_rollouts_run_at_the_start_by_default() {
        let runs_at_start = |args: &[&str]| plan(args).unwrap().any_at_start();
        for (args, expected) in [
            (&["--process", "nginx"][..], true),
            (&["--rollout", "deployment/web"], true),
            (&["--exec", "true"], false),
            (&["--http", "GET", "http://127.0.0.1/"], false),
            (&["--exec", "true", "--at-start"], true),
            (&["--process", "nginx", "--at-start=false"], false),
        ] {
            assert_eq!(runs_at_start(args), expected, "{args:?}");
        }
    }

    #[test]
    fn values_that_make_no_action_are_wrong_configuration() {
        let http = ["--http", "GET", "http://127.0.0.1/"];
        for (args, expected) in [
            (&["--pid", "nginx"][..], "--pid takes the number of a process, not `nginx`"),
            (&["--signal", "KILL"], "no process can handle KILL"),
            (&[&http[..], &["--http-expect", "ok"]].concat(), "--http-expect takes statuses"),
            (&[&http[..], &["--http-basic", "me"]].concat(), "--http-basic takes USER=FILE"),
            (&[&http[..], &["--http-timeout", "soon"]].concat(), "--http-timeout `soon`"),
            (&["--check-exec", "a 'b"], "--check-exec: bad command to run: it ends within"),
            (&["--serve-bundle", "127.0.0.1:0", "/a", "/b"], "takes exactly one directory"),
            (&["--rollout", "pod/x"], "`pod/x` is not deployment/NAME"),
        ] {
            let error = plan(args).err().expect("a failure");
            assert_eq!(code_of(&error), MISCONFIGURED, "{error:#}");
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
