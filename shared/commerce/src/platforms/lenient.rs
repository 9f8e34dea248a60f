//! Reading what platforms write for scalars and lists: numbers as strings and strings as numbers, `""`, `null` and `false` for
//! nothing, times without a zone. For `#[serde(deserialize_with = "…")]`. And reading JSON as such.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, Visitor},
};
use serde_json::Value;

use super::MapError;
use crate::{entity::ExternalId, stamp::parse_utc};

/// Reads JSON; what is wrong is told by its place, never by its content.
///
/// # Errors
/// [`MapError::Malformed`].
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, MapError> {
    serde_json::from_slice(body).map_err(|error| {
        MapError::Malformed(match error.classify() {
            serde_json::error::Category::Data => format!("line {} column {}", error.line(), error.column()),
            _ => "its beginning: no JSON object".to_owned(),
        })
    })
}

/// A scalar that may be a string, a number, a boolean, or nothing. Numbers keep their digits: a float is read as the shortest
/// text that means it, which is what was sent, and never calculated with.
struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = Option<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string, a number or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    /// PHP writes `false` where it has nothing.
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.then(|| "true".to_owned()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok((!value.is_empty()).then(|| value.to_owned()))
    }
}

/// A scalar as text; nothing for `null`, `""` and `false`.
///
/// # Errors
/// When it is something else.
pub fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    from.deserialize_any(Scalar)
}

/// A decimal number.
///
/// # Errors
/// When it is something else.
pub fn decimal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| D::Error::custom("not a decimal number"))
}

/// A decimal number that must be there.
///
/// # Errors
/// When it is something else.
pub fn required_decimal<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
    decimal(from)?.ok_or_else(|| D::Error::custom("a number is missing"))
}

/// A whole number from 0.
///
/// # Errors
/// When it is something else.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| D::Error::custom("not a whole number"))
}

/// A flag. PHP's `false` is nothing to [`text`], but here it means something.
///
/// # Errors
/// When it is no JSON.
pub fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(from)? {
        Value::Bool(flag) => Ok(Some(flag)),
        Value::String(word) if !word.is_empty() => Ok(Some(matches!(word.as_str(), "yes" | "true" | "1"))),
        Value::Number(number) => Ok(Some(number.as_u64() != Some(0))),
        _ => Ok(None),
    }
}

/// An id; nothing for 0, which means none.
///
/// # Errors
/// When it is something else.
pub fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    match text(from)? {
        None => Ok(None),
        Some(text) if text == "0" => Ok(None),
        Some(text) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// An id that must be there. Ids of tax rates and of lines that are being made can be 0, so 0 is an id where one must be.
///
/// # Errors
/// When it is something else.
pub fn required_id<'de, D: Deserializer<'de>>(from: D) -> Result<ExternalId, D::Error> {
    let text = text(from)?.ok_or_else(|| D::Error::custom("an id is missing"))?;
    text.parse().map_err(D::Error::custom)
}

/// A time; one without a zone is UTC.
///
/// # Errors
/// When it is something else.
pub fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    parse_utc(&text).map(Some).ok_or_else(|| D::Error::custom("not a time"))
}

/// A list, which may be written as `null`, `""`, or, when empty, as an object.
///
/// # Errors
/// When it is something else.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                list.push(element);
            }
            Ok(list)
        }

        fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            if text.is_empty() { Ok(Vec::new()) } else { Err(E::custom("a text where a list should be")) }
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<Vec<T>, A::Error> {
            match members.next_entry::<String, IgnoredAny>()? {
                None => Ok(Vec::new()),
                Some(_) => Err(A::Error::custom("an object where a list should be")),
            }
        }
    }
    from.deserialize_any(List(std::marker::PhantomData))
}
