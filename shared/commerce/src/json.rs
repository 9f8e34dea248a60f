//! Owns the strict reading of JSON: a member that appears twice is an error, because the next reader could trust either
//! value. Also holds helpers for writing the wire types.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The reason for which a text cannot be read. It repeats nothing of the text except the names of members that are
/// plain words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, or not of the expected form.
    #[error("no JSON of the form that is meant (line {0})")]
    Form(usize),
    /// JSON that is nested too deep.
    #[error("nested too deep")]
    TooDeep,
    /// A member occurs twice.
    #[error("{0} is there twice")]
    Twice(String),
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        if let Some(name) = text.strip_prefix(TWICE).and_then(|rest| rest.split_once('`')) {
            return Self::Twice(name.0.to_owned());
        }
        if text.starts_with("recursion limit exceeded") { Self::TooDeep } else { Self::Form(error.line()) }
    }
}

/// The beginning of the error for a member that occurs twice; the member's name follows, in backquotes.
const TWICE: &str = "there twice: `";

/// Any JSON in which no member occurs twice, at any depth.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Unique, A::Error> {
                let mut list = Vec::new();
                while let Some(Unique(element)) = elements.next_element()? {
                    list.push(element);
                }
                Ok(Unique(list.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
                let mut object = Map::new();
                while let Some(name) = members.next_key::<String>()? {
                    if object.contains_key(&name) {
                        return Err(twice(&name));
                    }
                    let Unique(value) = members.next_value()?;
                    object.insert(name, value);
                }
                Ok(Unique(object.into()))
            }
        }
        from.deserialize_any(Any)
    }
}

/// Returns whether a value is its type's default, so that serde can leave it out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Makes the error for a member that occurs twice.
pub(crate) fn twice<E: serde::de::Error>(name: &str) -> E {
    let plain = (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    E::custom(format_args!("{TWICE}{}`", if plain { name } else { "a member" }))
}

/// Reads a JSON text in which no member occurs twice, at any depth.
///
/// # Errors
/// [`JsonError`].
pub fn value(text: &[u8]) -> Result<Value, JsonError> {
    let Unique(value) = serde_json::from_slice(text)?;
    Ok(value)
}

/// Reads a JSON object in which no member occurs twice, at any depth.
///
/// # Errors
/// [`JsonError`].
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match value(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(JsonError::Form(1)),
    }
}

/// Reads a value of a type from JSON in which no member occurs twice, at any depth.
///
/// # Errors
/// [`JsonError`].
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    serde_json::from_value(value(text)?).map_err(|_| JsonError::Form(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_member_is_there_twice_at_any_depth() {
        let twice = |text: &str| match value(text.as_bytes()) {
            Err(JsonError::Twice(name)) => name,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(twice(r#"{"site":"a","site":"b"}"#), "site");
        assert_eq!(twice(r#"{"a":[{"b":{"c":1,"d":2,"c":1}}]}"#), "c");
        assert_eq!(twice(r#"{"a":1,"\u0061":1}"#), "a", "however it is written");
        assert_eq!(twice(r#"{"s3cr3t ` text":1,"s3cr3t ` text":2}"#), "a member", "what is no word is not repeated");
        assert_eq!(twice(r#"{"":1,"":2}"#), "a member");
        assert_eq!(value(br#"{"a":{"a":1},"b":{"a":1}}"#).unwrap().to_string(), r#"{"a":{"a":1},"b":{"a":1}}"#);
        assert_eq!(value("[".repeat(200).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(value(b"\n{"), Err(JsonError::Form(2)));
        assert_eq!(object(b"[]"), Err(JsonError::Form(1)));
        assert_eq!(read::<u8>(b"\"x\""), Err(JsonError::Form(1)));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_else_is_read_as_it_is(json in any_json()) {
            prop_assert_eq!(value(json.to_string().as_bytes()), Ok(json));
        }
    }
}
