//! What DirectScale sends: flat objects, read member by member, because an absent member says nothing and `null` says
//! empty. Numbers are taken by their own text, so that no amount is ever a float.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use crate::{entity::ExternalId, stamp::parse_utc};

/// Reads JSON. What is none is read again without the commas before `}` and `]` that the documentation's examples have,
/// and without a byte order mark.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    serde_json::from_slice(&without_trailing_commas(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))).ok()
}

fn without_trailing_commas(body: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(body.len());
    let (mut in_string, mut escaped) = (false, false);
    for (place, &byte) in body.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' {
            in_string = true;
        } else if byte == b',' {
            let next = body.iter().skip(place + 1).find(|byte| !byte.is_ascii_whitespace());
            if matches!(next, Some(b'}' | b']')) {
                continue;
            }
        }
        kept.push(byte);
    }
    kept
}

/// The members of an object.
pub struct Members(BTreeMap<String, Box<RawValue>>);

/// A member that is not what it should be.
#[derive(Debug)]
pub struct Unfit;

impl Members {
    /// Reads an object; none when the body is something else.
    pub fn of(body: &[u8]) -> Option<Self> {
        read(body).map(Self)
    }

    /// A member by its name. Events have names in PascalCase; how the API writes them is not documented.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).or_else(|| self.0.get(&camel(name))).map(|raw| &**raw)
    }

    /// All members but the named ones.
    pub fn others(&self, named: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().filter(move |(name, _)| !named(name)).map(|(name, raw)| (name.as_str(), &**raw))
    }
}

/// Whether `given` is `name` in PascalCase or camelCase.
pub fn is_named(given: &str, name: &str) -> bool {
    given == name || given == camel(name)
}

fn camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

/// A scalar as text, numbers as they are written; nothing for `null` and `""`.
pub fn text(raw: &RawValue) -> Result<Option<String>, Unfit> {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text: String = serde_json::from_str(raw).map_err(|_| Unfit)?;
            Ok((!text.is_empty()).then_some(text))
        }
        Some(b'{' | b'[') | None => Err(Unfit),
        Some(_) => Ok(Some(raw.to_owned())),
    }
}

/// An id; nothing for 0, which means none.
pub fn id(raw: &RawValue) -> Result<Option<ExternalId>, Unfit> {
    match text(raw)? {
        Some(text) if text != "0" => {
            // A number that does not count is no id.
            let counts = raw.get().starts_with('"') || text.parse::<u64>().is_ok();
            counts.then(|| text.parse()).ok_or(Unfit)?.map(Some).map_err(|_| Unfit)
        }
        _ => Ok(None),
    }
}

/// A time, in UTC, with or without saying so.
pub fn time(raw: &RawValue) -> Result<Option<Timestamp>, Unfit> {
    text(raw)?.map(|text| parse_utc(&text).ok_or(Unfit)).transpose()
}

/// An amount, from the digits that were sent.
pub fn money(raw: &RawValue) -> Result<Option<Decimal>, Unfit> {
    let read = |text: String| text.parse().or_else(|_| Decimal::from_scientific(&text)).map_err(|_| Unfit);
    text(raw)?.map(read).transpose()
}

/// Whatever it is.
pub fn value(raw: &RawValue) -> Result<Value, Unfit> {
    serde_json::from_str(raw.get()).map_err(|_| Unfit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As the documentation prints it, trailing comma included.
    const DOCUMENTED: &str = include_str!("../../../../../tests/path/data/directscale/documented-example.json");

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn trailing_commas_go_and_those_in_strings_stay() {
        let tidy = |body: &str| read::<Value>(body.as_bytes());
        assert_eq!(tidy(r#"{"a":[1,2, ],"b":"x,}\",]", }"#), Some(json!({"a": [1, 2], "b": "x,}\",]"})));
        assert_eq!(tidy("\u{feff}[1]"), Some(json!([1])));
        assert_eq!(tidy(DOCUMENTED).unwrap()["OrderNumber"], 1);
        for bad in ["{,}", "[1,,2]", "[1,,]", "{\"a\":1", ",", ""] {
            assert_eq!(tidy(bad).is_some(), bad == "{,}", "{bad}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let amount = |text: &str| money(&raw(text)).unwrap().map(|amount| amount.to_string());
        assert_eq!(amount("20.0").as_deref(), Some("20.0"));
        assert_eq!(amount("0.1000000000000000055").as_deref(), Some("0.1000000000000000055"));
        assert_eq!(amount("\"12.90\"").as_deref(), Some("12.90"));
        assert_eq!(amount("1E2").as_deref(), Some("100"));
        assert_eq!(amount("null"), None);
        assert!(money(&raw("\"much\"")).is_err() && money(&raw("{}")).is_err());
    }

    #[test]
    fn ids_count_or_are_texts() {
        let read = |text: &str| id(&raw(text)).map(|id| id.map(String::from)).ok();
        assert_eq!(read("77"), Some(Some("77".into())));
        assert_eq!(read("\"A-7\""), Some(Some("A-7".into())));
        assert_eq!((read("0"), read("null")), (Some(None), Some(None)));
        assert_eq!((read("-1"), read("1.5"), read("[7]"), read("true")), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(bytes in any::<Vec<u8>>(), text in "[\\[\\]{},:\"\\\\ 1an]*") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let strict = serde_json::from_slice::<Value>(body).ok();
                let lenient = read::<Value>(body);
                prop_assert!(strict.is_none() || strict == lenient);
                _ = Members::of(body);
            }
        }
    }
}
