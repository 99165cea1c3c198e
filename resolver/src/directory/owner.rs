//! Chooses one e-mail address for a UID, when several entries have the UID or one entry has several
//! addresses.
//!
//! The rule is the same for every source and does not depend on the order of entries or values:
//!
//! 1. An entry with an address wins over one without.
//! 2. Among these, the lowest normalised DN wins.
//! 3. Within an entry, the first mail attribute that has a value wins, and among its values the
//!    bytewise smallest.

use std::collections::BTreeSet;

use super::dn::Dn;

/// Names of the attributes that are read from an entry.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// The attribute with the UID.
    pub uid: String,
    /// The attributes with addresses, in order of preference.
    pub mail: Vec<String>,
}

impl Attributes {
    /// Whether an attribute description (`mail;lang-de`) names one of these attributes.
    pub fn contain(&self, description: &str) -> bool {
        is_attribute(description, &self.uid)
            || self.mail.iter().any(|mail| is_attribute(description, mail))
    }
}

/// Whether an attribute description names `attribute`. Case and options (`mail;lang-de`) are
/// ignored.
pub fn is_attribute(description: &str, attribute: &str) -> bool {
    let base = description.split(';').next().unwrap_or_default();
    base.eq_ignore_ascii_case(attribute)
}

/// The UIDs and the address of one entry, collected value by value.
#[derive(Debug, Default)]
pub struct Account {
    /// All UIDs of the entry.
    pub uids: BTreeSet<u32>,
    /// The best address so far, with the rank of its attribute.
    mail: Option<(usize, Vec<u8>)>,
}

impl Account {
    /// Adds a value of the entry; values of other attributes are ignored.
    pub fn add_value(&mut self, attributes: &Attributes, description: &str, value: &[u8]) {
        if is_attribute(description, &attributes.uid) {
            self.uids.extend(parse_uid(value));
        }
        let rank = attributes.mail.iter().position(|mail| is_attribute(description, mail));
        if let Some(rank) = rank.filter(|_| !value.is_empty()) {
            let better = |(best, mail): &(usize, Vec<u8>)| (rank, value) < (*best, mail);
            if self.mail.as_ref().is_none_or(better) {
                self.mail = Some((rank, value.to_vec()));
            }
        }
    }

    /// The entry's address, if it has one.
    pub fn mail(&self) -> Option<&[u8]> {
        self.mail.as_ref().map(|(_, mail)| &mail[..])
    }
}

/// Parses a `uidNumber` of at most 32 bits in its shortest decimal form. Other spellings are no
/// UID, since a server does not find `007` by a search for 7 either.
fn parse_uid(value: &[u8]) -> Option<u32> {
    let uid: u32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (uid.to_string().as_bytes() == value).then_some(uid)
}

/// The owner of one UID: the best and the second best of all entries that were added. Memory is
/// bounded whatever the number of entries; boxes keep the usual case, a single entry, small.
#[derive(Debug, Default)]
pub struct Owner {
    best: Option<Box<Candidate>>,
    second: Option<Box<Candidate>>,
    entries: u64,
}

#[derive(Debug)]
struct Candidate {
    dn: Box<[u8]>,
    mail: Option<Box<[u8]>>,
}

impl Candidate {
    fn rank(&self) -> Rank<'_> {
        Rank {
            lacks_mail: self.mail.is_none(),
            normal_dn: Dn::lenient(&self.dn),
            dn: &self.dn,
            mail: self.mail.as_deref(),
        }
    }
}

/// The sort key of the rule, compared field by field: the lowest wins. Entries with the same normalised
/// DN are ordered by their bytes, so that the order in which they were added does not matter.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'c> {
    lacks_mail: bool,
    normal_dn: Dn,
    dn: &'c [u8],
    mail: Option<&'c [u8]>,
}

impl Owner {
    /// Adds an entry that has the UID.
    pub fn add_entry(&mut self, dn: &[u8], mail: Option<&[u8]>) {
        self.entries += 1;
        let mut loser = Box::new(Candidate { dn: dn.into(), mail: mail.map(Into::into) });
        for slot in [&mut self.best, &mut self.second] {
            match slot {
                None => {
                    *slot = Some(loser);
                    return;
                }
                Some(holder) if loser.rank() < holder.rank() => std::mem::swap(holder, &mut loser),
                Some(_) => {}
            }
        }
    }

    /// Whether any entry has the UID.
    pub fn has_entry(&self) -> bool {
        self.best.is_some()
    }

    /// The owner's address; empty if there is no entry, or none with an address.
    pub fn email(&self) -> &[u8] {
        self.best.as_ref().and_then(|best| best.mail.as_deref()).unwrap_or_default()
    }

    /// The choice that was made, if several entries have the UID.
    pub fn choice(&self) -> Option<Choice<'_>> {
        match (&self.best, &self.second) {
            (Some(best), Some(second)) => {
                Some(Choice { chosen: &best.dn, runner_up: &second.dn, entries: self.entries })
            }
            _ => None,
        }
    }
}

/// A choice among several entries with the same UID.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice<'o> {
    /// The DN of the entry that was chosen.
    pub chosen: &'o [u8],
    /// The DN of the second best entry.
    pub runner_up: &'o [u8],
    /// How many entries have the UID.
    pub entries: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        let mail = ["mail", "rfc822Alias"].map(str::to_owned).to_vec();
        Attributes { uid: "uidNumber".to_owned(), mail }
    }

    fn account(values: &[(&str, &str)]) -> Account {
        let mut account = Account::default();
        for (description, value) in values {
            account.add_value(&attributes(), description, value.as_bytes());
        }
        account
    }

    #[test]
    fn the_first_attribute_with_a_value_wins_then_the_smallest_value() {
        let both = account(&[("rfc822alias", "a@x"), ("MAIL", "c@x"), ("mail;lang-de", "b@x")]);
        assert_eq!(both.mail(), Some(&b"b@x"[..]));
        let second = account(&[("mail", ""), ("rfc822Alias", "a@x")]);
        assert_eq!(second.mail(), Some(&b"a@x"[..]));
        assert_eq!(account(&[("mailbox", "a@x")]).mail(), None);
        assert_eq!(account(&[("mail", "b@x"), ("mail", "B@x")]).mail(), Some(&b"B@x"[..]));
    }

    #[test]
    fn only_plain_numbers_of_32_bits_are_uids() {
        let uids = account(&[
            ("uidnumber", "30001"),
            ("uidNumber", "4294967296"),
            ("uidNumber", "-1"),
            ("uidNumber", "+1"),
            ("uidNumber", "x"),
            ("uidNumber", "007"),
            ("uidNumber", "30001"),
        ])
        .uids;
        assert_eq!(uids, BTreeSet::from([30001]));
    }

    #[test]
    fn entries_with_an_address_win_then_the_lowest_dn_in_any_order() {
        let entries: [(&str, Option<&str>); 3] =
            [("UID=c,o=x", Some("c@x")), ("uid=B,o=x", Some("b@x")), ("uid=a,o=x", None)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut owner = Owner::default();
            for at in order {
                let (dn, mail) = entries[at];
                owner.add_entry(dn.as_bytes(), mail.map(str::as_bytes));
            }
            assert_eq!(owner.email(), b"b@x");
            let expected = Choice { chosen: b"uid=B,o=x", runner_up: b"UID=c,o=x", entries: 3 };
            assert_eq!(owner.choice(), Some(expected));
        }
    }

    #[test]
    fn a_single_entry_is_no_choice() {
        let mut owner = Owner::default();
        assert!(!owner.has_entry());
        owner.add_entry(b"uid=a,o=x", None);
        assert!(owner.has_entry() && owner.choice().is_none() && owner.email().is_empty());
    }
}
