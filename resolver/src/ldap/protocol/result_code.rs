//! What a server's result codes mean for the run (RFC 4511, appendix A).

use anyhow::anyhow;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use ldap3::LdapResult;

use crate::ldap::address::Address;

/// Longest text of a server that is repeated, in characters.
const MAX_TEXT: usize = 200;

/// Who asked whom, for what: the words that messages need.
pub struct Question<'a> {
    /// The server.
    pub address: &'a Address,
    /// Who asked; `None` for anonymous.
    pub bind_dn: Option<&'a str>,
    /// Below which name.
    pub base: &'a str,
}

/// The error for a bind that did not succeed. Codes that retrying may cure are plain errors.
pub fn bind_error(question: &Question<'_>, result: &LdapResult) -> anyhow::Error {
    let (address, text) = (question.address, server_text(&result.text));
    let Some(dn) = question.bind_dn.map(|dn| one_line(dn.as_bytes())) else {
        return match result.rc {
            51 | 52 | 80 => failure(question, "bind", result),
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
        _ => failure(question, "bind", result),
    }
}

/// The error for a search that did not succeed.
pub fn search_error(question: &Question<'_>, result: &LdapResult) -> anyhow::Error {
    let (address, text) = (question.address, server_text(&result.text));
    let base = one_line(question.base.as_bytes());
    let is_anonymous = question.bind_dn.is_none();
    match result.rc {
        10 => {
            let other = result.refs.first().map(|url| excerpt(url.as_bytes()));
            misconfigured(format_args!(
                "`{address}` does not hold the base DN `{base}` but refers to `{}`",
                other.unwrap_or_default()
            ))
        }
        11 => misconfigured(format_args!(
            "`{address}` does not look through as many entries as this takes: the attribute that \
             holds the UID needs an index there, or a higher limit: adminLimitExceeded{text}"
        )),
        13 => demands_tls(address, &text),
        32 => misconfigured(format_args!(
            "the base DN `{base}` does not exist on `{address}` (or must not be seen): \
             noSuchObject{text}"
        )),
        34 => misconfigured(format_args!(
            "`{address}` does not take `{base}` for a DN: invalidDNSyntax{text}"
        )),
        // Active Directory says operationsError for a search before a bind.
        1 | 8 | 48 | 53 if is_anonymous => refuses_anonymous(address, result.rc, &text),
        50 => misconfigured(format_args!(
            "access denied: {} must not search below `{base}` on `{address}`: \
             insufficientAccessRights{text}",
            question.bind_dn.map_or("an anonymous user".to_owned(), |dn| {
                format!("`{}`", one_line(dn.as_bytes()))
            })
        )),
        _ => failure(question, "search", result),
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

fn failure(question: &Question<'_>, what: &str, result: &LdapResult) -> anyhow::Error {
    let (code, text) = (code_name(result.rc), server_text(&result.text));
    anyhow!("ldap {what} on `{}` failed: {code}{text}", question.address)
}

/// What the server said, in parentheses; nothing if it said nothing.
pub fn server_text(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    if text.is_empty() {
        return String::new();
    }
    format!(" ({})", excerpt(text.as_bytes()))
}

/// The beginning of what a server said, on one line.
pub fn excerpt(text: &[u8]) -> String {
    one_line(text).chars().take(MAX_TEXT).collect()
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

    fn question(address: &Address, named: bool) -> Question<'_> {
        Question { address, bind_dn: named.then_some("cn=reader"), base: "dc=x" }
    }

    #[test]
    fn what_retrying_cannot_cure_is_an_error_of_configuration() {
        let address = Address::parse("ldap://h").unwrap();
        for (rc, named, expected) in [
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
            let error = search_error(&question(&address, named), &result(rc));
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(code_of(&error), 2, "{error}");
        }
        for (rc, named, expected) in [
            (49, true, "does not accept the password of `cn=reader`"),
            (53, true, "refuses a bind as `cn=reader`"),
            (8, true, "demands TLS"),
            (48, false, "refuses anonymous access"),
        ] {
            let error = bind_error(&question(&address, named), &result(rc));
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(code_of(&error), 2, "{error}");
        }
    }

    #[test]
    fn what_retrying_may_cure_is_a_plain_error_on_one_line() {
        let address = Address::parse("ldap://h").unwrap();
        for rc in [1, 3, 4, 51, 52, 80, 4711] {
            let error = search_error(&question(&address, true), &result(rc));
            assert_eq!(code_of(&error), 1, "{error}");
            assert!(error.to_string().ends_with(r"(why\n)"), "{error}");
        }
        assert_eq!(code_of(&bind_error(&question(&address, true), &result(51))), 1);
        assert_eq!(code_of(&bind_error(&question(&address, false), &result(52))), 1);
    }
}
