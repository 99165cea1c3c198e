//! The [`Directory`] that reads an LDIF export. It reads the whole file before the first answer, and
//! keeps one owner for each UID in memory.

mod reader;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};

use crate::directory::dn::Dn;
use crate::directory::filter::Filter;
use crate::directory::owner::{Account, Attributes, Owner, is_attribute};
use crate::directory::{Answer, Deliver, Directory, LookupStats, UidReceiver};
use reader::{Entry, LdifReader, Record};

/// Which export to read, and which of its entries count.
#[derive(Debug)]
pub struct ExportOptions {
    /// The LDIF file.
    pub file: PathBuf,
    /// Only entries that are `base` or below it count.
    pub base: Option<String>,
    /// Only entries that match the filter count.
    pub filter: Option<Filter>,
}

/// The owners of an LDIF export.
pub struct Export {
    owners: HashMap<u32, Owner>,
    stats: LookupStats,
}

impl Export {
    /// Reads an export.
    ///
    /// # Errors
    /// Fails with a configuration error if the file cannot be read or is not an LDIF export, if it
    /// has no entry within the base, if no entry has the UID attribute or an attribute of the
    /// filter, or if the filter has an extensible match.
    pub fn open(options: &ExportOptions, attributes: &Attributes) -> Result<Self> {
        let name = one_line(options.file.as_os_str().as_encoded_bytes());
        let opened = File::open(&options.file).map_err(|error| {
            misconfigured(format_args!("failed to open `{name}`: {}", io_error(&error)))
        })?;
        let export = Self::read(LdifReader::new(BufReader::new(opened)), options, attributes);
        export.map_err(|error| misconfigured(format_args!("`{name}`: {error:#}")))
    }

    fn read<R: std::io::BufRead>(
        mut ldif: LdifReader<R>,
        options: &ExportOptions,
        attributes: &Attributes,
    ) -> Result<Self> {
        let (base, filter) = (options.base.as_deref(), options.filter.as_ref());
        if let Some(attribute) = filter.and_then(Filter::extensible) {
            bail!("only a server can answer the filter's extensible match on `{attribute}`");
        }
        let base_dn = base.map(|base| Dn::parse(base).context("the base DN is not a DN"));
        let base_dn = base_dn.transpose()?;
        let mut export = Self { owners: HashMap::new(), stats: LookupStats::default() };
        let mut has_entries = false;
        let mut unseen = filter.map(Filter::attributes).unwrap_or_default();
        unseen.push(&attributes.uid);
        let wanted = |name: &str| {
            attributes.contain(name)
                || is_attribute(name, "objectClass")
                || filter.is_some_and(|filter| filter.uses(name))
        };
        while let Some(record) = ldif.next_record(&wanted)? {
            let Record::Entry(entry) = record else {
                export.stats.referrals += 1;
                continue;
            };
            if base_dn.as_ref().is_some_and(|base| !Dn::lenient(&entry.dn).is_within(base)) {
                continue;
            }
            has_entries = true;
            let has = |attribute: &str| {
                entry.values.iter().any(|(name, _)| is_attribute(name, attribute))
            };
            unseen.retain(|attribute| !has(attribute));
            if is_referral(&entry) {
                export.stats.referrals += 1;
            } else if filter.is_none_or(|filter| filter.matches(&entry.values)) {
                export.add(&entry, attributes);
            }
        }
        match base {
            Some(base) => ensure!(has_entries, "no entry within the base DN `{base}`"),
            None => ensure!(has_entries, "the file has no entries"),
        }
        // Without a schema, an attribute that was not exported looks like one that no entry has.
        ensure!(unseen.is_empty(), "no entry shows the attribute `{}`", unseen.join("`, `"));
        Ok(export)
    }

    fn add(&mut self, entry: &Entry, attributes: &Attributes) {
        let mut account = Account::default();
        for (description, value) in &entry.values {
            account.add_value(attributes, description, value);
        }
        for &uid in &account.uids {
            self.owners.entry(uid).or_default().add_entry(&entry.dn, account.mail());
        }
    }

    fn take_owner(&mut self, uid: u32) -> Owner {
        self.owners.remove(&uid).unwrap_or_default()
    }
}

/// Whether a server would return the entry as a referral to another server.
fn is_referral(entry: &Entry) -> bool {
    let is = |value: &[u8]| value.eq_ignore_ascii_case(b"referral");
    entry.values.iter().any(|(name, value)| is_attribute(name, "objectClass") && is(value))
}

impl Directory for Export {
    fn answer(&mut self, mut uids: UidReceiver, deliver: Deliver<'_>) -> Result<()> {
        while let Some(uid) = uids.blocking_recv() {
            deliver(vec![Answer { uid, owner: self.take_owner(uid) }]);
        }
        Ok(())
    }

    fn stats(&self) -> LookupStats {
        self.stats.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "dn: uid=a,ou=people,dc=x\nuidNumber: 1\nmail: a@x\nemployeeType: guest\n\
        \ndn: uid=b,ou=people,dc=x\nuidNumber: 2\nmail: b@x\n\
        \ndn: ou=other,dc=x\nobjectClass: Referral\nuidNumber: 3\n";

    fn options(base: Option<&str>, filter: Option<&str>) -> ExportOptions {
        ExportOptions {
            file: PathBuf::new(),
            base: base.map(str::to_owned),
            filter: filter.map(|filter| Filter::parse(filter).unwrap()),
        }
    }

    fn export(base: Option<&str>, filter: Option<&str>) -> Result<Export> {
        let attributes = Attributes { uid: "uidNumber".to_owned(), mail: vec!["mail".to_owned()] };
        Export::read(LdifReader::new(USERS.as_bytes()), &options(base, filter), &attributes)
    }

    fn emails(mut export: Export) -> Vec<String> {
        let email = |uid| String::from_utf8(export.take_owner(uid).email().to_vec()).unwrap();
        [1, 2, 3].map(email).to_vec()
    }

    #[test]
    fn entries_are_found_by_uid_and_referrals_are_counted() {
        let export = export(None, None).unwrap();
        assert_eq!(export.stats(), LookupStats { referrals: 1, ..LookupStats::default() });
        assert_eq!(emails(export), ["a@x", "b@x", ""]);
    }

    #[test]
    fn base_and_filter_restrict_the_entries() {
        let users = export(Some("OU=People, dc=x"), Some("(!(employeeType=guest))")).unwrap();
        assert_eq!(emails(users), ["", "b@x", ""]);
        let error = export(Some("dc=y"), None).err().unwrap();
        assert!(error.to_string().contains("no entry within"), "{error}");
    }

    #[test]
    fn an_extensible_match_is_refused() {
        let error = export(None, Some("(cn:caseExactMatch:=a)")).err().unwrap();
        assert!(error.to_string().contains("extensible match on `cn`"), "{error}");
    }

    #[test]
    fn an_export_without_entries_or_needed_attributes_is_refused() {
        let error = export(None, Some("(!(department=x))")).err().unwrap();
        assert_eq!(error.to_string(), "no entry shows the attribute `department`");
        let attributes = Attributes { uid: "uidNumber".to_owned(), mail: vec!["mail".to_owned()] };
        for text in ["", "# nothing\n", "version: 1\n", "dn: uid=a\nmail: a@x\n"] {
            let read =
                Export::read(LdifReader::new(text.as_bytes()), &options(None, None), &attributes);
            assert!(read.is_err(), "{text}");
        }
    }
}
