//! LDAP search filters: checked before they are sent, and answered for LDIF files.
//!
//! Syntax: RFC 4515. A filter that does not stand by itself (unbalanced, say) must never reach
//! the place where it is ANDed with ours, or it would change what is asked. Values are compared
//! without case and with white space folded, since an LDIF file carries no schema that would
//! say otherwise; a directory server's answer may differ for attributes with other rules.

use std::fmt;

use crate::directory::dn::{Dn, fold, hex};
use crate::directory::owner::names;

/// Deepest nesting accepted.
const MAX_DEPTH: usize = 50;

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
    /// Comparison of an attribute with a value.
    Compare(String, Comparison, Vec<u8>),
    /// `(attribute=a*b*c)`: the first and last part are anchored, empty when not given.
    Substrings(String, Vec<Vec<u8>>),
    /// `(attribute:rule:=value)`, which only a directory server can answer.
    Extensible(String),
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`, and `~=`, which RFC 4511 lets stand for equality.
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
}

/// Where a filter stops being one.
#[derive(Debug, PartialEq, Eq)]
pub struct FilterError {
    at: usize,
    what: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Parses a filter in parentheses.
    ///
    /// # Errors
    /// Where and why it is not one.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { text: text.as_bytes(), at: 0 };
        let filter = parser.filter(0)?;
        if parser.at < text.len() {
            return parser.fail("something follows the closing `)`");
        }
        Ok(filter)
    }

    /// The attribute of the first extensible match, which cannot be answered without a server.
    pub fn extensible(&self) -> Option<&str> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().find_map(Self::extensible),
            Self::Not(part) => part.extensible(),
            Self::Extensible(attribute) => Some(attribute),
            _ => None,
        }
    }

    /// Whether the filter looks at this attribute.
    pub fn asks_for(&self, description: &str) -> bool {
        self.attributes().iter().any(|attribute| names(description, attribute))
    }

    /// The attributes that the filter looks at, without options.
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
            entry.iter().any(|(description, value)| answers(description, attribute) && test(value))
        };
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(entry)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(entry)),
            Self::Not(part) => !part.matches(entry),
            Self::Present(attribute) => any(attribute, &|_| true),
            Self::Compare(attribute, how, wanted) => {
                any(attribute, &|value| compare(value, *how, wanted))
            }
            Self::Substrings(attribute, parts) => any(attribute, &|value| contains(value, parts)),
            Self::Extensible(_) => false,
        }
    }
}

/// Whether an entry's attribute is one that the filter means: it has at least the options that
/// the filter names (RFC 4512, 2.5.2).
fn answers(description: &str, asked: &str) -> bool {
    let (base, options) = asked.split_once(';').unwrap_or((asked, ""));
    let has = |option: &str| {
        description.split(';').skip(1).any(|given| given.eq_ignore_ascii_case(option))
    };
    names(description, base) && options.split(';').filter(|o| !o.is_empty()).all(has)
}

fn folded(value: &[u8]) -> String {
    fold(&String::from_utf8_lossy(value))
}

fn compare(value: &[u8], how: Comparison, wanted: &[u8]) -> bool {
    let (value, wanted) = (folded(value), folded(wanted));
    let order = match (value.parse::<i128>(), wanted.parse::<i128>()) {
        (Ok(value), Ok(wanted)) => value.cmp(&wanted),
        _ => value.cmp(&wanted),
    };
    match how {
        Comparison::AtLeast => order.is_ge(),
        Comparison::AtMost => order.is_le(),
        Comparison::Equal => order.is_eq() || same_name(&value, &wanted),
    }
}

/// Whether both are distinguished names (of a group, say), and the same.
fn same_name(value: &str, wanted: &str) -> bool {
    value.contains('=') && Dn::parse(value).is_some_and(|dn| Dn::parse(wanted) == Some(dn))
}

/// Whether the parts follow each other in the value. Spaces at the ends of a part count, for
/// `Ali *` asks for a second word; only the ends of the value are trimmed.
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

/// Lower case, runs of spaces as one.
fn folded_part(part: &[u8]) -> String {
    let text = String::from_utf8_lossy(part);
    let inner = folded(part);
    let space = |is_there: bool| if is_there { " " } else { "" };
    if inner.is_empty() {
        return space(!text.is_empty()).to_owned();
    }
    format!("{}{inner}{}", space(text.starts_with(' ')), space(text.ends_with(' ')))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, FilterError> {
        Err(FilterError { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), FilterError> {
        if self.peek() != Some(byte) {
            return self.fail(what);
        }
        self.at += 1;
        Ok(())
    }

    fn filter(&mut self, depth: usize) -> Result<Filter, FilterError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.expect(b'(', "expected `(`")?;
        let filter = match self.peek() {
            Some(b'&') => Filter::And(self.list(depth)?),
            Some(b'|') => Filter::Or(self.list(depth)?),
            Some(b'!') => {
                self.at += 1;
                Filter::Not(Box::new(self.filter(depth + 1)?))
            }
            _ => self.item()?,
        };
        self.expect(b')', "expected `)`")?;
        Ok(filter)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.at += 1;
        let mut parts = Vec::new();
        while self.peek() == Some(b'(') {
            parts.push(self.filter(depth + 1)?);
        }
        if parts.is_empty() {
            return self.fail("expected `(`");
        }
        Ok(parts)
    }

    fn item(&mut self) -> Result<Filter, FilterError> {
        let attribute = self.attribute()?;
        let how = match self.peek() {
            Some(b':') => return self.extensible(attribute),
            Some(b'>') => Some(Comparison::AtLeast),
            Some(b'<') => Some(Comparison::AtMost),
            Some(b'~') => Some(Comparison::Equal),
            _ => None,
        };
        if attribute.is_empty() {
            return self.fail("expected an attribute");
        }
        self.at += usize::from(how.is_some());
        self.expect(b'=', "expected `=`")?;
        let mut parts = self.value()?;
        let whole = parts.len() == 1;
        Ok(match how {
            Some(_) if !whole => return self.fail("`*` in a comparison"),
            Some(how) => Filter::Compare(attribute, how, parts.remove(0)),
            None if whole => Filter::Compare(attribute, Comparison::Equal, parts.remove(0)),
            None if parts.iter().all(Vec::is_empty) => Filter::Present(attribute),
            None => Filter::Substrings(attribute, parts),
        })
    }

    fn attribute(&mut self) -> Result<String, FilterError> {
        let rest = &self.text[self.at..];
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';');
        let length = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
        self.at += length;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn extensible(&mut self, attribute: String) -> Result<Filter, FilterError> {
        while self.peek() == Some(b':') {
            self.at += 1;
            self.attribute()?;
        }
        self.expect(b'=', "expected `:=`")?;
        self.value()?;
        Ok(Filter::Extensible(attribute))
    }

    /// A value up to its `)`, unescaped, cut at each `*`.
    fn value(&mut self) -> Result<Vec<Vec<u8>>, FilterError> {
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        loop {
            match self.peek() {
                Some(b')') => break,
                None => return self.fail("the filter ends before its `)`"),
                Some(b'(') => return self.fail("a `(` in a value must be written `\\28`"),
                Some(0) => return self.fail("a NUL in a value must be written `\\00`"),
                Some(b'*') => parts.push(std::mem::take(&mut part)),
                Some(b'\\') => {
                    let digit = |offset: usize| self.text.get(self.at + offset).copied();
                    let (high, low) = (digit(1).and_then(hex), digit(2).and_then(hex));
                    let Some((high, low)) = high.zip(low) else {
                        return self.fail("`\\` needs two hexadecimal digits");
                    };
                    part.push(high << 4 | low);
                    self.at += 2;
                }
                Some(byte) => part.push(byte),
            }
            self.at += 1;
        }
        parts.push(part);
        Ok(parts)
    }
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
    fn entries_are_matched_as_a_server_would() {
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
    fn what_would_not_stand_by_itself_is_refused_with_its_place() {
        for (filter, at) in [
            ("", 0),
            ("cn=a", 0),
            ("(cn=a", 5),
            ("(cn=a))", 6),
            ("(cn=a)(uid=b)", 6),
            ("(&)", 2),
            ("(!)", 2),
            ("(&(cn=a)x)", 8),
            ("(cn=(a))", 4),
            ("(cn=a\\2)", 5),
            ("(cn)", 3),
            ("(=a)", 1),
            ("(cn>=a*b)", 8),
            ("(cn=a\u{0})", 5),
            ("(cn=a)\n", 6),
        ] {
            assert_eq!(Filter::parse(filter).unwrap_err().at, at, "{filter}");
        }
        let deep = "(!".repeat(10_000) + "(cn=a)" + &")".repeat(10_000);
        assert_eq!(Filter::parse(&deep).unwrap_err().what, "nested too deeply");
    }

    #[test]
    fn extensible_matches_are_recognised() {
        let nested = "(&(cn=a)(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y))";
        assert_eq!(Filter::parse(nested).unwrap().extensible(), Some("memberOf"));
        assert_eq!(Filter::parse("(:dn:2.4.6.8.10:=x)").unwrap().extensible(), Some(""));
        assert_eq!(Filter::parse("(cn=a)").unwrap().extensible(), None);
    }
}
