//! Parses the URLs of directory servers: `ldap://`, `ldaps://` and `ldapi://`.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use percent_encoding::percent_decode_str;
use url::Url;

/// The address of a directory server. It is displayed as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// Where to connect to.
    pub endpoint: Endpoint,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `ldap://` and `ldaps://`
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 389 or 636 if the URL has none.
        port: u16,
        /// Whether this is `ldaps://`, with TLS from the first byte.
        ldaps: bool,
    },
    /// `ldapi://`
    Unix(PathBuf),
}

impl Address {
    /// Parses one LDAP URL of scheme, host and port. RFC 4516 allows a base and a filter too, but
    /// these are separate settings here.
    ///
    /// # Errors
    /// Fails with a configuration error if it is no such URL. The message does not repeat a URL
    /// that may contain a password.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = one_line(text.as_bytes());
        let fail = |why: &str| misconfigured(format_args!("bad LDAP URL `{shown}`: {why}"));
        if text.contains('@') {
            return Err(misconfigured("an LDAP URL holds no user name or password"));
        }
        let url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
        let ldaps = match url.scheme() {
            "ldap" => false,
            "ldaps" => true,
            "ldapi" => {
                return Ok(Self { endpoint: socket_endpoint(&url).map_err(&fail)?, text: shown });
            }
            _ => return Err(fail("the scheme must be ldap, ldaps or ldapi")),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(fail("the host is missing"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(fail("only scheme, host and port belong here (the base is LDAP_BASE_DN)"));
        }
        let port = url.port().unwrap_or(if ldaps { 636 } else { 389 });
        if port == 0 {
            return Err(fail("the port cannot be 0"));
        }
        let endpoint = Endpoint::Tcp { host: host.to_owned(), port, ldaps };
        Ok(Self { text: shown, endpoint })
    }

    /// Whether the connection uses TLS; `starttls` says whether StartTLS is asked for.
    pub fn uses_tls(&self, starttls: bool) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { ldaps, .. } if ldaps || starttls)
    }

    /// Whether others on the network could read the connection.
    pub fn is_clear(&self, starttls: bool) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. }) && !self.uses_tls(starttls)
    }
}

fn socket_endpoint(url: &Url) -> Result<Endpoint, &'static str> {
    let path = percent_decode_str(url.host_str().unwrap_or_default());
    let path = path.decode_utf8().map_err(|_| "the path is not UTF-8")?;
    let is_rest_empty = matches!(url.path(), "" | "/") && url.port().is_none();
    if !path.starts_with('/') || !is_rest_empty {
        return Err("give the socket's path as the host: ldapi://%2Frun%2Fslapd%2Fldapi");
    }
    Ok(Endpoint::Unix(PathBuf::from(path.into_owned())))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, ldaps: bool) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port, ldaps }
    }

    #[test]
    fn the_three_schemes_are_accepted() {
        for (text, endpoint) in [
            ("ldap://ldap.example.com", tcp("ldap.example.com", 389, false)),
            ("LDAP://127.0.0.1:1389/", tcp("127.0.0.1", 1389, false)),
            ("ldaps://[::1]", tcp("::1", 636, true)),
            ("ldaps://h:389", tcp("h", 389, true)),
            ("ldapi://%2Frun%2Fslapd%2Fldapi", Endpoint::Unix("/run/slapd/ldapi".into())),
        ] {
            assert_eq!(Address::parse(text).unwrap().endpoint, endpoint, "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in [
            "ldap://",
            "ldap:///",
            "ldap:389",
            "ldap.example.com",
            "http://h",
            "ldap://h:0",
            "ldap://h:99999",
            "ldap://h/dc=x",
            "ldap://h?x",
            "ldap://[::1",
            "ldapi:///",
            "ldapi://run",
            "ldapi:///run/slapd",
            "",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let error = Address::parse("ldap://cn=x:s3cret@h").unwrap_err();
        assert!(!format!("{error:#}").contains("s3cret"));
    }
}
