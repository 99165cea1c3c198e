//! Names of Kubernetes objects, checked before they become part of a path or a patch.

use std::fmt;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;

/// The kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `deployments.apps`
    Deployment,
    /// `statefulsets.apps`
    StatefulSet,
    /// `daemonsets.apps`
    DaemonSet,
}

impl Kind {
    /// The resource in paths and Roles.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        }
    }
}

/// A workload by its kind and name: `deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

impl Target {
    /// Parses `KIND/NAME`, also with kubectl's short forms of the kind.
    ///
    /// # Errors
    /// Fails if `text` has another form; an error of configuration.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, name) = text.split_once('/').unwrap_or((text, ""));
        let kind = match kind {
            "deployment" | "deploy" => Kind::Deployment,
            "statefulset" | "sts" => Kind::StatefulSet,
            "daemonset" | "ds" => Kind::DaemonSet,
            _ => {
                return Err(misconfigured(format_args!(
                    "`{}` is not deployment/NAME, statefulset/NAME or daemonset/NAME",
                    one_line(text.as_bytes())
                )));
            }
        };
        if !is_subdomain(name) {
            return Err(invalid("a workload", name));
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.name)
    }
}

/// Returns the name if a namespace can have it.
///
/// # Errors
/// Fails if it cannot; an error of configuration.
pub fn check_namespace(name: &str) -> Result<String> {
    if is_label(name) { Ok(name.to_owned()) } else { Err(invalid("a namespace", name)) }
}

/// Returns the key if an annotation can have it: a name with an optional DNS prefix.
///
/// # Errors
/// Fails if it cannot; an error of configuration.
pub fn check_annotation(key: &str) -> Result<String> {
    let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= 63
        && bytes.iter().copied().all(is_inner)
        && is_outer(bytes.first())
        && is_outer(bytes.last());
    if is_name && is_subdomain(prefix) {
        Ok(key.to_owned())
    } else {
        Err(invalid("an annotation", key))
    }
}

fn invalid(what: &str, name: &str) -> anyhow::Error {
    misconfigured(format_args!("`{}` cannot be the name of {what}", one_line(name.as_bytes())))
}

/// An RFC 1123 label, which a namespace must be.
fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_part(name)
}

/// An RFC 1123 subdomain, which the name of a workload must be.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

fn is_part(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.bytes().all(is_inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_have_kubectls_names() {
        let long = "a".repeat(253);
        for (text, shown) in [
            ("deployment/web", "deployment/web"),
            ("deploy/web.v2", "deployment/web.v2"),
            ("sts/db-0", "statefulset/db-0"),
            ("ds/0", "daemonset/0"),
            (&format!("daemonset/{long}"), &format!("daemonset/{long}")),
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn names_that_would_change_the_path_are_refused() {
        let long = format!("deployment/{}", "a".repeat(254));
        for text in [
            "",
            "web",
            "deployment",
            "deployment/",
            "pod/web",
            "deployment/Web",
            "deployment/web/scale",
            "deployment/../web",
            "deployment/a..b",
            "deployment/-a",
            "deployment/a-",
            "deployment/a b",
            "deployment/a\nb",
            "deployment/a%2fb",
            "deployment/a?b",
            &long,
        ] {
            let error = Target::parse(text).expect_err(text);
            assert_eq!(diagnostics::exit::code_of(&error), 2);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn namespaces_and_annotations_are_checked() {
        assert!(check_namespace("prod-1").is_ok());
        for name in ["", "a.b", "a/b", "A", &"a".repeat(64)] {
            assert!(check_namespace(name).is_err(), "{name}");
        }
        for key in [super::super::ANNOTATION, "digest", "example.com/Content_digest.v1"] {
            assert!(check_annotation(key).is_ok(), "{key}");
        }
        for key in ["", "/a", "a/", "a/b/c", "Example/a", "a b", "-a", "x/a-", &"a".repeat(64)] {
            assert!(check_annotation(key).is_err(), "{key}");
        }
    }
}
