//! URLs of applications, checked before anything is called.

use std::fmt;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use url::{Host, Url};

/// An `http://` or `https://` URL. It is shown without its query, which may hold a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    shown: String,
}

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    /// What is wrong with it, as an error of configuration. A URL that may hold a password is
    /// not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let bare = text.split(['?', '#']).next().unwrap_or_default();
        let shown = if text.contains('@') { "(hidden)" } else { bare };
        let shown = one_line(shown.as_bytes());
        let fail = |why: &str| misconfigured(format_args!("bad URL `{shown}`: {why}"));
        // The parser drops them without a word.
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(fail("it holds a space or a control character"));
        }
        let mut url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("it holds no user name or password: these come from files"));
        }
        if url.port() == Some(0) {
            return Err(fail("the port cannot be 0"));
        }
        // It would not be sent.
        url.set_fragment(None);
        let mut bare = url.clone();
        bare.set_query(None);
        Ok(Self { url, shown: one_line(bare.as_str().as_bytes()) })
    }

    /// What to call.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Whether others on the network could read along: everything but TLS and this machine.
    pub fn is_clear(&self) -> bool {
        let is_loopback = match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        self.url.scheme() != "https" && !is_loopback
    }

    /// Where a redirect leads, without path and query, which are the server's own affair.
    pub fn origin_of(&self, location: &[u8]) -> Option<String> {
        let location = std::str::from_utf8(location).ok()?;
        let origin = self.url.join(location).ok()?.origin();
        origin.is_tuple().then(|| one_line(origin.ascii_serialization().as_bytes()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_sent_but_not_shown() {
        let target = Target::parse("https://h:8443/a%20b?token=s3cret#top").unwrap();
        assert_eq!(target.as_str(), "https://h:8443/a%20b?token=s3cret");
        assert_eq!(format!("{target} {target:?}"), "https://h:8443/a%20b https://h:8443/a%20b");
    }

    #[test]
    fn what_is_no_url_of_an_application_is_refused_without_its_secrets() {
        for text in [
            "",
            "h",
            "h/reload?s3cret",
            "ftp://h?s3cret",
            "http://",
            "http://h:0/?s3cret",
            "http://h:99999",
            "http://u:s3cret@h",
            "http://s3cret@h",
            "https:u:s3cret@h",
            "http://h/a b",
            "http://h/\r\nX: 1",
            "http://h/\n?s3cret",
            "file:///etc/passwd",
        ] {
            let error = format!("{:#}", Target::parse(text).expect_err(text));
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn only_tls_and_loopback_are_private() {
        for private in ["https://h", "http://127.9.9.9:1", "http://[::1]", "http://LOCALHOST/x"] {
            assert!(!Target::parse(private).unwrap().is_clear(), "{private}");
        }
        for clear in ["http://h", "http://10.0.0.1", "http://localhost.example.com", "http://[::2]"]
        {
            assert!(Target::parse(clear).unwrap().is_clear(), "{clear}");
        }
    }

    #[test]
    fn a_redirect_is_known_by_its_origin_alone() {
        let target = Target::parse("http://h/a").unwrap();
        let origin = |location: &str| target.origin_of(location.as_bytes());
        assert_eq!(origin("https://u:p@evil:81/x?t=1").unwrap(), "https://evil:81");
        assert_eq!(origin("/login").unwrap(), "http://h");
        assert_eq!(origin("//evil/").unwrap(), "http://evil");
        assert_eq!(origin("data:x"), None);
        assert_eq!(target.origin_of(b"\xff"), None);
    }
}
