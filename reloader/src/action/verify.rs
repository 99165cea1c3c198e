//! Asks the application itself, after everything is done, whether it uses what is live.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

use super::http::{HttpCall, first_line, send};
use super::{Action, Content, Failure};
use crate::stop::Stop;

/// How long to wait between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// Stands for the digest of what is live.
const DIGEST: &str = "{digest}";

/// An application's own word for what it uses: its health or version endpoint.
#[derive(Clone, Debug)]
pub struct HttpProof {
    call: HttpCall,
    text: Option<String>,
    timeout: Duration,
}

impl HttpProof {
    /// Asks by `call`, at most for `timeout`, until the answer has the expected status and, if
    /// there is a `text`, holds it; `{digest}` in it stands for the digest of what is live.
    ///
    /// # Errors
    /// An empty text, which every answer would hold; an error of configuration.
    pub fn new(call: HttpCall, text: Option<String>, timeout: Duration) -> Result<Self> {
        if text.as_deref() == Some("") {
            return Err(misconfigured("the text to expect in an answer is empty"));
        }
        Ok(Self { call, text, timeout })
    }

    fn ask(&self, text: Option<&str>, deadline: Instant, stop: &Stop) -> Result<String> {
        // A last question deserves time for an answer.
        let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        let answer =
            send(&self.call.clone().at_most(left), stop).map_err(|failure| failure.error)?;
        let Some(text) = text else {
            return Ok(format!("{} answered {}", self.call, answer.status));
        };
        if answer.body.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(format!("{} answered with `{}`", self.call, one_line(text.as_bytes())));
        }
        let told =
            first_line(&answer).map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"));
        Err(anyhow!(
            "{} answered {} with {told}, without `{}`",
            self.call,
            answer.status,
            one_line(text.as_bytes())
        ))
    }
}

impl Action for HttpProof {
    fn describe(&self) -> String {
        self.call.to_string()
    }

    fn act(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
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

    fn rehearse(&self, _: &Content) -> Result<String> {
        Ok("it would be asked".to_owned())
    }
}
