//! Owns the ways in which a signature is written: alone, behind a prefix, or in a list with a time and other parts.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The most items of a list that are read.
const MAX_ITEMS: usize = 32;
/// The longest value that is read, in bytes.
const MAX_BYTES: usize = 8_192;

/// A pattern of one item: a text with placeholders, such as `v1={signature}`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String")]
pub struct Pattern {
    before: String,
    /// The name of each placeholder, and the text behind it.
    parts: Vec<(String, String)>,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut pieces = text.split('{');
        let before = pieces.next().unwrap_or_default().to_owned();
        let mut parts = Vec::new();
        for piece in pieces {
            let (name, behind) = piece.split_once('}').ok_or("a brace stands alone")?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err("a placeholder is a name in braces, such as {signature} or {timestamp}".to_owned());
            }
            if parts.last().is_some_and(|(_, behind): &(String, String)| behind.is_empty()) {
                return Err("two placeholders need a text between them".to_owned());
            }
            parts.push((name.to_owned(), behind.to_owned()));
        }
        if parts.is_empty() {
            return Err("a pattern has a placeholder, such as {signature}".to_owned());
        }
        Ok(Self { before, parts })
    }
}

impl Pattern {
    /// Returns the parts of an item that has this form.
    fn read<'v>(&self, item: &'v str) -> Option<Vec<(&str, &'v str)>> {
        let mut rest = item.strip_prefix(&self.before)?;
        let mut found = Vec::new();
        for (place, (name, behind)) in self.parts.iter().enumerate() {
            let last = place + 1 == self.parts.len();
            let value;
            (value, rest) = match (last, behind.is_empty()) {
                (true, true) => (rest, ""),
                (true, false) => (rest.strip_suffix(behind.as_str())?, ""),
                (false, _) => rest.split_once(behind.as_str())?,
            };
            if value.is_empty() {
                return None;
            }
            found.push((name.as_str(), value));
        }
        rest.is_empty().then_some(found)
    }
}

/// The way in which signatures are written.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The text between the items of a list; without it, there is one item.
    #[serde(default)]
    pub separator: Option<String>,
    /// The pattern of the first item, where items go by their position.
    #[serde(default)]
    pub first: Option<Pattern>,
    /// The patterns of the items. An item that fits none is ignored.
    pub items: Vec<Pattern>,
}

impl Default for Written {
    fn default() -> Self {
        let parts = vec![("signature".to_owned(), String::new())];
        Self { separator: None, first: None, items: vec![Pattern { before: String::new(), parts }] }
    }
}

/// A signature, as its text, with the id of its key where that stands beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Given {
    pub signature: String,
    pub key_id: Option<String>,
}

impl Written {
    /// Reads a value: adds its signatures to `given` and its other parts to `parts`.
    ///
    /// Returns `None` when the value is too long, or names a part twice with different values.
    pub(super) fn read(&self, value: &str, given: &mut Vec<Given>, parts: &mut BTreeMap<String, String>) -> Option<()> {
        if value.len() > MAX_BYTES {
            return None;
        }
        let items: Vec<&str> = match self.separator.as_deref().filter(|separator| !separator.is_empty()) {
            None => vec![value],
            Some(separator) => value.split(separator).map(str::trim).collect(),
        };
        if items.len() > MAX_ITEMS {
            return None;
        }
        for (place, item) in items.into_iter().enumerate() {
            let found = match (&self.first, place) {
                (Some(first), 0) => Some(first.read(item)?),
                _ => self.items.iter().find_map(|pattern| pattern.read(item)),
            };
            let (mut signature, mut key_id) = (None, None);
            for (name, value) in found.into_iter().flatten() {
                match name {
                    "signature" => signature = Some(value.to_owned()),
                    "kid" => key_id = Some(value.to_owned()),
                    _ if parts.get(name).is_some_and(|known| known != value) => return None,
                    _ => _ = parts.insert(name.to_owned(), value.to_owned()),
                }
            }
            given.extend(signature.map(|signature| Given { signature, key_id }));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(
        separator: Option<&str>,
        first: Option<&str>,
        items: &[&str],
        value: &str,
    ) -> Option<(Vec<String>, String)> {
        let pattern = |text: &str| Pattern::try_from(text.to_owned()).unwrap();
        let written = Written {
            separator: separator.map(str::to_owned),
            first: first.map(pattern),
            items: items.iter().map(|item| pattern(item)).collect(),
        };
        let (mut given, mut parts) = (Vec::new(), BTreeMap::new());
        written.read(value, &mut given, &mut parts)?;
        let signatures = given.into_iter().map(|one| format!("{}{}", one.key_id.unwrap_or_default(), one.signature));
        Some((signatures.collect(), parts.remove("timestamp").unwrap_or_default()))
    }

    #[test]
    fn each_way_of_writing_is_read() {
        let list = ["t={timestamp}", "v1={signature}"];
        for (separator, first, items, value, signatures, time) in [
            (None, None, &["{signature}"][..], "ab=", &["ab="][..], ""),
            (None, None, &["sha256={signature}"], "sha256=ab", &["ab"], ""),
            (None, None, &["sha256={signature}"], "sha1=ab", &[], ""),
            (Some(","), None, &list, "t=7,v1=a,v1=b,v0=c", &["a", "b"], "7"),
            (Some(","), None, &list, "t=7, v1=a", &["a"], "7"),
            (Some(","), Some("{timestamp}"), &["{signature}"], "7,a,b", &["a", "b"], "7"),
            (Some(" "), None, &["v1,{signature}"], "v1,a= v1a,c v1,b", &["a=", "b"], ""),
            (Some(","), None, &["{kid}/SHA256/{signature}"], "1/SHA256/a,2/SHA256/b/c", &["1a", "2b/c"], ""),
            (Some(","), None, &["t={timestamp}", "te={signature}"], "t=7,te=,li=a", &[], "7"),
        ] {
            let signatures = signatures.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(read(separator, first, items, value), Some((signatures, time.to_owned())), "{value}");
        }
    }

    #[test]
    fn a_time_that_is_there_twice_is_none() {
        let items = ["t={timestamp}", "v1={signature}"];
        assert_eq!(read(Some(","), None, &items, "t=7,t=8,v1=a"), None);
        assert_eq!(read(Some(","), None, &items, &"v1=a,".repeat(40)), None);
        assert_eq!(read(None, None, &["{signature}"], &"a".repeat(9_000)), None);
    }

    #[test]
    fn a_pattern_that_cannot_be_is_refused() {
        for bad in ["", "v1=", "{a}{b}", "{", "{a b}", "{}"] {
            assert!(Pattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
