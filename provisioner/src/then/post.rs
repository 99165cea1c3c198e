//! Posts JSON to the URL of `--then-post` when another version is live.
//!
//! The URL may hold a secret after its host, so messages show only scheme and host.

use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use outbound::ca_roots::NoSystemRoots;
use outbound::request::{Answer, Cause, HttpUrl, Prepared, Request};

use crate::cli;

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("provisioner/", env!("CARGO_PKG_VERSION"));

/// The request of `--then-post`, with its token and certificates.
pub struct Post {
    request: Prepared,
    /// Scheme, host and port of the URL, for messages.
    origin: String,
}

impl Post {
    /// Reads the files of the request, and checks everything that needs no server.
    ///
    /// # Errors
    /// Fails if the URL, the authorities or the token cannot be used; errors of configuration.
    pub fn new(url: &str, options: &cli::ThenOptions) -> Result<Self> {
        let url = HttpUrl::parse(url.trim())
            .map_err(|error| misconfigured(format_args!("the URL of --then-post {error}")))?;
        let origin = url.origin();
        if options.then_token_file.is_some() && url.is_exposed() {
            return Err(misconfigured(format_args!(
                "--then-token-file needs https: `{origin}` would show the token to the network"
            )));
        }
        let mut request = Request::post(url)
            .header("Content-Type: application/json")?
            .timeout(Duration::from_secs(options.then_timeout))
            .user_agent(USER_AGENT)
            .ignore_answer_body();
        if let Some(file) = &options.then_token_file {
            request = request.bearer_trimmed(file.clone())?;
        }
        if let Some(file) = &options.then_ca {
            request = request.ca(file.clone());
        }
        let request = request.prepare().map_err(|error| {
            let hint = if error.is::<NoSystemRoots>() { ": --then-ca names one" } else { "" };
            misconfigured(format_args!("{error:#}{hint}"))
        })?;
        Ok(Self { request, origin })
    }

    /// Posts JSON, once.
    ///
    /// # Errors
    /// Fails if the server cannot be reached, does not answer in time, or answers with a status
    /// other than 2xx, or if `is_stopped` ends the wait.
    pub fn send(&self, json: String, is_stopped: &dyn Fn() -> bool) -> Result<()> {
        let sent = self.request.clone().body(json.into_bytes()).send(is_stopped);
        let why = match sent.map_err(|failure| failure.cause) {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(answer) => refusal(&answer),
            Err(Cause::Stopped) => "interrupted by a signal".to_owned(),
            Err(cause @ Cause::UntrustedCertificate) => {
                format!("{cause} (--then-ca names a private one)")
            }
            Err(cause) => cause.to_string(),
        };
        Err(anyhow!("failed to post to `{}`: {why}", self.origin))
    }
}

fn refusal(answer: &Answer) -> String {
    let is_redirect = (300..400).contains(&answer.status);
    let more = if is_redirect { ", and redirects are not followed" } else { "" };
    format!("it answers with status {}{more}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_origins_show_no_secret_of_a_url() {
        let options = cli::ThenOptions {
            then: None,
            then_post: None,
            then_token_file: None,
            then_ca: None,
            then_timeout: 1,
        };
        let post = Post::new(" http://hooks.example.com:8443/T0/s3cret?key=s3cret\n", &options);
        assert_eq!(post.ok().unwrap().origin, "http://hooks.example.com:8443");
        for wrong in
            ["", "x", "ftp://s3cret/", "http://", "http://u:s3cret@x/", "/s3cret", "http:/s3cret"]
        {
            let error = Post::new(wrong, &options).err().unwrap();
            assert_eq!(diagnostics::exit::code_of(&error), 2);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
