//! Who owns a UID, when a directory may know several entries, or several addresses, for it.
//!
//! The rule, the same for every source: entries with an address come before those without, then
//! the lowest normalised DN wins; among an entry's addresses the first attribute that has one
//! wins, and in it the bytewise smallest value.

use std::collections::BTreeSet;

use crate::directory::dn::Dn;

/// The attributes that tie a UID to an address.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Holds the UID.
    pub uid: String,
    /// Hold addresses; the earlier, the better.
    pub mail: Vec<String>,
}

impl Attributes {
    /// Whether an attribute is one of these.
    pub fn include(&self, description: &str) -> bool {
        names(description, &self.uid) || self.mail.iter().any(|mail| names(description, mail))
    }
}

/// Whether an attribute description names `attribute`, in any case and with any options
/// (`mail;lang-de`).
pub fn names(description: &str, attribute: &str) -> bool {
    let base = description.split(';').next().unwrap_or_default();
    base.eq_ignore_ascii_case(attribute)
}

/// What an entry says about UIDs and addresses, gathered value by value.
#[derive(Debug, Default)]
pub struct Claim {
    /// The UIDs that the entry carries.
    pub uids: BTreeSet<u32>,
    /// The best address so far, with the rank of its attribute.
    mail: Option<(usize, Vec<u8>)>,
}

impl Claim {
    /// Notes a value of the entry, if it is of use.
    pub fn note(&mut self, attributes: &Attributes, description: &str, value: &[u8]) {
        if names(description, &attributes.uid) {
            self.uids.extend(uid(value));
        }
        let rank = attributes.mail.iter().position(|mail| names(description, mail));
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

/// A `uidNumber`: decimal digits of at most 32 bits, spelt as we ask for it. Anything else owns
/// nothing: a server would not find `007` when asked for 7 either.
fn uid(value: &[u8]) -> Option<u32> {
    let uid: u32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (uid.to_string().as_bytes() == value).then_some(uid)
}

/// The answer for one UID: the best of the entries offered, in bounded memory. Many are held at a
/// time, most of them with a single entry.
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
    /// Ordered as the rule says: lower is better. Names that are the same in normal form, or
    /// nearly, are told apart too, so that the order of entries does not matter.
    fn rank(&self) -> (bool, Dn, &[u8], Option<&[u8]>) {
        (self.mail.is_none(), Dn::lenient(&self.dn), &self.dn, self.mail.as_deref())
    }
}

impl Owner {
    /// Offers an entry that carries the UID.
    pub fn offer(&mut self, dn: &[u8], mail: Option<&[u8]>) {
        self.entries += 1;
        let mut loser = Box::new(Candidate { dn: dn.into(), mail: mail.map(Into::into) });
        for place in [&mut self.best, &mut self.second] {
            match place {
                None => {
                    *place = Some(loser);
                    return;
                }
                Some(holder) if loser.rank() < holder.rank() => std::mem::swap(holder, &mut loser),
                Some(_) => {}
            }
        }
    }

    /// Whether any entry carries the UID.
    pub fn is_known(&self) -> bool {
        self.best.is_some()
    }

    /// The owner's address; empty when there is none.
    pub fn email(&self) -> &[u8] {
        self.best.as_ref().and_then(|best| best.mail.as_deref()).unwrap_or_default()
    }

    /// The entry that was chosen, the next in line, and how many there were, if several.
    pub fn rivals(&self) -> Option<(&[u8], &[u8], u64)> {
        match (&self.best, &self.second) {
            (Some(best), Some(second)) => Some((&best.dn, &second.dn, self.entries)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        let mail = ["mail", "rfc822Alias"].map(str::to_owned).to_vec();
        Attributes { uid: "uidNumber".to_owned(), mail }
    }

    fn claim(values: &[(&str, &str)]) -> Claim {
        let mut claim = Claim::default();
        for (description, value) in values {
            claim.note(&attributes(), description, value.as_bytes());
        }
        claim
    }

    #[test]
    fn the_first_attribute_with_a_value_wins_then_the_smallest_value() {
        let both = claim(&[("rfc822alias", "a@x"), ("MAIL", "c@x"), ("mail;lang-de", "b@x")]);
        assert_eq!(both.mail(), Some(&b"b@x"[..]));
        let second = claim(&[("mail", ""), ("rfc822Alias", "a@x")]);
        assert_eq!(second.mail(), Some(&b"a@x"[..]));
        assert_eq!(claim(&[("mailbox", "a@x")]).mail(), None);
        assert_eq!(claim(&[("mail", "b@x"), ("mail", "B@x")]).mail(), Some(&b"B@x"[..]));
    }

    #[test]
    fn only_numbers_of_32_bits_are_uids() {
        let uids = claim(&[
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
    fn entries_with_mail_win_then_the_lowest_name_whatever_the_order() {
        let entries: [(&str, Option<&str>); 3] =
            [("UID=c,o=x", Some("c@x")), ("uid=B,o=x", Some("b@x")), ("uid=a,o=x", None)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut owner = Owner::default();
            for at in order {
                let (dn, mail) = entries[at];
                owner.offer(dn.as_bytes(), mail.map(str::as_bytes));
            }
            assert_eq!(owner.email(), b"b@x");
            assert_eq!(owner.rivals(), Some((&b"uid=B,o=x"[..], &b"UID=c,o=x"[..], 3)));
        }
    }

    #[test]
    fn a_single_entry_has_no_rivals() {
        let mut owner = Owner::default();
        assert!(!owner.is_known());
        owner.offer(b"uid=a,o=x", None);
        assert!(owner.is_known() && owner.rivals().is_none() && owner.email().is_empty());
    }
}
