//! `--serve-bundle`: publishes the bundle, and with `--verify-opa` asks OPA until it uses the bundle.
//!
//! OPA keeps the `ETag` and the revision of a bundle beside its policies, and replaces all of them in one
//! transaction. So both at `/v1/data/system/bundles` prove which policies are in force. Why OPA refuses a
//! bundle is at `/v1/status`. That may still be about an older bundle, so it only counts if it
//! is about a request that ended after the new bundle was sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use diagnostics::wording::one_line;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{HttpCall, quote, send};
use super::{Action, Content, Failure};
use crate::serve::bundle::{Bundle, Published};
use crate::stop::Stop;

/// Time between two requests, and least time for an answer.
const PAUSE: Duration = Duration::from_millis(250);
/// How much of an answer is read. OPA's status holds all of its metrics.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;
/// How much of a reason is quoted, in characters.
const MAX_QUOTED: usize = 500;

/// Publishes the live content as a bundle.
pub struct ServeBundle {
    published: Published,
    opa: Option<VerifyOpa>,
}

impl ServeBundle {
    /// Publishes bundles to `published`. Then `opa` must use them.
    pub fn new(published: Published, opa: Option<VerifyOpa>) -> Self {
        Self { published, opa }
    }

    fn bundle(content: &Content) -> Result<Bundle> {
        let files = content.files.clone().context("the directory was not kept open")?;
        Bundle::new(files, &content.digest)
    }
}

impl Action for ServeBundle {
    fn describe(&self) -> String {
        let opa = self.opa.as_ref();
        let opa = opa.map_or_else(String::new, |opa| format!(" to OPA at `{}`", opa.base));
        format!("serve the bundle{opa}")
    }

    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        let bundle = Self::bundle(content).map_err(Failure::without_effect)?;
        let bundle = self.published.publish(bundle);
        let files = bundle.describe();
        let Some(opa) = &self.opa else { return Ok(files) };
        let name = opa.wait(&bundle, stop).map_err(Failure::in_doubt)?;
        Ok(format!("{files}, in use as bundle `{}`", one_line(name.as_bytes())))
    }

    fn dry_run(&self, content: &Content) -> Result<String> {
        Ok(Self::bundle(content)?.describe())
    }
}

/// Asks OPA which bundle it uses.
pub struct VerifyOpa {
    /// For messages.
    base: String,
    bundles: HttpCall,
    status: HttpCall,
    timeout: Duration,
}

impl VerifyOpa {
    /// Asks the OPA at this base URL, for at most `timeout`.
    ///
    /// # Errors
    /// Fails if the URL is malformed; an error of configuration.
    pub fn new(base: &str, timeout: Duration) -> Result<Self> {
        let get = |path| {
            let url = format!("{}/{path}", base.trim_end_matches('/'));
            HttpCall::new("GET", &url).map(|call| call.max_answer_body(MAX_ANSWER))
        };
        let base = get("")?.url().to_string();
        Ok(Self {
            base,
            bundles: get("v1/data/system/bundles")?,
            status: get("v1/status")?,
            timeout,
        })
    }

    /// Waits until OPA uses the bundle. Returns the name that OPA gives it.
    fn wait(&self, bundle: &Arc<Bundle>, stop: &Stop) -> Result<String> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let last = match self.bundle_in_use(bundle, deadline, stop) {
                Ok(Some(name)) => return Ok(name),
                Ok(None) => match self.refusal(bundle, deadline, stop) {
                    Ok(Some(reason)) => return Err(anyhow!("OPA refuses the bundle: {reason}")),
                    Ok(None) => anyhow!("OPA has not loaded the bundle"),
                    Err(error) => error
                        .context("OPA has not loaded the bundle, and its status could not be read"),
                },
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.wait(PAUSE.min(left)) {
                return Err(last.context(match stop.is_set() {
                    true => "stopped before the proof".to_owned(),
                    false => format!("not proved within {:?}", self.timeout),
                }));
            }
        }
    }

    /// The name of the bundle in OPA, if OPA uses it.
    fn bundle_in_use(
        &self,
        bundle: &Bundle,
        deadline: Instant,
        stop: &Stop,
    ) -> Result<Option<String>> {
        let bundles: BTreeMap<String, InUse> = ask(&self.bundles, deadline, stop)?;
        let is_same = |in_use: &InUse| {
            let revision = in_use.manifest.as_ref().and_then(|manifest| manifest.revision.as_ref());
            in_use.etag.as_deref() == Some(bundle.etag())
                && (!bundle.has_added_manifest() || revision == Some(&bundle.digest))
        };
        Ok(bundles.into_iter().find(|(_, in_use)| is_same(in_use)).map(|(name, _)| name))
    }

    /// Why OPA has refused the bundle; `None` if it has not, or not yet.
    fn refusal(&self, bundle: &Bundle, deadline: Instant, stop: &Stop) -> Result<Option<String>> {
        let Some(sent) = bundle.sent() else { return Ok(None) };
        let status: Status = ask(&self.status, deadline, stop)?;
        let reasons: Vec<_> =
            status.bundles.values().filter_map(|bundle| bundle.refusal_after(sent)).collect();
        Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
    }
}

/// The result in an answer of OPA's.
fn ask<T: DeserializeOwned + Default>(
    call: &HttpCall,
    deadline: Instant,
    stop: &Stop,
) -> Result<T> {
    #[derive(Deserialize)]
    struct Answer<T> {
        result: Option<T>,
    }
    // The last request needs time for an answer too.
    let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    let answer = send(&call.clone().at_most(left), stop).map_err(|failure| failure.error)?;
    let parsed: serde_json::Result<Answer<T>> = serde_json::from_slice(&answer.body);
    let parsed = parsed.map_err(|error| anyhow!("{call} answered with other data: {error}"))?;
    Ok(parsed.result.unwrap_or_default())
}

/// A bundle in `/v1/data/system/bundles`.
#[derive(Deserialize)]
struct InUse {
    etag: Option<String>,
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    revision: Option<String>,
}

/// `/v1/status`.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    bundles: BTreeMap<String, BundleStatus>,
}

/// The last request for a bundle.
#[derive(Deserialize)]
struct BundleStatus {
    last_request: Timestamp,
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<PolicyError>,
}

/// A mistake in a policy.
#[derive(Deserialize)]
struct PolicyError {
    code: Option<String>,
    message: String,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Location {
    file: String,
    row: u64,
}

impl BundleStatus {
    /// Why the request failed, if it ended after a point in time.
    fn refusal_after(&self, time: SystemTime) -> Option<String> {
        if self.message.is_empty() || SystemTime::from(self.last_request) < time {
            return None;
        }
        let mut reason = self.message.clone();
        for PolicyError { code, message, location } in &self.errors {
            let place = location.as_ref().map(|Location { file, row }| format!("{file}:{row}: "));
            let code = code.as_ref().map(|code| format!("{code}: "));
            reason +=
                &format!("; {}{}{message}", place.unwrap_or_default(), code.unwrap_or_default());
        }
        Some(quote(reason.as_bytes(), MAX_QUOTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_after_the_bundle_was_sent_counts() {
        let json = r#"{"bundles": {"policies": {
            "last_request": "2026-11-30T10:00:00.5Z", "code": "bundle_error",
            "message": "error(s) occurred while compiling module(s)",
            "errors": [{"code": "rego_type_error", "message": "undefined function\nfoo",
                        "location": {"file": "/a.rego", "row": 2, "col": 6}}]
        }}, "plugins": {}}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        let bundle = &status.bundles["policies"];
        let at = |text: &str| SystemTime::from(text.parse::<Timestamp>().unwrap());
        assert_eq!(bundle.refusal_after(at("2026-11-30T10:00:00.6Z")), None);
        let reason = bundle.refusal_after(at("2026-11-30T10:00:00.4Z")).unwrap();
        let expected = "error(s) occurred while compiling module(s); \
            /a.rego:2: rego_type_error: undefined function\\nfoo";
        assert_eq!(reason, expected);
    }

    #[test]
    fn a_request_without_a_failure_is_no_refusal() {
        let json = r#"{"bundles": {"policies": {"last_request": "2026-11-30T10:00:00Z"}}}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        assert_eq!(status.bundles["policies"].refusal_after(SystemTime::UNIX_EPOCH), None);
    }
}
