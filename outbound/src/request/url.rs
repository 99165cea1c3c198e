//! Parses the URLs of HTTP requests, and shows them in messages without their secrets.

use std::error::Error;
use std::fmt;

use diagnostics::wording::one_line;
use url::{Host, Url};

/// An `http://` or `https://` URL without credentials. It is shown without its query, which may
/// hold a token.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    url: Url,
    shown: String,
}

/// Why a text is not such a URL. The message does not repeat the text, which may hold a secret.
#[derive(Debug)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UrlError {}

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// Fails if the URL is malformed, is not `http` or `https`, or holds credentials. The error
    /// reads as what follows a subject: `has no host`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let fail = |why: &str| UrlError(why.to_owned());
        // The parser would drop or repair all of these silently.
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(fail("holds a space or a control character"));
        }
        let rest = text.split_once("://").filter(|(scheme, _)| {
            ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        });
        let Some((_, rest)) = rest else {
            return Err(fail("begins with neither http:// nor https://"));
        };
        if rest.starts_with(['/', '\\', '?', '#']) || rest.is_empty() {
            return Err(fail("has no host"));
        }
        let mut url =
            Url::parse(text).map_err(|error| UrlError(format!("is malformed: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("holds credentials, which must come from files"));
        }
        if url.port() == Some(0) {
            return Err(fail("has the port 0"));
        }
        // It would not be sent.
        url.set_fragment(None);
        let mut shown = url.clone();
        shown.set_query(None);
        Ok(Self { url, shown: one_line(shown.as_str().as_bytes()) })
    }

    /// The URL in full, with its query.
    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Whether requests to it are encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether others on the network can read what is sent: neither TLS nor loopback protects it.
    pub fn is_exposed(&self) -> bool {
        let is_loopback = match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        !self.is_https() && !is_loopback
    }

    /// Scheme, host and port, for messages about a URL whose path may hold a secret.
    pub fn origin(&self) -> String {
        one_line(self.url.origin().ascii_serialization().as_bytes())
    }

    /// The origin to which a `Location` header leads; `None` if it is not a URL with a host.
    pub fn origin_of(&self, location: &[u8]) -> Option<String> {
        let location = std::str::from_utf8(location).ok()?;
        let origin = self.url.join(location).ok()?.origin();
        origin.is_tuple().then(|| one_line(origin.ascii_serialization().as_bytes()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_sent_but_not_shown() {
        let url = HttpUrl::parse("https://h:8443/a%20b?token=s3cret#top").unwrap();
        assert_eq!(url.as_str(), "https://h:8443/a%20b?token=s3cret");
        assert_eq!(format!("{url} {url:?}"), "https://h:8443/a%20b https://h:8443/a%20b");
        assert_eq!(url.origin(), "https://h:8443");
    }

    #[test]
    fn a_text_that_is_not_an_http_url_is_refused_without_being_repeated() {
        for (text, why) in [
            ("", "neither http:// nor https://"),
            ("h", "neither http:// nor https://"),
            ("/s3cret", "neither http:// nor https://"),
            ("h/reload?s3cret", "neither http:// nor https://"),
            ("ftp://h?s3cret", "neither http:// nor https://"),
            ("file:///etc/passwd", "neither http:// nor https://"),
            ("http:/s3cret", "neither http:// nor https://"),
            ("https:u:s3cret@h", "neither http:// nor https://"),
            ("http://", "has no host"),
            ("http:///s3cret", "has no host"),
            ("http://?s3cret", "has no host"),
            ("http://:80/s3cret", "is malformed"),
            ("http://h:99999", "is malformed"),
            ("http://h:0/?s3cret", "has the port 0"),
            ("http://u:s3cret@h", "holds credentials"),
            ("http://s3cret@h", "holds credentials"),
            ("http://h/a b", "holds a space"),
            ("http://h/\r\nX: 1", "holds a space"),
            ("http://h/\n?s3cret", "holds a space"),
        ] {
            let error = HttpUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
        assert_eq!(HttpUrl::parse("HTTP://H").unwrap().as_str(), "http://h/");
    }

    #[test]
    fn only_tls_and_loopback_protect_a_secret() {
        for safe in ["https://h", "http://127.9.9.9:1", "http://[::1]:80", "http://LOCALHOST/x"] {
            assert!(!HttpUrl::parse(safe).unwrap().is_exposed(), "{safe}");
        }
        for exposed in [
            "http://h",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[::2]",
        ] {
            assert!(HttpUrl::parse(exposed).unwrap().is_exposed(), "{exposed}");
        }
    }

    #[test]
    fn a_redirect_is_shown_by_its_origin_alone() {
        let url = HttpUrl::parse("http://h/a").unwrap();
        let origin = |location: &str| url.origin_of(location.as_bytes());
        assert_eq!(origin("https://u:p@evil:81/x?t=1").unwrap(), "https://evil:81");
        assert_eq!(origin("/login").unwrap(), "http://h");
        assert_eq!(origin("//evil/").unwrap(), "http://evil");
        assert_eq!(origin("data:x"), None);
        assert_eq!(url.origin_of(b"\xff"), None);
    }
}
