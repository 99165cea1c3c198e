//! LDAP search filters (RFC 4515): parsed, and matched against the entries of an LDIF export.
//!
//! A filter for a server is parsed as well, before it is combined with the search for UIDs: an
//! unbalanced filter such as `(a=b))(x=*` would change that search.
//! An LDIF export has no schema, so all values are compared without case and with runs of spaces as
//! one. A server may answer differently for attributes with other matching rules.

mod parser;

use super::dn::{Dn, fold};
use super::owner::is_attribute;
pub use parser::FilterError;

/// A search filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `(&...)`
    And(Vec<Filter>),
    /// `(|...)`
    Or(Vec<Filter>),
    /// `(!...)`
    Not(Box<Filter>),
    /// `(attribute=*)`
    Present(String),
    /// `(attribute=value)`, and `>=`, `<=` and `~=`.
    Compare(String, Comparison, Vec<u8>),
    /// `(attribute=a*b*c)`: the first and last part match at the ends of the value; they are empty
    /// if the pattern starts or ends with `*`.
    Substrings(String, Vec<Vec<u8>>),
    /// `(attribute:rule:=value)`, which only a server can match.
    Extensible(String),
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`, and `~=`, which RFC 4511 allows to be treated as equality.
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
}

impl Filter {
    /// Parses a filter in parentheses.
    ///
    /// # Errors
    /// Fails if the text is not a filter, nests too deeply, or continues after the closing `)`.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parser::parse(text)
    }

    /// The attribute of the first extensible match, if there is one; only a server can match it.
    pub fn extensible(&self) -> Option<&str> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().find_map(Self::extensible),
            Self::Not(part) => part.extensible(),
            Self::Extensible(attribute) => Some(attribute),
            _ => None,
        }
    }

    /// Whether the filter uses this attribute.
    pub fn uses(&self, description: &str) -> bool {
        self.attributes().iter().any(|attribute| is_attribute(description, attribute))
    }

    /// The attributes that the filter uses, without options. Those of extensible matches are left
    /// out.
    pub fn attributes(&self) -> Vec<&str> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::attributes).collect(),
            Self::Not(part) => part.attributes(),
            Self::Present(attribute)
            | Self::Compare(attribute, ..)
            | Self::Substrings(attribute, _) => attribute.split(';').next().into_iter().collect(),
            Self::Extensible(_) => Vec::new(),
        }
    }

    /// Whether an entry with these attribute values matches.
    pub fn matches(&self, entry: &[(String, Vec<u8>)]) -> bool {
        let any = |attribute: &str, test: &dyn Fn(&[u8]) -> bool| {
            entry.iter().any(|(description, value)| covers(description, attribute) && test(value))
        };
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(entry)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(entry)),
            Self::Not(part) => !part.matches(entry),
            Self::Present(attribute) => any(attribute, &|_| true),
            Self::Compare(attribute, comparison, wanted) => {
                any(attribute, &|value| compare(value, *comparison, wanted))
            }
            Self::Substrings(attribute, parts) => any(attribute, &|value| contains(value, parts)),
            Self::Extensible(_) => false,
        }
    }
}

/// Whether an entry's attribute is covered by the filter's: the same name, and at least the options
/// that the filter names (RFC 4512, 2.5.2).
fn covers(description: &str, in_filter: &str) -> bool {
    let (base, options) = in_filter.split_once(';').unwrap_or((in_filter, ""));
    let has = |option: &str| {
        description.split(';').skip(1).any(|given| given.eq_ignore_ascii_case(option))
    };
    is_attribute(description, base) && options.split(';').filter(|o| !o.is_empty()).all(has)
}

fn folded(value: &[u8]) -> String {
    fold(&String::from_utf8_lossy(value))
}

fn compare(value: &[u8], comparison: Comparison, wanted: &[u8]) -> bool {
    let (value, wanted) = (folded(value), folded(wanted));
    let order = match (value.parse::<i128>(), wanted.parse::<i128>()) {
        (Ok(value), Ok(wanted)) => value.cmp(&wanted),
        _ => value.cmp(&wanted),
    };
    match comparison {
        Comparison::AtLeast => order.is_ge(),
        Comparison::AtMost => order.is_le(),
        Comparison::Equal => order.is_eq() || is_same_dn(&value, &wanted),
    }
}

/// Whether both are DNs (of a group, for example), and the same.
fn is_same_dn(value: &str, wanted: &str) -> bool {
    value.contains('=') && Dn::parse(value).is_some_and(|dn| Dn::parse(wanted) == Some(dn))
}

/// Whether the value contains the parts in this order, the first and last at its ends. Spaces at the
/// ends of a part count, since `Ali *` asks for a second word; only the value itself is trimmed.
fn contains(value: &[u8], parts: &[Vec<u8>]) -> bool {
    let value = folded(value);
    let mut rest = &value[..];
    let Some((last, others)) = parts.split_last() else { return true };
    for (index, part) in others.iter().enumerate() {
        let part = folded_part(part);
        let part = if index == 0 { part.trim_start() } else { &part };
        let found = if index == 0 { rest.starts_with(part).then_some(0) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(folded_part(last).trim_end())
}

/// Folds a part of a pattern: lower case, runs of spaces as one, spaces at its ends kept.
fn folded_part(part: &[u8]) -> String {
    let text = String::from_utf8_lossy(part);
    let inner = folded(part);
    let space = |is_kept: bool| if is_kept { " " } else { "" };
    if inner.is_empty() {
        return space(!text.is_empty()).to_owned();
    }
    format!("{}{inner}{}", space(text.starts_with(' ')), space(text.ends_with(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str) -> bool {
        let entry: Vec<_> = [
            ("objectClass", "posixAccount"),
            ("cn", "Alice  Johnson"),
            ("cn;lang-de", "Alice (EDV)"),
            ("uidNumber", "30001"),
            ("memberOf", "cn=Staff, dc=example"),
        ]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .to_vec();
        Filter::parse(filter).unwrap().matches(&entry)
    }

    #[test]
    fn entries_match_as_on_a_server() {
        for filter in [
            "(objectclass=POSIXACCOUNT)",
            "(cn=alice johnson)",
            "(cn=*)",
            "(cn=al*john*)",
            "(cn=*o*n)",
            "(cn=*\\28edv\\29)",
            "(cn=alice *)",
            "(cn=*  johnson*)",
            "(cn;lang-de=*edv*)",
            "(cn~=alice johnson)",
            "(uidNumber>=9999)",
            "(uidNumber<=100000)",
            "(memberOf=CN=staff,dc=example)",
            "(&(cn=*)(!(mail=*)))",
            "(|(mail=*)(cn=*))",
            "(!(cn=bob))",
        ] {
            assert!(matches(filter), "{filter}");
        }
        for filter in [
            "(cn=alice)",
            "(cn=ali *)",
            "(cn=* ohnson)",
            "(cn=*johnson *)",
            "(cn;lang-de=alice johnson)",
            "(cn;lang-fr=*)",
            "(cn=al*johnso)",
            "(cn=lice*)",
            "(cn=alice johnson*alice*)",
            "(mail=*)",
            "(uidNumber>=30002)",
            "(&(cn=*)(mail=*))",
            "(!(cn=*))",
            "(memberOf=cn=staff,dc=other)",
        ] {
            assert!(!matches(filter), "{filter}");
        }
    }

    #[test]
    fn extensible_matches_are_found_at_any_depth() {
        let nested = "(&(cn=a)(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y))";
        assert_eq!(Filter::parse(nested).unwrap().extensible(), Some("memberOf"));
        assert_eq!(Filter::parse("(:dn:2.4.6.8.10:=x)").unwrap().extensible(), Some(""));
        assert_eq!(Filter::parse("(cn=a)").unwrap().extensible(), None);
    }
}
