//! Checks options and environment as a whole, before anything is opened.
//!
//! The result is plain data, from which [`crate::ldif`] or [`crate::ldap`] is opened.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::report::Report;
use diagnostics::wording::{io_error, one_line};
use outbound::secret::Secret;
use outbound::small_file::read_small;

use crate::cli::LookupOptions;
use crate::directory::dn::Dn;
use crate::directory::filter::Filter;
use crate::directory::owner::Attributes;
use crate::ldap::address::Address;
use crate::ldap::options::{Credentials, ServerOptions};
use crate::ldif::ExportOptions;

/// What to look up, and where.
#[derive(Debug)]
pub struct Config {
    /// Where the owners come from.
    pub source: Source,
    /// Names of the attributes for UID and address.
    pub attributes: Attributes,
}

/// Where the owners come from.
#[derive(Debug)]
pub enum Source {
    /// An LDIF export.
    Ldif(ExportOptions),
    /// Directory servers.
    Ldap(ServerOptions),
}

impl Config {
    /// Checks the options; `password` is the value of `LDAP_BIND_PASS`.
    ///
    /// # Errors
    /// Fails with a configuration error if an option is missing, malformed, or contradicts another.
    pub fn new(
        options: &LookupOptions,
        password: Option<OsString>,
        report: &mut Report,
    ) -> Result<Self> {
        let attributes = Attributes {
            uid: attribute(&options.uid_attr)?,
            mail: options.mail_attr.split(',').map(attribute).collect::<Result<_>>()?,
        };
        let filter = options.filter.as_deref().map(check_filter).transpose()?;
        let base = options.base_dn.clone();
        if let Some(base) = &base
            && Dn::parse(base).is_none()
        {
            let base = one_line(base.as_bytes());
            return Err(misconfigured(format_args!("the base DN `{base}` is not a DN")));
        }
        let source = match (&options.ldif, &options.url, base) {
            (Some(file), _, base) => Source::Ldif(ExportOptions {
                file: file.clone(),
                base,
                filter: filter.map(|filter| filter.parsed),
            }),
            (None, Some(_), None) => {
                return Err(misconfigured("the base DN is missing: set LDAP_BASE_DN"));
            }
            (None, Some(urls), Some(base)) => Source::Ldap(ServerOptions {
                addresses: addresses(urls, options, report)?,
                credentials: credentials(options, password, report)?,
                starttls: options.starttls,
                skip_tls_verify: options.skip_tls_verify,
                ca_file: options.ca_file.clone(),
                timeout: Duration::from_secs(options.timeout),
                enumerate: options.enumerate,
                base,
                filter: filter.map(|filter| filter.text),
            }),
            (None, None, _) => {
                return Err(misconfigured(
                    "no directory to ask: set LDAP_URL, or --ldif for a file",
                ));
            }
        };
        Ok(Self { source, attributes })
    }
}

/// Parses the URLs, and checks them against the options about TLS.
fn addresses(urls: &str, options: &LookupOptions, report: &mut Report) -> Result<Vec<Address>> {
    let addresses: Vec<_> = urls.split_whitespace().map(Address::parse).collect::<Result<_>>()?;
    if addresses.is_empty() {
        return Err(misconfigured("no directory to ask: LDAP_URL holds no URL"));
    }
    let unprotected = addresses.iter().find(|address| address.is_clear(options.starttls));
    if let Some(address) = unprotected.filter(|_| options.require_tls) {
        return Err(misconfigured(format_args!(
            "`{address}` is neither ldaps:// nor secured by StartTLS (LDAP_STARTTLS), and TLS is \
             required (LDAP_REQUIRE_TLS)"
        )));
    }
    let uses_tls = addresses.iter().any(|address| address.uses_tls(options.starttls));
    if options.skip_tls_verify && uses_tls {
        report.warn(
            "certificates are not verified (LDAP_SKIP_TLS_VERIFY): anyone on the way can read \
             the password and answer"
                .to_owned(),
        );
    }
    Ok(addresses)
}

/// The bind DN and its password; `None` for an anonymous bind. A DN with an empty password would be
/// an unauthenticated bind (RFC 4513, 5.1.2), which servers report as a success, so it is refused.
fn credentials(
    options: &LookupOptions,
    password: Option<OsString>,
    report: &mut Report,
) -> Result<Option<Credentials>> {
    let password = password.filter(|password| !password.is_empty());
    let password = match (password, &options.bind_pass_file) {
        (Some(_), Some(_)) => {
            return Err(misconfigured("both LDAP_BIND_PASS and LDAP_BIND_PASS_FILE are set"));
        }
        (Some(password), None) => {
            Some(password.into_string().map_err(|_| misconfigured("LDAP_BIND_PASS is not UTF-8"))?)
        }
        (None, Some(file)) => Some(read_password(file)?),
        (None, None) => None,
    };
    match (&options.bind_dn, password.filter(|password| !password.is_empty())) {
        (Some(dn), Some(password)) => {
            Ok(Some(Credentials { dn: dn.clone(), password: Secret::from(password) }))
        }
        (Some(dn), None) => Err(misconfigured(format_args!(
            "no password for the bind DN `{}`: set LDAP_BIND_PASS or LDAP_BIND_PASS_FILE",
            one_line(dn.as_bytes())
        ))),
        (None, Some(_)) => {
            let warning = "a password is set, but no bind DN (LDAP_BIND_DN): asking anonymously";
            report.warn(warning.to_owned());
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

fn read_password(file: &Path) -> Result<String> {
    let name = one_line(file.as_os_str().as_encoded_bytes());
    let fail = |why: String| misconfigured(format_args!("failed to read `{name}`: {why}"));
    let bytes = read_small(file).map_err(|error| fail(io_error(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| fail("not UTF-8".to_owned()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Checks the name of an attribute.
fn attribute(name: &str) -> Result<String> {
    let name = name.trim();
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && name.bytes().all(is_part) {
        return Ok(name.to_owned());
    }
    let name = one_line(name.as_bytes());
    Err(misconfigured(format_args!("`{name}` is not the name of an attribute")))
}

/// A filter that was checked.
struct CheckedFilter {
    /// Its text, in parentheses.
    text: String,
    parsed: Filter,
}

/// Checks a filter, whose outer parentheses may be missing.
fn check_filter(text: &str) -> Result<CheckedFilter> {
    let text = text.trim();
    let text = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
    let fail = |why: &dyn fmt::Display| {
        misconfigured(format_args!("bad filter `{}`: {why}", one_line(text.as_bytes())))
    };
    let parsed = Filter::parse(&text).map_err(|error| fail(&error))?;
    if ldap3::parse_filter(&text).is_err() {
        return Err(fail(&"not a filter that can be sent"));
    }
    Ok(CheckedFilter { text, parsed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn config(args: &[&str], password: Option<&str>) -> Result<Config> {
        let args = ["resolver"].iter().chain(args);
        let cli = crate::cli::Cli::try_parse_from(args).unwrap();
        Config::new(&cli.options, password.map(OsString::from), &mut Report::new(false))
    }

    fn refusal(args: &[&str], password: Option<&str>) -> String {
        let error = config(args, password).expect_err("refused");
        assert_eq!(diagnostics::exit::code_of(&error), 2);
        format!("{error:#}")
    }

    const SERVER: [&str; 4] = ["--url", "ldap://h", "--base-dn", "dc=x"];

    fn server(more: &[&'static str]) -> Vec<&'static str> {
        [&SERVER, more].concat()
    }

    #[test]
    fn missing_and_malformed_options_are_named() {
        assert!(refusal(&[], None).contains("LDAP_URL"));
        assert!(refusal(&["--url", " "], None).contains("LDAP_BASE_DN"));
        assert!(refusal(&["--url", " ", "--base-dn", "dc=x"], None).contains("no URL"));
        assert!(refusal(&["--ldif", "f", "--base-dn", "x"], None).contains("not a DN"));
        assert!(refusal(&server(&["--uid-attr", "a b"]), None).contains("`a b`"));
        assert!(refusal(&server(&["--mail-attr", "mail,"]), None).contains("``"));
        let unbalanced = refusal(&server(&["--filter", "(a=b))(x=*"]), None);
        assert!(unbalanced.contains("at byte 5"), "{unbalanced}");
    }

    #[test]
    fn a_filter_may_leave_its_parentheses_out() {
        let Source::Ldap(options) = config(&server(&["--filter", "a=b"]), None).unwrap().source
        else {
            panic!("not a server");
        };
        assert_eq!(options.filter.as_deref(), Some("(a=b)"));
    }

    #[test]
    fn a_bind_without_password_is_refused() {
        let bind = server(&["--bind-dn", "cn=reader"]);
        assert!(refusal(&bind, None).contains("no password for the bind DN `cn=reader`"));
        assert!(refusal(&bind, Some("")).contains("no password"));
    }

    #[test]
    fn the_password_is_hidden_and_comes_from_one_place() {
        let bind = server(&["--bind-dn", "cn=reader"]);
        let config = config(&bind, Some("s3cret")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        let both = server(&["--bind-dn", "cn=reader", "--bind-pass-file", "/dev/null"]);
        assert!(refusal(&both, Some("s3cret")).contains("both"));
    }

    #[test]
    fn required_tls_refuses_only_unprotected_connections() {
        assert!(refusal(&server(&["--require-tls"]), None).contains("`ldap://h`"));
        assert!(config(&server(&["--require-tls", "--starttls"]), None).is_ok());
        for url in ["ldaps://h", "ldapi://%2Frun%2Fldapi"] {
            assert!(config(&["--url", url, "--base-dn", "dc=x", "--require-tls"], None).is_ok());
        }
        let mixed = ["--url", "ldaps://h ldap://i", "--base-dn", "dc=x", "--require-tls"];
        assert!(refusal(&mixed, None).contains("`ldap://i`"));
    }
}
