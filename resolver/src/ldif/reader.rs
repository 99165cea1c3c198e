//! Reads LDIF (RFC 2849, content records only) record by record. No line may be longer than 16 MiB.
//!
//! The output of `ldapsearch` is accepted too, with its comments, `ref:` records and the
//! `search:`/`result:` lines at its end.

use std::io::{BufRead, ErrorKind, Read};

use anyhow::{Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnostics::wording::{io_error, one_line};

/// Longest line that is accepted, after unfolding, in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// A record of an export.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry.
    Entry(Entry),
    /// A referral to another server.
    Referral,
}

/// An entry of an export.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its DN.
    pub dn: Vec<u8>,
    /// Attribute descriptions and values in file order, as far as they were wanted.
    pub values: Vec<(String, Vec<u8>)>,
}

/// A reader of LDIF.
pub struct LdifReader<R> {
    input: R,
    /// The physical line after the current logical line. It is read ahead, because a line that
    /// starts with a space continues the current one.
    next_line: Option<Vec<u8>>,
    /// How many physical lines have been read.
    lines_read: u64,
    /// Number of the first physical line of the current logical line, from 1.
    line_number: u64,
    /// The current logical line.
    line: Vec<u8>,
    has_record: bool,
}

impl<R: BufRead> LdifReader<R> {
    /// Creates a reader of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            next_line: None,
            lines_read: 0,
            line_number: 0,
            line: Vec::new(),
            has_record: false,
        }
    }

    /// Reads the next record, with the values of the attributes that `wanted` accepts; `None` at
    /// the end of the file.
    ///
    /// # Errors
    /// Fails with `line N: ...` if the line cannot be read, is not LDIF, belongs to a change record,
    /// takes its value from a URL, or says that the export is incomplete.
    pub fn next_record(&mut self, wanted: &dyn Fn(&str) -> bool) -> Result<Option<Record>> {
        let read = self.read_record(wanted);
        read.map_err(|error| anyhow!("line {}: {error:#}", self.line_number))
    }

    fn read_record(&mut self, wanted: &dyn Fn(&str) -> bool) -> Result<Option<Record>> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if self.line.is_empty() {
                continue;
            }
            let (name, value) = self.attribute()?;
            match &name.to_ascii_lowercase()[..] {
                "version" if !self.has_record => {
                    ensure!(value == b"1", "LDIF version 1 is expected");
                }
                "dn" => {
                    self.has_record = true;
                    return Ok(Some(Record::Entry(self.read_entry(value, wanted)?)));
                }
                "ref" => {
                    while self.read_line()? && !self.line.is_empty() {}
                    return Ok(Some(Record::Referral));
                }
                "search" | "result" => check_trailer(&name, &value)?,
                _ => bail!("expected `dn:` at the start of a record, not `{name}:`"),
            }
        }
    }

    fn read_entry(&mut self, dn: Vec<u8>, wanted: &dyn Fn(&str) -> bool) -> Result<Entry> {
        let mut values = Vec::new();
        while self.read_line()? && !self.line.is_empty() {
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
        Ok(Entry { dn, values })
    }

    /// Splits the current line into attribute description and value.
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

    /// Reads the next logical line that is not a comment, unfolded; false at the end.
    fn read_line(&mut self) -> Result<bool> {
        loop {
            let Some(first) = self.read_physical_line()? else { return Ok(false) };
            self.line = first;
            self.line_number = self.lines_read;
            ensure!(
                self.line.first() != Some(&b' '),
                "the line starts with a space, but continues no other line"
            );
            while let Some(next) = self.read_physical_line()? {
                match next.split_first() {
                    Some((b' ', folded)) => self.line.extend_from_slice(folded),
                    _ => {
                        self.next_line = Some(next);
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

    /// Reads the next line of the file, without its LF or CRLF; `None` at the end.
    fn read_physical_line(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(line) = self.next_line.take() {
            return Ok(Some(line));
        }
        let mut line = Vec::new();
        let read = (&mut self.input).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => self.lines_read += 1,
            Err(error) if error.kind() == ErrorKind::InvalidData => bail!("not a text file"),
            Err(error) => bail!("failed to read: {}", io_error(&error)),
        }
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        if ended {
            line.pop_if(|byte| *byte == b'\r');
        }
        if !ended && line.len() > MAX_LINE {
            self.line_number = self.lines_read;
            bail!("longer than {MAX_LINE} bytes");
        }
        if self.lines_read == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(line))
    }
}

/// Checks the result of the search, with which `ldapsearch` ends its output. An error means that the
/// export was cut off.
fn check_trailer(name: &str, value: &[u8]) -> Result<()> {
    let text = one_line(value);
    let is_complete = name.eq_ignore_ascii_case("search") || text.starts_with("0 ") || text == "0";
    ensure!(is_complete, "the export is incomplete: its search ended with `{text}`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Record>> {
        let mut ldif = LdifReader::new(text);
        let mut records = Vec::new();
        while let Some(record) = ldif.next_record(&|name| name != "skipped")? {
            records.push(record);
        }
        Ok(records)
    }

    fn entry(dn: &str, values: &[(&str, &str)]) -> Record {
        let values = values.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec()));
        Record::Entry(Entry { dn: dn.as_bytes().to_vec(), values: values.collect() })
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
    fn the_output_of_ldapsearch_is_accepted() {
        let text = "# extended LDIF\n#\n\n# a\ndn: uid=a\n\n# search reference\n\
                    ref: ldap://other/dc=x??sub\n\n# search result\nsearch: 2\nresult: 0 Success\n\n\
                    # numEntries: 1\n";
        assert_eq!(read(text.as_bytes()).unwrap(), [entry("uid=a", &[]), Record::Referral]);
        let cut = text.replace("0 Success", "4 Size limit exceeded");
        assert!(error(&cut).starts_with("line 12: the export is incomplete"), "{}", error(&cut));
    }

    #[test]
    fn text_that_is_not_an_export_is_refused_with_its_line() {
        for (text, expected) in [
            ("dn: uid=a\njpegPhoto:< file:///etc/shadow\n", "line 2: `jpegPhoto:<`"),
            ("dn: uid=a\nchangetype: add\n", "line 2: `changetype:`"),
            ("# c\ndn: uid=a\ncontrol: 1.2 true\n", "line 3: `control:`"),
            ("uid: a\n", "line 1: expected `dn:`"),
            ("version: 2\n", "line 1: LDIF version 1"),
            ("dn: uid=a\nnonsense\n", "line 2: expected `attribute: value`"),
            ("dn: uid=a\n: x\n", "line 2: expected `attribute: value`"),
            (" dn: uid=a\n", "line 1: the line starts with a space"),
            ("dn: uid=a\ncn:: w7x*\n", "line 2: bad base64 in `cn`"),
            ("dn: uid=a\ncn: a\n b\ndn: uid=b\n", "line 4: a second `dn:`"),
        ] {
            assert!(error(text).starts_with(expected), "{text}: {}", error(text));
        }
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'a'));
        let error = LdifReader::new(endless).next_record(&|_| true).unwrap_err();
        assert!(error.to_string().starts_with("line 1: longer than"), "{error}");
    }
}
