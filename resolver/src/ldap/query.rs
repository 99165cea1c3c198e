//! Builds the searches of a run: the subtree, the filter for a batch of UIDs, and the attributes.

use crate::directory::owner::Attributes;

/// The searches of a run.
pub struct Query {
    /// DN of the subtree with the accounts.
    pub base: String,
    /// Filter that accounts must match, in parentheses.
    pub filter: Option<String>,
    /// Names of the attributes for UID and address.
    pub attributes: Attributes,
}

impl Query {
    /// The filter for all entries with one of these UIDs.
    pub fn with_uids(&self, uids: &[u32]) -> String {
        let name = &self.attributes.uid;
        let each = uids.iter().map(|uid| format!("({name}={uid})")).collect::<String>();
        self.restrict(if uids.len() == 1 { each } else { format!("(|{each})") })
    }

    /// The filter for all entries with a UID.
    pub fn with_any_uid(&self) -> String {
        self.restrict(self.has_uid())
    }

    /// The filter for all entries with a UID and an address.
    pub fn with_address(&self) -> String {
        let each = self.attributes.mail.iter().map(|mail| format!("({mail}=*)"));
        self.restrict(format!("(&{}(|{}))", self.has_uid(), each.collect::<String>()))
    }

    /// The names of the attributes to return.
    pub fn attribute_names(&self) -> Vec<&str> {
        let mail = self.attributes.mail.iter().map(|mail| &mail[..]);
        std::iter::once(&self.attributes.uid[..]).chain(mail).collect()
    }

    fn has_uid(&self) -> String {
        format!("({}=*)", self.attributes.uid)
    }

    /// Combines a filter with the one that accounts must match.
    fn restrict(&self, filter: String) -> String {
        match &self.filter {
            Some(own) => format!("(&{filter}{own})"),
            None => filter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(filter: Option<&str>) -> Query {
        let mail = ["mail", "title"].map(str::to_owned).to_vec();
        let attributes = Attributes { uid: "uidNumber".to_owned(), mail };
        Query { base: String::new(), filter: filter.map(str::to_owned), attributes }
    }

    #[test]
    fn filters_ask_for_uids_and_addresses() {
        let query = query(None);
        assert_eq!(query.with_uids(&[7]), "(uidNumber=7)");
        assert_eq!(query.with_uids(&[7, 8]), "(|(uidNumber=7)(uidNumber=8))");
        assert_eq!(query.with_any_uid(), "(uidNumber=*)");
        assert_eq!(query.with_address(), "(&(uidNumber=*)(|(mail=*)(title=*)))");
        assert_eq!(query.attribute_names(), ["uidNumber", "mail", "title"]);
    }

    #[test]
    fn filters_are_combined_with_the_one_for_accounts() {
        let query = query(Some("(a=b)"));
        assert_eq!(query.with_uids(&[7]), "(&(uidNumber=7)(a=b))");
        assert_eq!(query.with_any_uid(), "(&(uidNumber=*)(a=b))");
        assert_eq!(query.with_address(), "(&(&(uidNumber=*)(|(mail=*)(title=*)))(a=b))");
    }
}
