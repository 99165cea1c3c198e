//! The request headers `Prefer` and `If-None-Match`, as OPA sends them.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, IF_NONE_MATCH};

/// The longest wait for a change.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// How long the client would wait for a change (`wait=10`, RFC 7240); `None` if it would not.
///
/// OPA separates preferences by semicolons: `modes=snapshot,delta;wait=10`.
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let texts = headers.get_all(HeaderName::from_static("prefer"));
    let mut preferences = texts.iter().filter_map(text).flat_map(|text| text.split([',', ';']));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.trim().split_once('=')?;
        let is_wait = name.trim_end().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').parse().ok()).flatten()
    })?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Whether the client has the content with this entity tag (RFC 9110, section 13.1.2).
pub fn has(headers: &HeaderMap, etag: &str) -> bool {
    let texts = headers.get_all(IF_NONE_MATCH);
    let mut tags = texts.iter().filter_map(text).flat_map(|text| text.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (HeaderName::from_static(name), value)).collect()
    }

    #[test]
    fn a_wait_is_found_among_other_preferences() {
        for (values, seconds) in [
            (&[][..], None),
            (&["modes=snapshot,delta"], None),
            (&["modes=snapshot,delta;wait=10"], Some(10)),
            (&["modes=snapshot;wait=10"], Some(10)),
            (&["respond-async", "Wait = \"7\""], Some(7)),
            (&["wait=100000"], Some(300)),
            (&["wait=-1"], None),
            (&["wait=soon, nowait=3"], None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(wait(&headers("prefer", values)), expected, "{values:?}");
        }
    }

    #[test]
    fn one_matching_tag_of_a_list_suffices() {
        for (values, expected) in [
            (&[][..], false),
            (&["\"a\""], true),
            (&["\"b\", W/\"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["a"], false),
            (&["\"ab\", \"\""], false),
        ] {
            assert_eq!(has(&headers("if-none-match", values), "\"a\""), expected, "{values:?}");
        }
    }
}
