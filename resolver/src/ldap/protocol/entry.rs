//! Parses search result entries.
//!
//! ldap3 has a parser too, but that panics on malformed entries, and sorts values into text and binary,
//! which is not needed here.

use ldap3::ResultEntry;
use ldap3::asn1::StructureTag;

use crate::directory::owner::{Account, Attributes};

/// Longest DN and longest value, in bytes. The limit bounds memory, since owners are kept; OpenLDAP
/// has the same limit for DNs.
const MAX_LENGTH: usize = 8192;

/// One item of a search result.
pub enum Item {
    /// An entry.
    Entry {
        /// Its DN.
        dn: Vec<u8>,
        /// Its UIDs and address.
        account: Account,
    },
    /// A referral to another server.
    Referral,
    /// An entry with an attribute of this name, which was not asked for. If it was asked for by an
    /// alias or OID, the server answers with the attribute's own name.
    OtherAttribute(String),
    /// An intermediate response, which has no meaning here.
    Ignored,
    /// An entry that cannot be used; the text describes it.
    Invalid(&'static str),
}

const TOO_LONG: Item = Item::Invalid("an entry with a name or value that is too long");

/// Parses an item of a search result.
pub fn parse(item: ResultEntry, attributes: &Attributes) -> Item {
    if item.is_ref() {
        Item::Referral
    } else if item.is_intermediate() {
        Item::Ignored
    } else {
        parse_entry(item.0, attributes).unwrap_or(Item::Invalid("a malformed entry"))
    }
}

/// `SearchResultEntry ::= SEQUENCE { objectName, SEQUENCE OF SEQUENCE { type, SET OF value } }`
fn parse_entry(tag: StructureTag, attributes: &Attributes) -> Option<Item> {
    let mut parts = tag.expect_constructed()?.into_iter();
    let dn = parts.next()?.expect_primitive()?;
    if dn.len() > MAX_LENGTH {
        return Some(TOO_LONG);
    }
    let mut account = Account::default();
    for attribute in parts.next()?.expect_constructed()? {
        let mut parts = attribute.expect_constructed()?.into_iter();
        let description = parts.next()?.expect_primitive()?;
        let description = String::from_utf8_lossy(&description).into_owned();
        if !attributes.contain(&description) {
            return Some(Item::OtherAttribute(description));
        }
        for value in parts.next()?.expect_constructed()? {
            let value = value.expect_primitive()?;
            if value.len() > MAX_LENGTH {
                return Some(TOO_LONG);
            }
            account.add_value(attributes, &description, &value);
        }
    }
    Some(Item::Entry { dn, account })
}
