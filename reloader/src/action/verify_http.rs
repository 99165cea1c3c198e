//! `--verify-http`: after all actions, repeats a request to the application until its answer shows that
//! it uses the live version, or a timeout passes.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

use super::http::{HttpCall, first_line, send};
use super::{Action, Content, Failure};
use crate::stop::Stop;

/// Time between two requests, and least time for an answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Stands for the digest of the live version in the expected text.
const DIGEST: &str = "{digest}";

/// A request to the application's health or version endpoint, repeated until the answer proves that
/// the application uses the live version.
#[derive(Clone, Debug)]
pub struct VerifyHttp {
    call: HttpCall,
    text: Option<String>,
    timeout: Duration,
}

impl VerifyHttp {
    /// Repeats `call` for at most `timeout`, until the answer has an expected status and, if
    /// there is a `text`, holds it. `{digest}` in the text stands for the digest of the live
    /// version.
    ///
    /// # Errors
    /// Fails if the text is empty, since every answer would hold it; an error of configuration.
    pub fn new(call: HttpCall, text: Option<String>, timeout: Duration) -> Result<Self> {
        if text.as_deref() == Some("") {
            return Err(misconfigured("the text to expect in an answer is empty"));
        }
        Ok(Self { call, text, timeout })
    }

    fn ask(&self, text: Option<&str>, deadline: Instant, stop: &Stop) -> Result<String> {
        // The last request needs time for an answer too.
        let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        let call = self.call.clone().at_most(left);
        let answer = send(&call, stop).map_err(|failure| failure.error)?;
        let Some(text) = text else {
            return Ok(format!("{call} answered {}", answer.status));
        };
        if answer.body.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(format!("{call} answered with `{}`", one_line(text.as_bytes())));
        }
        let line = first_line(&answer);
        let line = line.map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"));
        Err(anyhow!(
            "{call} answered {} with {line}, without `{}`",
            answer.status,
            one_line(text.as_bytes())
        ))
    }
}

impl Action for VerifyHttp {
    fn describe(&self) -> String {
        self.call.to_string()
    }

    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        let text = self.text.as_ref().map(|text| text.replace(DIGEST, &content.digest));
        let deadline = Instant::now() + self.timeout;
        loop {
            let last = match self.ask(text.as_deref(), deadline, stop) {
                Ok(proof) => return Ok(proof),
                Err(last) => last,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.wait(PAUSE.min(left)) {
                let end = if stop.is_set() {
                    "stopped before the proof".to_owned()
                } else {
                    format!("not proved within {:?}", self.timeout)
                };
                return Err(Failure::in_doubt(last.context(end)));
            }
        }
    }

    fn dry_run(&self, _: &Content) -> Result<String> {
        Ok("it would be asked".to_owned())
    }
}
