//! Makes of what was asked for what is done.

pub mod order;

use anyhow::{Context, Result};
use diagnostics::exit::misconfigured;

use self::order::Asked;
use crate::action::exec::Exec;
use crate::action::http::HttpCall;
use crate::action::rollout::Rollout;
use crate::action::signal::{SignalName, Signalling, Target};
use crate::action::verify::HttpProof;
use crate::cli::{Cli, seconds};
use crate::reload::Step;

/// The steps of a reload.
///
/// # Errors
/// One of the actions makes no sense.
pub fn steps(asked: &[Asked], cli: &Cli) -> Result<Vec<Step>> {
    // A rollout knows by itself whether it is due.
    let (signals, others) = (cli.at_start.unwrap_or(true), cli.at_start.unwrap_or(false));
    let mut steps: Vec<Step> = Vec::new();
    for asked in asked {
        let value = asked.values.first().map_or("", String::as_str);
        steps.push(match asked.action {
            "signal" => Step { action: Box::new(signal(asked, cli)?), at_start: signals },
            "exec" => {
                let exec = Exec::parse(value).context("--exec")?.timeout(cli.exec_timeout);
                Step { action: Box::new(exec), at_start: others }
            }
            "http" => Step { action: Box::new(http(asked)?), at_start: others },
            _ => Step { action: Box::new(rollout(value, cli)?), at_start: true },
        });
    }
    if steps.is_empty() {
        let hup = Asked { action: "signal", values: Vec::new(), details: Vec::new() };
        steps.push(Step { action: Box::new(signal(&hup, cli)?), at_start: signals });
    }
    if let Some(url) = &cli.verify_http {
        let mut call = HttpCall::new("GET", url).context("--verify-http")?;
        if let Some(file) = &cli.verify_http_ca {
            call = call.ca(file.clone());
        }
        let proof = HttpProof::new(call, cli.verify_http_text.clone(), cli.verify_timeout)?;
        let at_start = steps.iter().any(|step| step.at_start);
        steps.push(Step { action: Box::new(proof), at_start });
    }
    Ok(steps)
}

fn signal(asked: &Asked, cli: &Cli) -> Result<Signalling> {
    let signal = match asked.values.first() {
        Some(name) => name.parse().map_err(|error| misconfigured(format_args!("{error:#}")))?,
        None => SignalName::HUP,
    };
    let target = match asked.details.first() {
        Some(("process", text)) => Target::Process(text.clone()),
        Some(("pid_file", file)) => Target::PidFile(file.into()),
        Some((_, pid)) => Target::Pid(pid.parse().map_err(|_| {
            misconfigured(format_args!("--pid takes the number of a process, not `{pid}`"))
        })?),
        None => Target::Pid(1),
    };
    Ok(Signalling { signal, target, verify: cli.verify, timeout: cli.verify_timeout })
}

fn http(asked: &Asked) -> Result<HttpCall> {
    let [method, url] = asked.values.as_slice() else {
        return Err(misconfigured("--http takes a method and a URL"));
    };
    let mut call = HttpCall::new(method, url).context("--http")?;
    for (detail, value) in &asked.details {
        call = match *detail {
            "http_header" => call.header(value)?,
            "http_header_file" => call.header_file(value)?,
            "http_bearer_file" => call.bearer(value.into())?,
            "http_basic" => match value.split_once('=') {
                Some((user, file)) => call.basic(user.to_owned(), file.into())?,
                None => return Err(misconfigured("--http-basic takes USER=FILE")),
            },
            "http_body" => call.body(value.into())?,
            "http_ca" => call.ca(value.into()),
            "http_expect" => call.expect(statuses(value)?)?,
            _ => call.timeout(seconds(value).map_err(|error| {
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

fn rollout(target: &str, cli: &Cli) -> Result<Rollout> {
    let mut rollout = Rollout::parse(target).context("--rollout")?;
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
