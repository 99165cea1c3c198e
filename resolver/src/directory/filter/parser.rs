//! Parses search filters by the grammar of RFC 4515: one method for each of its rules.

use std::fmt;

use super::{Comparison, Filter};
use crate::directory::dn::hex;

/// Deepest nesting that is accepted.
const MAX_DEPTH: usize = 50;

/// Why and at which byte a text is not a filter.
#[derive(Debug, PartialEq, Eq)]
pub struct FilterError {
    offset: usize,
    reason: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for FilterError {}

/// Parses a filter in parentheses; see [`Filter::parse`].
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let mut parser = Parser { text: text.as_bytes(), offset: 0 };
    let filter = parser.filter(0)?;
    if parser.offset < text.len() {
        return parser.fail("something follows the closing `)`");
    }
    Ok(filter)
}

struct Parser<'a> {
    text: &'a [u8],
    offset: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, reason: &'static str) -> Result<T, FilterError> {
        Err(FilterError { offset: self.offset, reason })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), FilterError> {
        if self.peek() != Some(byte) {
            return self.fail(reason);
        }
        self.offset += 1;
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
                self.offset += 1;
                Filter::Not(Box::new(self.filter(depth + 1)?))
            }
            _ => self.item()?,
        };
        self.expect(b')', "expected `)`")?;
        Ok(filter)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.offset += 1;
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
        // The comparison that stands before the `=`, if there is one.
        let comparison = match self.peek() {
            Some(b':') => return self.extensible(attribute),
            Some(b'>') => Some(Comparison::AtLeast),
            Some(b'<') => Some(Comparison::AtMost),
            Some(b'~') => Some(Comparison::Equal),
            _ => None,
        };
        if attribute.is_empty() {
            return self.fail("expected an attribute");
        }
        self.offset += usize::from(comparison.is_some());
        self.expect(b'=', "expected `=`")?;
        let mut parts = self.value()?;
        let has_star = parts.len() > 1;
        Ok(match comparison {
            Some(_) if has_star => return self.fail("`*` in a comparison"),
            Some(comparison) => Filter::Compare(attribute, comparison, parts.remove(0)),
            None if !has_star => Filter::Compare(attribute, Comparison::Equal, parts.remove(0)),
            None if parts.iter().all(Vec::is_empty) => Filter::Present(attribute),
            None => Filter::Substrings(attribute, parts),
        })
    }

    fn attribute(&mut self) -> Result<String, FilterError> {
        let rest = &self.text[self.offset..];
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';');
        let length = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
        self.offset += length;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn extensible(&mut self, attribute: String) -> Result<Filter, FilterError> {
        while self.peek() == Some(b':') {
            self.offset += 1;
            self.attribute()?;
        }
        self.expect(b'=', "expected `:=`")?;
        self.value()?;
        Ok(Filter::Extensible(attribute))
    }

    /// Reads a value up to its `)`: unescaped, and split at each `*`.
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
                    let digit = |ahead: usize| self.text.get(self.offset + ahead).copied();
                    let (high, low) = (digit(1).and_then(hex), digit(2).and_then(hex));
                    let Some((high, low)) = high.zip(low) else {
                        return self.fail("`\\` needs two hexadecimal digits");
                    };
                    part.push(high << 4 | low);
                    self.offset += 2;
                }
                Some(byte) => part.push(byte),
            }
            self.offset += 1;
        }
        parts.push(part);
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_not_whole_is_refused_with_its_byte() {
        for (filter, offset) in [
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
            assert_eq!(parse(filter).unwrap_err().offset, offset, "{filter}");
        }
        let deep = "(!".repeat(10_000) + "(cn=a)" + &")".repeat(10_000);
        assert_eq!(parse(&deep).unwrap_err().reason, "nested too deeply");
    }
}
