//! Errors for the result codes of a server (RFC 4511, appendix A).
//!
//! A code that retrying cannot cure gives a configuration error (exit code 2) whose message says how to
//! mend it; all others give a plain error.

use anyhow::anyhow;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use ldap3::LdapResult;

use crate::ldap::address::Address;

/// How many characters of a server's text a message repeats.
const MAX_EXCERPT: usize = 200;

/// A search, as far as messages name it.
pub struct SearchRequest<'a> {
    /// The server.
    pub address: &'a Address,
    /// The name that is bound; `None` after an anonymous bind.
    pub bind_dn: Option<&'a str>,
    /// DN of the subtree that is searched.
    pub base: &'a str,
}

/// The error for a failed bind.
pub fn bind_error(address: &Address, bind_dn: Option<&str>, result: &LdapResult) -> anyhow::Error {
    let text = server_text(&result.text);
    let Some(dn) = bind_dn.map(|dn| one_line(dn.as_bytes())) else {
        return match result.rc {
            51 | 52 | 80 => failure(address, "bind", result),
            13 => demands_tls(address, &text),
            _ => refuses_anonymous(address, result.rc, &text),
        };
    };
    match result.rc {
        49 => misconfigured(format_args!(
            "`{address}` does not accept the password of `{dn}`: invalidCredentials{text}"
        )),
        8 | 13 => demands_tls(address, &text),
        32 | 34 | 48 | 50 | 53 => misconfigured(format_args!(
            "`{address}` refuses a bind as `{dn}`: {}{text}",
            code_name(result.rc)
        )),
        _ => failure(address, "bind", result),
    }
}

/// The error for a failed search.
pub fn search_error(request: &SearchRequest<'_>, result: &LdapResult) -> anyhow::Error {
    let (address, text) = (request.address, server_text(&result.text));
    let base = one_line(request.base.as_bytes());
    let is_anonymous = request.bind_dn.is_none();
    match result.rc {
        10 => {
            let other = result.refs.first().map(|url| excerpt(url.as_bytes()));
            misconfigured(format_args!(
                "`{address}` does not hold the base DN `{base}` but refers to `{}`",
                other.unwrap_or_default()
            ))
        }
        11 => misconfigured(format_args!(
            "`{address}` refuses to look through so many entries: the attribute that holds the UID \
             needs an index there, or the limit must be higher: adminLimitExceeded{text}"
        )),
        13 => demands_tls(address, &text),
        32 => misconfigured(format_args!(
            "the base DN `{base}` does not exist on `{address}` (or must not be seen): \
             noSuchObject{text}"
        )),
        34 => misconfigured(format_args!(
            "`{address}` does not take `{base}` for a DN: invalidDNSyntax{text}"
        )),
        // Active Directory answers operationsError to a search without a bind.
        1 | 8 | 48 | 53 if is_anonymous => refuses_anonymous(address, result.rc, &text),
        50 => misconfigured(format_args!(
            "access denied: {} must not search below `{base}` on `{address}`: \
             insufficientAccessRights{text}",
            request.bind_dn.map_or("an anonymous user".to_owned(), |dn| {
                format!("`{}`", one_line(dn.as_bytes()))
            })
        )),
        _ => failure(address, "search", result),
    }
}

fn demands_tls(address: &Address, text: &str) -> anyhow::Error {
    misconfigured(format_args!("`{address}` demands TLS: use ldaps:// or LDAP_STARTTLS{text}"))
}

fn refuses_anonymous(address: &Address, code: u32, text: &str) -> anyhow::Error {
    let code = code_name(code);
    misconfigured(format_args!(
        "`{address}` refuses anonymous access: set LDAP_BIND_DN and LDAP_BIND_PASS: {code}{text}"
    ))
}

fn failure(address: &Address, operation: &str, result: &LdapResult) -> anyhow::Error {
    let (code, text) = (code_name(result.rc), server_text(&result.text));
    anyhow!("ldap {operation} on `{address}` failed: {code}{text}")
}

/// The server's text in parentheses, to append to a message; empty if there is none.
pub fn server_text(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    if text.is_empty() {
        return String::new();
    }
    format!(" ({})", excerpt(text.as_bytes()))
}

/// The start of a server's text, on one line.
pub fn excerpt(text: &[u8]) -> String {
    one_line(text).chars().take(MAX_EXCERPT).collect()
}

/// The name of a result code.
pub fn code_name(code: u32) -> String {
    let name = match code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => return format!("result code {code}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use diagnostics::exit::code_of;

    fn result(rc: u32) -> LdapResult {
        let refs = vec!["ldap://other/".to_owned()];
        LdapResult { rc, matched: String::new(), text: "why\n".to_owned(), refs, ctrls: vec![] }
    }

    fn request(address: &Address, is_bound: bool) -> SearchRequest<'_> {
        SearchRequest { address, bind_dn: is_bound.then_some("cn=reader"), base: "dc=x" }
    }

    #[test]
    fn errors_that_retrying_cannot_cure_are_configuration_errors() {
        let address = Address::parse("ldap://h").unwrap();
        for (rc, is_bound, expected) in [
            (32, true, "base DN `dc=x` does not exist"),
            (34, true, "does not take `dc=x` for a DN"),
            (50, true, "access denied: `cn=reader`"),
            (50, false, "access denied: an anonymous user"),
            (10, true, "refers to `ldap://other/`"),
            (11, true, "needs an index there"),
            (13, true, "demands TLS"),
            (1, false, "refuses anonymous access"),
            (8, false, "refuses anonymous access"),
        ] {
            let error = search_error(&request(&address, is_bound), &result(rc));
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(code_of(&error), 2, "{error}");
        }
        for (rc, is_bound, expected) in [
            (49, true, "does not accept the password of `cn=reader`"),
            (53, true, "refuses a bind as `cn=reader`"),
            (8, true, "demands TLS"),
            (48, false, "refuses anonymous access"),
        ] {
            let error = bind_error(&address, is_bound.then_some("cn=reader"), &result(rc));
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(code_of(&error), 2, "{error}");
        }
    }

    #[test]
    fn errors_that_retrying_may_cure_are_plain_and_on_one_line() {
        let address = Address::parse("ldap://h").unwrap();
        for rc in [1, 3, 4, 51, 52, 80, 4711] {
            let error = search_error(&request(&address, true), &result(rc));
            assert_eq!(code_of(&error), 1, "{error}");
            assert!(error.to_string().ends_with(r"(why\n)"), "{error}");
        }
        assert_eq!(code_of(&bind_error(&address, Some("cn=reader"), &result(51))), 1);
        assert_eq!(code_of(&bind_error(&address, None, &result(52))), 1);
    }
}
