//! LDIF exports, record by record, in memory bounded by one line.
//!
//! Format: RFC 2849, content records only. What `ldapsearch` adds to its output is understood:
//! comments, `search:`/`result:` trailers and `ref:` records.

use std::io::{BufRead, ErrorKind, Read};

use anyhow::{Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnostics::wording::{io_error, one_line};

/// Longest line accepted, after unfolding, in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// A record of an export.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry: its name and the attribute values that were asked for, in file order.
    Entry(Vec<u8>, Vec<(String, Vec<u8>)>),
    /// A pointer to another server.
    Referral,
}

/// A reader of LDIF.
pub struct Ldif<R> {
    input: R,
    /// The physical line after the current one, read ahead to see whether it is folded.
    ahead: Option<Vec<u8>>,
    /// Number of the line read ahead, from 1.
    ahead_number: u64,
    /// Number of the line where the current logical line starts.
    number: u64,
    line: Vec<u8>,
    seen_record: bool,
}

impl<R: BufRead> Ldif<R> {
    /// A reader of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            ahead: None,
            ahead_number: 0,
            number: 0,
            line: Vec::new(),
            seen_record: false,
        }
    }

    /// The next record, with the values of the attributes that `wanted` accepts; `None` at the
    /// end.
    ///
    /// # Errors
    /// ``line N: ...``: not LDIF, a change record, a URL in place of a value, an export that
    /// says of itself that it is incomplete, or an I/O error.
    pub fn next_record(&mut self, wanted: &dyn Fn(&str) -> bool) -> Result<Option<Record>> {
        let read = self.read_record(wanted);
        read.map_err(|error| anyhow!("line {}: {error:#}", self.number))
    }

    fn read_record(&mut self, wanted: &dyn Fn(&str) -> bool) -> Result<Option<Record>> {
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            if self.line.is_empty() {
                continue;
            }
            let (name, value) = self.attribute()?;
            match &name.to_ascii_lowercase()[..] {
                "version" if !self.seen_record => {
                    ensure!(value == b"1", "LDIF version 1 is expected");
                }
                "dn" => {
                    self.seen_record = true;
                    return self.entry(value, wanted).map(Some);
                }
                "ref" => {
                    while self.next_line()? && !self.line.is_empty() {}
                    return Ok(Some(Record::Referral));
                }
                "search" | "result" => check_trailer(&name, &value)?,
                _ => bail!("expected `dn:` at the start of a record, not `{name}:`"),
            }
        }
    }

    fn entry(&mut self, dn: Vec<u8>, wanted: &dyn Fn(&str) -> bool) -> Result<Record> {
        let mut values = Vec::new();
        while self.next_line()? && !self.line.is_empty() {
            let (name, value) = self.attribute()?;
            match &name.to_ascii_lowercase()[..] {
                "changetype" | "control" => {
                    bail!("`{name}:` makes this a change record; an export of entries is expected")
                }
                "dn" => bail!("a second `dn:` in one record; an empty line is missing"),
                _ if wanted(&name) => values.push((name, value)),
                _ => {}
            }
        }
        Ok(Record::Entry(dn, values))
    }

    /// The current line as attribute description and value.
    fn attribute(&self) -> Result<(String, Vec<u8>)> {
        let colon = self.line.iter().position(|&b| b == b':');
        let Some(colon) = colon.filter(|&at| at > 0) else {
            bail!("expected `attribute: value`");
        };
        let (name, rest) = (&self.line[..colon], &self.line[colon + 1..]);
        let name = one_line(name);
        let value = match rest.first() {
            Some(b':') => STANDARD
                .decode(rest[1..].trim_ascii())
                .map_err(|error| anyhow!("bad base64 in `{name}`: {error}"))?,
            Some(b'<') => bail!("`{name}:<` takes its value from a URL, which is not followed"),
            _ => {
                let fill = rest.iter().position(|&b| b != b' ').unwrap_or(rest.len());
                rest[fill..].to_vec()
            }
        };
        Ok((name, value))
    }

    /// Reads the next logical line, unfolded, comments left out; false at the end.
    fn next_line(&mut self) -> Result<bool> {
        loop {
            let Some(first) = self.physical_line()? else { return Ok(false) };
            self.line = first;
            self.number = self.ahead_number;
            ensure!(self.line.first() != Some(&b' '), "a continuation of nothing");
            while let Some(next) = self.physical_line()? {
                match next.split_first() {
                    Some((b' ', folded)) => self.line.extend_from_slice(folded),
                    _ => {
                        self.ahead = Some(next);
                        break;
                    }
                }
                ensure!(self.line.len() <= MAX_LINE, "longer than {MAX_LINE} bytes");
            }
            if self.line.first() != Some(&b'#') {
                return Ok(true);
            }
        }
    }

    /// The next line of the file without its end (LF or CRLF), which may have been read ahead.
    fn physical_line(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        let mut line = Vec::new();
        let read = (&mut self.input).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => self.ahead_number += 1,
            Err(error) if error.kind() == ErrorKind::InvalidData => bail!("not a text file"),
            Err(error) => bail!("failed to read: {}", io_error(&error)),
        }
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        if ended {
            line.pop_if(|byte| *byte == b'\r');
        }
        if !ended && line.len() > MAX_LINE {
            self.number = self.ahead_number;
            bail!("longer than {MAX_LINE} bytes");
        }
        if self.ahead_number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(line))
    }
}

/// `ldapsearch` ends its output with the result of the search: an error means a cut-off export.
fn check_trailer(name: &str, value: &[u8]) -> Result<()> {
    let text = one_line(value);
    let complete = name.eq_ignore_ascii_case("search") || text.starts_with("0 ") || text == "0";
    ensure!(complete, "the export is incomplete: its search ended with `{text}`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Record>> {
        let mut ldif = Ldif::new(text);
        let mut records = Vec::new();
        while let Some(record) = ldif.next_record(&|name| name != "skipped")? {
            records.push(record);
        }
        Ok(records)
    }

    fn entry(dn: &str, values: &[(&str, &str)]) -> Record {
        let values = values.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec()));
        Record::Entry(dn.as_bytes().to_vec(), values.collect())
    }

    fn error(text: &str) -> String {
        format!("{:#}", read(text.as_bytes()).expect_err(text))
    }

    #[test]
    fn folding_base64_comments_and_crlf_are_read() {
        let text = "version: 1\r\n\r\n# a comment\r\n  folded\r\ndn: uid=a,\r\n dc=x\r\n\
                    mail: very.lo\r\n ng@x\r\ncn:: w7x\r\n iZXI=\r\nskipped: 1\r\nempty:\r\n\
                    \r\n\r\ndn:: dWlkPWI=\r\nmail:b@x";
        let expected = [
            entry("uid=a,dc=x", &[("mail", "very.long@x"), ("cn", "über"), ("empty", "")]),
            entry("uid=b", &[("mail", "b@x")]),
        ];
        assert_eq!(read(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn trailing_spaces_and_colons_belong_to_the_value() {
        let expected = [entry("uid=a", &[("cn", "a: b "), ("x", ":")])];
        assert_eq!(read(b"dn: uid=a\ncn:   a: b \nx: :\n").unwrap(), expected);
    }

    #[test]
    fn what_ldapsearch_adds_is_understood() {
        let text = "# extended LDIF\n#\n\n# a\ndn: uid=a\n\n# search reference\n\
                    ref: ldap://other/dc=x??sub\n\n# search result\nsearch: 2\nresult: 0 Success\n\n\
                    # numEntries: 1\n";
        assert_eq!(read(text.as_bytes()).unwrap(), [entry("uid=a", &[]), Record::Referral]);
        let cut = text.replace("0 Success", "4 Size limit exceeded");
        assert!(error(&cut).starts_with("line 12: the export is incomplete"), "{}", error(&cut));
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_line() {
        for (text, expected) in [
            ("dn: uid=a\njpegPhoto:< file:///etc/shadow\n", "line 2: `jpegPhoto:<`"),
            ("dn: uid=a\nchangetype: add\n", "line 2: `changetype:`"),
            ("# c\ndn: uid=a\ncontrol: 1.2 true\n", "line 3: `control:`"),
            ("uid: a\n", "line 1: expected `dn:`"),
            ("version: 2\n", "line 1: LDIF version 1"),
            ("dn: uid=a\nnonsense\n", "line 2: expected `attribute: value`"),
            ("dn: uid=a\n: x\n", "line 2: expected `attribute: value`"),
            (" dn: uid=a\n", "line 1: a continuation of nothing"),
            ("dn: uid=a\ncn:: w7x*\n", "line 2: bad base64 in `cn`"),
            ("dn: uid=a\ncn: a\n b\ndn: uid=b\n", "line 4: a second `dn:`"),
        ] {
            assert!(error(text).starts_with(expected), "{text}: {}", error(text));
        }
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'a'));
        let error = Ldif::new(endless).next_record(&|_| true).unwrap_err();
        assert!(error.to_string().starts_with("line 1: longer than"), "{error}");
    }
}
