//! Distinguished names, compared as a directory server compares them.
//!
//! Two sources may spell one name differently (`UID=Alice, DC=Example` and
//! `uid=alice,dc=example`); choosing the lowest of several entries must not depend on that.
//! Syntax: RFC 4514, with the quoted values of RFC 2253 and its predecessors accepted. Values are
//! folded as by `caseIgnoreMatch`: lower case, inner runs of spaces as one, none at the ends.

use std::fmt::Write as _;

/// A distinguished name in normal form, leaf first. The order is that of the normal form's
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dn {
    text: String,
    /// Where each relative name starts in `text`.
    starts: Vec<usize>,
}

impl Dn {
    /// Normalises `dn`; `None` when it is not a distinguished name. The empty name is the root.
    pub fn parse(dn: &str) -> Option<Self> {
        let mut name = Self { text: String::new(), starts: Vec::new() };
        if dn.trim().is_empty() {
            return Some(name);
        }
        for rdn in split(dn, ',') {
            let mut parts =
                split(rdn, '+').into_iter().map(attribute_and_value).collect::<Option<Vec<_>>>()?;
            parts.sort();
            if !name.text.is_empty() {
                name.text.push(',');
            }
            name.starts.push(name.text.len());
            name.text.push_str(&parts.join("+"));
        }
        Some(name)
    }

    /// The normal form of a name that a server sent, or the bytes themselves if it is none.
    pub fn lenient(dn: &[u8]) -> Self {
        let text = String::from_utf8_lossy(dn);
        Self::parse(&text).unwrap_or_else(|| Self { starts: vec![0], text: text.into_owned() })
    }

    /// Whether this is `base` or below it.
    pub fn is_within(&self, base: &Self) -> bool {
        let above = self.starts.len().checked_sub(base.starts.len());
        match above.map(|at| self.starts.get(at)) {
            None => false,
            Some(None) => true,
            Some(Some(&start)) => self.text[start..] == base.text,
        }
    }
}

/// Splits at every `separator` that is neither escaped nor quoted.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `type=value` in normal form.
fn attribute_and_value(part: &str) -> Option<String> {
    let (name, value) = part.split_once('=')?;
    let name = name.trim();
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        return None;
    }
    let mut normal = name.to_ascii_lowercase();
    normal.push('=');
    for character in fold(&unescape(value.trim())?).chars() {
        match character {
            ',' | '+' | '=' | '\\' | '"' => normal.extend(['\\', character]),
            _ if character.is_control() => write!(normal, "\\{:02x}", u32::from(character)).ok()?,
            _ => normal.push(character),
        }
    }
    Some(normal)
}

/// Takes escapes and quotes away; bytes that are not UTF-8 afterwards are replaced.
fn unescape(value: &str) -> Option<String> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut bytes = quoted.unwrap_or(value).bytes();
    let mut plain = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let first = bytes.next()?;
        match hex(first) {
            Some(high) => plain.push(high << 4 | hex(bytes.next()?)?),
            None => plain.push(first),
        }
    }
    Some(String::from_utf8_lossy(&plain).into_owned())
}

/// The value of a hexadecimal digit.
pub fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Lower case, runs of spaces as one, none at the ends: what `caseIgnoreMatch` compares.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        Dn::parse(one).unwrap() == Dn::parse(other).unwrap()
    }

    #[test]
    fn spelling_does_not_matter() {
        assert!(same("uid=alice,dc=example,dc=com", "UID = Alice , DC=EXAMPLE,dc=com"));
        assert!(same("cn=A  B,o=x", "cn= a b ,o=x"));
        assert!(same("cn=Smith\\, Jo,o=x", "cn=\"smith, jo\",o=x"));
        assert!(same("cn=Smith\\2c Jo,o=x", "cn=Smith\\, Jo,o=x"));
        assert!(same("cn=L\\c3\\bc,o=x", "cn=Lü,o=x"));
        assert!(same("cn=a+uid=b,o=x", "UID=B+CN=A,o=x"));
    }

    #[test]
    fn different_names_differ() {
        assert!(!same("cn=a\\,o=x", "cn=a,o=x"));
        assert!(!same("cn=a,o=x", "cn=a,o=y"));
    }

    #[test]
    fn the_order_is_that_of_the_normal_form() {
        assert!(Dn::parse("UID=bob,o=x") > Dn::parse("uid=Alice,o=x"));
        assert!(Dn::parse("cn=z,o=x") < Dn::parse("UID=a,o=x"));
    }

    #[test]
    fn a_base_contains_itself_and_what_is_below() {
        let within = |dn: &str, base| Dn::parse(dn).unwrap().is_within(&Dn::parse(base).unwrap());
        assert!(within("uid=a,dc=example,dc=com", "DC=Example, dc=com"));
        assert!(within("dc=com", "dc=com"));
        assert!(within("dc=com", ""));
        assert!(!within("dc=com", "dc=example,dc=com"));
        assert!(!within("uid=a,xdc=com", "dc=com"));
        assert!(!within("uid=a\\,dc=com", "dc=com"));
    }

    #[test]
    fn what_is_no_name_is_told_and_still_comparable() {
        for bad in ["alice", "uid=a,,dc=com", "=x", "uid=a\\", "u id=a"] {
            assert_eq!(Dn::parse(bad), None, "{bad}");
        }
        assert!(Dn::lenient(b"alice\xff") < Dn::lenient(b"bob"));
    }
}
