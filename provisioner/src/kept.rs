//! The versions that a volume can go back to, and which of them a person means.

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

use crate::archive::{Archive, Archives};
use crate::superseded::all as superseded;
use crate::tree::Hash;
use crate::tree::manifest::hex;
use crate::volume::Volume;

/// Fewest digits of a digest that name a version.
const MIN_DIGITS: usize = 4;

/// A version that can become live again.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The version.
    pub digest: Hash,
    /// Where its tree still is: during the time that readers are given.
    pub name: Option<String>,
    /// Where it is packed.
    pub archive: Option<Archive>,
}

/// All versions that are kept, the last one that was live first.
///
/// # Errors
/// They cannot be listed.
pub fn kept(volume: &Volume) -> Result<Vec<Kept>> {
    let mut found: Vec<Kept> = Vec::new();
    // Nothing that is packed already was live after what is not.
    for name in superseded(volume)?.into_iter().rev() {
        let Ok(published) = volume.published(&name) else { continue };
        if found.iter().all(|kept| kept.digest != published.digest) {
            found.push(Kept { digest: published.digest, name: Some(name), archive: None });
        }
    }
    let archives = Archives::find(volume)?;
    for archive in archives.map(|archives| archives.list()).transpose()?.unwrap_or_default() {
        match found.iter_mut().find(|kept| kept.digest == archive.digest) {
            Some(kept) => kept.archive = Some(archive),
            None => found.push(Kept { digest: archive.digest, name: None, archive: Some(archive) }),
        }
    }
    Ok(found)
}

/// The digest that a person means by its first digits, or by nothing the one before the live one.
///
/// # Errors
/// There is none, or more than one: as errors of configuration that list what is kept.
pub fn choose(wanted: Option<&str>, live: Option<Hash>, kept: &[Kept]) -> Result<Hash> {
    let earlier = || kept.iter().map(|kept| kept.digest).filter(|digest| Some(*digest) != live);
    let Some(wanted) = wanted else {
        return earlier().next().ok_or_else(|| misconfigured("no earlier version is kept"));
    };
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
    let shown = one_line(wanted.as_bytes());
    if digits.len() < MIN_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(misconfigured(format_args!(
            "`{shown}` is not the beginning of a digest, of at least {MIN_DIGITS} digits"
        )));
    }
    let found: Vec<Hash> = earlier().chain(live).filter(|d| hex(d).starts_with(&digits)).collect();
    if let [digest] = found[..] {
        return Ok(digest);
    }
    let list = |digests: &mut dyn Iterator<Item = Hash>| {
        let spelt: Vec<String> = digests.map(|digest| hex(&digest)).collect();
        if spelt.is_empty() { "none".to_owned() } else { spelt.join(", ") }
    };
    Err(misconfigured(if found.is_empty() {
        format!("no version `{shown}` is kept; those are: {}", list(&mut earlier()))
    } else {
        format!("`{shown}` is more than one version: {}", list(&mut found.into_iter()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(first: u8, last: u8) -> Kept {
        let mut digest = [0xab; 32];
        (digest[0], digest[31]) = (first, last);
        Kept { digest, name: None, archive: None }
    }

    #[test]
    fn a_version_is_named_by_enough_of_its_digest() {
        let kept = [version(1, 1), version(2, 2), version(2, 3), version(4, 4)];
        let live = Some(kept[3].digest);
        let chosen = |wanted| choose(wanted, live, &kept).map_err(|error| error.to_string());
        assert_eq!(chosen(None), Ok(kept[0].digest));
        assert_eq!(chosen(Some("01ab")), Ok(kept[0].digest));
        assert_eq!(chosen(Some("sha256:01AB")), Ok(kept[0].digest));
        assert_eq!(chosen(Some("04ab")), Ok(kept[3].digest));
        let whole = hex(&kept[2].digest);
        assert_eq!(choose(Some(&whole), live, &kept).unwrap(), kept[2].digest);
        assert!(chosen(Some("02ab")).unwrap_err().contains("more than one"));
        assert!(chosen(Some("01a")).unwrap_err().contains("at least 4"));
        assert!(chosen(Some("01ag")).unwrap_err().contains("not the beginning"));
        let unknown = chosen(Some("0bad")).unwrap_err();
        assert!(unknown.contains(&hex(&kept[0].digest)), "{unknown}");
        assert!(!unknown.contains(&hex(&kept[3].digest)), "{unknown}");
        assert!(choose(None, live, &kept[3..]).is_err());
    }
}
