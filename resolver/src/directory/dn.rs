//! Normalises distinguished names (DNs), so that they compare as a directory server compares them.
//!
//! Two sources may spell the same DN differently (`UID=Alice, DC=Example` and
//! `uid=alice,dc=example`), and the choice of the lowest DN must not depend on the spelling.
//! The syntax is RFC 4514; quoted values, as in RFC 2253 and its predecessors, are accepted too.
//! Values are folded like `caseIgnoreMatch` does: lower case, runs of spaces as one space, no space
//! at either end.

use std::fmt::Write as _;

/// A distinguished name in normal form, leaf first. DNs are ordered by the bytes of their normal
/// form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dn {
    text: String,
    /// Where each relative DN starts in `text`.
    rdn_starts: Vec<usize>,
}

impl Dn {
    /// Normalises `dn`; `None` if it is not a DN. The empty DN is the root.
    pub fn parse(dn: &str) -> Option<Self> {
        let mut name = Self { text: String::new(), rdn_starts: Vec::new() };
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
            name.rdn_starts.push(name.text.len());
            name.text.push_str(&parts.join("+"));
        }
        Some(name)
    }

    /// The normal form of a DN that a source sent, or the text itself if it is not a DN.
    pub fn lenient(dn: &[u8]) -> Self {
        let text = String::from_utf8_lossy(dn);
        Self::parse(&text).unwrap_or_else(|| Self { rdn_starts: vec![0], text: text.into_owned() })
    }

    /// Whether this is `base` or below it.
    pub fn is_within(&self, base: &Self) -> bool {
        let depth = self.rdn_starts.len().checked_sub(base.rdn_starts.len());
        match depth.map(|depth| self.rdn_starts.get(depth)) {
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

/// The normal form of `type=value`; `None` if it is not that.
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

/// Removes escapes and quotes. Bytes that are not UTF-8 then become replacement characters.
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

/// Folds a value for `caseIgnoreMatch`: lower case, runs of spaces as one space, trimmed.
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

    fn are_equal(one: &str, other: &str) -> bool {
        Dn::parse(one).unwrap() == Dn::parse(other).unwrap()
    }

    #[test]
    fn different_spellings_of_a_dn_are_equal() {
        assert!(are_equal("uid=alice,dc=example,dc=com", "UID = Alice , DC=EXAMPLE,dc=com"));
        assert!(are_equal("cn=A  B,o=x", "cn= a b ,o=x"));
        assert!(are_equal("cn=Smith\\, Jo,o=x", "cn=\"smith, jo\",o=x"));
        assert!(are_equal("cn=Smith\\2c Jo,o=x", "cn=Smith\\, Jo,o=x"));
        assert!(are_equal("cn=L\\c3\\bc,o=x", "cn=Lü,o=x"));
        assert!(are_equal("cn=a+uid=b,o=x", "UID=B+CN=A,o=x"));
    }

    #[test]
    fn different_dns_differ() {
        assert!(!are_equal("cn=a\\,o=x", "cn=a,o=x"));
        assert!(!are_equal("cn=a,o=x", "cn=a,o=y"));
    }

    #[test]
    fn dns_are_ordered_by_their_normal_form() {
        assert!(Dn::parse("UID=bob,o=x") > Dn::parse("uid=Alice,o=x"));
        assert!(Dn::parse("cn=z,o=x") < Dn::parse("UID=a,o=x"));
    }

    #[test]
    fn a_base_contains_itself_and_the_entries_below() {
        let within = |dn: &str, base| Dn::parse(dn).unwrap().is_within(&Dn::parse(base).unwrap());
        assert!(within("uid=a,dc=example,dc=com", "DC=Example, dc=com"));
        assert!(within("dc=com", "dc=com"));
        assert!(within("dc=com", ""));
        assert!(!within("dc=com", "dc=example,dc=com"));
        assert!(!within("uid=a,xdc=com", "dc=com"));
        assert!(!within("uid=a\\,dc=com", "dc=com"));
    }

    #[test]
    fn text_that_is_not_a_dn_is_refused_or_compared_as_text() {
        for bad in ["alice", "uid=a,,dc=com", "=x", "uid=a\\", "u id=a"] {
            assert_eq!(Dn::parse(bad), None, "{bad}");
        }
        assert!(Dn::lenient(b"alice\xff") < Dn::lenient(b"bob"));
    }
}
