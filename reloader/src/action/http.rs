//! `--http`: sends a request to the application's reload endpoint, such as `/-/reload` of Prometheus.
//! An expected status is the proof.

use anyhow::{Context, Result, anyhow};
use diagnostics::wording::one_line;
pub use outbound::request::Request as HttpCall;
use outbound::request::{Answer, Cause};

use super::{Action, Content, Failure};
use crate::stop::Stop;

/// The `User-Agent` header, which the application may log.
const USER_AGENT: &str = concat!("reloader/", env!("CARGO_PKG_VERSION"));

/// How much of an answer's first line a message quotes, in characters.
const MAX_QUOTED: usize = 200;

impl Action for HttpCall {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn run(&self, _: &Content, stop: &Stop) -> Result<String, Failure> {
        let answer = send(self, stop)?;
        Ok(format!("answered {}", answer.status))
    }

    fn dry_run(&self, _: &Content) -> Result<String> {
        let prepared = self.prepare().with_context(|| format!("{self} cannot be sent"))?;
        let secrets = match prepared.secret_count() {
            0 => String::new(),
            1 => ", with a secret".to_owned(),
            n => format!(", with {n} secrets"),
        };
        Ok(format!("{self}{secrets}, expecting {}", self.expectation()))
    }
}

/// Sends a request, and returns the answer if its status is one of those expected.
///
/// # Errors
/// Fails if there is no whole answer, or another status.
pub fn send(call: &HttpCall, stop: &Stop) -> Result<Answer, Failure> {
    let sent = call.clone().user_agent(USER_AGENT).send(&|| stop.is_set());
    let answer = sent.map_err(|failure| {
        let error = match failure.cause {
            Cause::NotPrepared(error) => error.context(format!("{call} cannot be sent")),
            Cause::Stopped => anyhow!("stopped while waiting for the answer to {call}"),
            Cause::CutOff(status, why) => {
                anyhow!("{call} answered {status}, but not to the end: {why}")
            }
            cause => anyhow!("failed to call {call}: {cause}"),
        };
        Failure { is_without_effect: !failure.may_have_arrived, error }
    })?;
    if call.expects(answer.status) { Ok(answer) } else { Err(unexpected(call, &answer)) }
}

/// The failure that another status means. A 4xx says that the application has refused.
fn unexpected(call: &HttpCall, answer: &Answer) -> Failure {
    let mut error = format!("{call} answered {}", answer.status);
    if (300..400).contains(&answer.status) {
        let origin = answer.location.as_deref().and_then(|to| call.url().origin_of(to));
        let origin = origin.unwrap_or_else(|| "nowhere".to_owned());
        error.push_str(&format!(", a redirect to `{origin}`, which is not followed"));
    } else {
        error.push_str(&format!(", not {}", call.expectation()));
    }
    if let Some(line) = first_line(answer) {
        error.push_str(&format!(": {line}"));
    }
    if (400..500).contains(&answer.status) {
        Failure::without_effect(anyhow!(error))
    } else {
        Failure::in_doubt(anyhow!(error))
    }
}

/// The first line of an answer that is not empty, for a message.
pub fn first_line(answer: &Answer) -> Option<String> {
    let mut lines = answer.body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    Some(quote(lines.find(|line| !line.is_empty())?, MAX_QUOTED))
}

/// Text of another program on one line, cut off after `max` characters.
pub fn quote(text: &[u8], max: usize) -> String {
    let line = one_line(text);
    let mut quoted: String = line.chars().take(max).collect();
    if quoted.len() < line.len() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, location: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_message_quotes_the_first_line_that_is_not_empty() {
        assert_eq!(first_line(&answer(200, "\r\n  one \r\ntwo")).unwrap(), "one");
        assert_eq!(first_line(&answer(200, " \n")), None);
        let long = first_line(&answer(200, &"ä".repeat(201))).unwrap();
        assert_eq!(long, format!("{}…", "ä".repeat(200)));
    }

    #[test]
    fn only_a_refusal_leaves_the_application_as_it_was() {
        let call = HttpCall::new("POST", "http://h/a?token=s3cret").unwrap();
        for (status, message, is_without_effect) in [
            (
                307,
                "POST `http://h/a` answered 307, a redirect to `nowhere`, which is not followed",
                false,
            ),
            (403, "POST `http://h/a` answered 403, not 2xx", true),
            (500, "POST `http://h/a` answered 500, not 2xx", false),
        ] {
            let failure = unexpected(&call, &answer(status, ""));
            assert_eq!(failure.error.to_string(), message);
            assert_eq!(failure.is_without_effect, is_without_effect);
        }
    }
}
