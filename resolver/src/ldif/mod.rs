//! Owners from an LDIF export.

mod reader;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};

use crate::directory::dn::Dn;
use crate::directory::filter::Filter;
use crate::directory::owner::{Attributes, Claim, Owner, names};
use crate::directory::{Directory, Questions, Remarks};
use reader::{Ldif, Record};

/// An LDIF export, held in memory as one answer for each UID in it.
pub struct Export {
    owners: HashMap<u32, Owner>,
    remarks: Remarks,
}

impl Export {
    /// Reads `file`, with the entries within `base`, if given, that match `filter`.
    ///
    /// # Errors
    /// The file cannot be read or is not an LDIF export, has nothing within `base`, or `filter`
    /// needs a server. All of them are errors of configuration.
    pub fn open(
        file: &Path,
        attributes: &Attributes,
        base: Option<&str>,
        filter: Option<&Filter>,
    ) -> Result<Self> {
        let name = one_line(file.as_os_str().as_encoded_bytes());
        let opened = File::open(file).map_err(|error| {
            misconfigured(format_args!("failed to open `{name}`: {}", io_error(&error)))
        })?;
        let export = Self::read(Ldif::new(BufReader::new(opened)), attributes, base, filter);
        export.map_err(|error| misconfigured(format_args!("`{name}`: {error:#}")))
    }

    fn read<R: std::io::BufRead>(
        mut ldif: Ldif<R>,
        attributes: &Attributes,
        base: Option<&str>,
        filter: Option<&Filter>,
    ) -> Result<Self> {
        if let Some(attribute) = filter.and_then(Filter::extensible) {
            bail!("only a server can answer the filter's extensible match on `{attribute}`");
        }
        let base_name = base.map(|base| Dn::parse(base).context("the base DN is not a DN"));
        let base_name = base_name.transpose()?;
        let mut export = Self { owners: HashMap::new(), remarks: Remarks::default() };
        let mut within_base = false;
        let mut unseen = filter.map(Filter::attributes).unwrap_or_default();
        unseen.push(&attributes.uid);
        let wanted = |name: &str| {
            attributes.include(name)
                || names(name, "objectClass")
                || filter.is_some_and(|filter| filter.asks_for(name))
        };
        while let Some(record) = ldif.next_record(&wanted)? {
            let Record::Entry(dn, values) = record else {
                export.remarks.referrals += 1;
                continue;
            };
            if base_name.as_ref().is_some_and(|base| !Dn::lenient(&dn).is_within(base)) {
                continue;
            }
            within_base = true;
            unseen.retain(|attribute| !values.iter().any(|(name, _)| names(name, attribute)));
            if is_referral(&values) {
                export.remarks.referrals += 1;
            } else if filter.is_none_or(|filter| filter.matches(&values)) {
                export.add(&dn, &values, attributes);
            }
        }
        match base {
            Some(base) => ensure!(within_base, "no entry within the base DN `{base}`"),
            None => ensure!(within_base, "there are no entries in it"),
        }
        // A server knows from its schema whether nobody has an attribute or it was not exported.
        ensure!(unseen.is_empty(), "no entry shows the attribute `{}`", unseen.join("`, `"));
        Ok(export)
    }

    fn add(&mut self, dn: &[u8], values: &[(String, Vec<u8>)], attributes: &Attributes) {
        let mut claim = Claim::default();
        for (description, value) in values {
            claim.note(attributes, description, value);
        }
        for &uid in &claim.uids {
            self.owners.entry(uid).or_default().offer(dn, claim.mail());
        }
    }
}

/// Whether a server would return the entry as a pointer to another server.
fn is_referral(values: &[(String, Vec<u8>)]) -> bool {
    let is = |value: &[u8]| value.eq_ignore_ascii_case(b"referral");
    values.iter().any(|(name, value)| names(name, "objectClass") && is(value))
}

impl Export {
    fn owner(&mut self, uid: u32) -> Owner {
        self.owners.remove(&uid).unwrap_or_default()
    }
}

impl Directory for Export {
    fn answer(
        &mut self,
        mut questions: Questions,
        give: &(dyn Fn(Vec<(u32, Owner)>) + Sync),
    ) -> Result<()> {
        while let Some(uid) = questions.blocking_recv() {
            give(vec![(uid, self.owner(uid))]);
        }
        Ok(())
    }

    fn remarks(&self) -> Remarks {
        self.remarks.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "dn: uid=a,ou=people,dc=x\nuidNumber: 1\nmail: a@x\nemployeeType: guest\n\
        \ndn: uid=b,ou=people,dc=x\nuidNumber: 2\nmail: b@x\n\
        \ndn: ou=other,dc=x\nobjectClass: Referral\nuidNumber: 3\n";

    fn export(base: Option<&str>, filter: Option<&str>) -> Result<Export> {
        let attributes = Attributes { uid: "uidNumber".to_owned(), mail: vec!["mail".to_owned()] };
        let filter = filter.map(|filter| Filter::parse(filter).unwrap());
        Export::read(Ldif::new(USERS.as_bytes()), &attributes, base, filter.as_ref())
    }

    fn emails(mut export: Export) -> Vec<String> {
        let email = |uid| String::from_utf8(export.owner(uid).email().to_vec()).unwrap();
        [1, 2, 3].map(email).to_vec()
    }

    #[test]
    fn entries_are_found_by_uid_and_referrals_are_counted() {
        let export = export(None, None).unwrap();
        assert_eq!(export.remarks(), Remarks { referrals: 1, ..Remarks::default() });
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
    fn what_only_a_server_can_answer_is_refused() {
        let error = export(None, Some("(cn:caseExactMatch:=a)")).err().unwrap();
        assert!(error.to_string().contains("extensible match on `cn`"), "{error}");
    }

    #[test]
    fn an_export_that_cannot_answer_is_refused() {
        let error = export(None, Some("(!(department=x))")).err().unwrap();
        assert_eq!(error.to_string(), "no entry shows the attribute `department`");
        let attributes = Attributes { uid: "uidNumber".to_owned(), mail: vec!["mail".to_owned()] };
        for text in ["", "# nothing\n", "version: 1\n", "dn: uid=a\nmail: a@x\n"] {
            let read = Export::read(Ldif::new(text.as_bytes()), &attributes, None, None);
            assert!(read.is_err(), "{text}");
        }
    }
}
