//! DirectScale's messages: flat objects, read member by member, because an absent member says nothing and `null` says
//! empty. Numbers are read from their own text, so that no amount is ever a float.

use std::{collections::BTreeMap, fmt};

use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    entity::ExternalId,
    json::{self, JsonError, twice},
    platform::{lenient::exact, mapping::MapError},
    timestamp::parse_time,
};

/// The most members that an event, or an answer, may have. Documented ones have a dozen; each other member is a facet
/// of its own, and some 2,400 of them fill an item.
pub const MAX_MEMBERS: usize = 300;

/// The reason for which a body cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unread {
    /// The payload is not a JSON object.
    NoObject,
    /// A member, by name, that occurs twice, or in two spellings.
    Twice(String),
    /// More members than [`MAX_MEMBERS`].
    TooMany,
}

impl From<JsonError> for Unread {
    fn from(wrong: JsonError) -> Self {
        match wrong {
            JsonError::Twice(name) => Self::Twice(name),
            // Members are not parsed here, so none can be nested too deep.
            JsonError::Form(_) | JsonError::TooDeep => Self::NoObject,
        }
    }
}

impl From<Unread> for MapError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NoObject => Self::Malformed("its beginning: no JSON object".into()),
            Unread::Twice(name) => Self::Malformed(format!("{name}, which is there twice")),
            Unread::TooMany => Self::TooLarge(format!("more than {MAX_MEMBERS} members")),
        }
    }
}

/// Reads JSON. Invalid JSON is read again without the commas before `}` and `]`, which the documentation's examples
/// have, and without a byte order mark.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    match serde_json::from_slice(body).map_err(JsonError::from) {
        Err(JsonError::Form(_)) => {
            let tidy = without_trailing_commas(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
            serde_json::from_slice(&tidy).map_err(JsonError::from)
        }
        read => read,
    }
}

/// Returns the text of a body that is any JSON.
pub fn json(body: &[u8]) -> Result<Box<RawValue>, Unread> {
    Ok(read(body)?)
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

/// The first facts about a body: the event and the time of an object.
#[derive(Debug, Default)]
pub struct Head {
    /// `true` for an object. Bodies that clients send themselves can be any JSON.
    pub is_object: bool,
    event: Option<Box<RawValue>>,
    /// The member `EventDateUtc`.
    pub at: Option<Box<RawValue>>,
}

impl Head {
    /// Reads a body of any shape, and keeps only these members.
    ///
    /// # Errors
    /// [`Unread`] when it is not JSON, or has one of the two members twice.
    pub fn of(body: &[u8]) -> Result<Self, Unread> {
        Ok(read(body)?)
    }

    /// Returns `EventType`, if it can be read.
    pub fn event(&self) -> Option<String> {
        let name = text(self.event.as_deref()?).ok()??;
        ((1..=200).contains(&name.len()) && !name.chars().any(char::is_control)).then_some(name)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Body;
        impl<'de> Visitor<'de> for Body {
            type Value = Head;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Head, E> {
                Ok(Head::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Head, E> {
                Ok(Head::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Head, E> {
                Ok(Head::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Head, E> {
                Ok(Head::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Head, E> {
                Ok(Head::default())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Head, E> {
                if text.chars().any(char::is_control) { Err(E::custom("no words")) } else { Ok(Head::default()) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Head, A::Error> {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Head::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head, A::Error> {
                let mut head = Head { is_object: true, ..Head::default() };
                while let Some(name) = members.next_key::<String>()? {
                    let member = match name.as_str() {
                        given if is_named(given, EVENT_TYPE) => &mut head.event,
                        given if is_named(given, EVENT_DATE) => &mut head.at,
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if member.replace(members.next_value()?).is_some() {
                        return Err(twice(&name));
                    }
                }
                Ok(head)
            }
        }
        from.deserialize_any(Body)
    }
}

/// The member that names the event.
pub const EVENT_TYPE: &str = "EventType";
/// The member with the event's time.
pub const EVENT_DATE: &str = "EventDateUtc";

/// The members of an object: none twice, none in two spellings, and not too many.
#[derive(Debug)]
pub struct Members(BTreeMap<String, Box<RawValue>>);

/// An error for a member with the wrong form.
#[derive(Debug)]
pub struct Unfit;

impl Members {
    /// Reads an object. An object with too many members is refused before they are built.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn of(body: &[u8]) -> Result<Self, Unread> {
        let Counted(members) = read(body)?;
        members.map(Self).ok_or(Unread::TooMany)
    }

    /// Returns a member by its name in PascalCase, or in camelCase. Events use PascalCase; the spelling of the API is
    /// not documented.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.find(name).map(|(_, raw)| raw)
    }

    /// Returns a member as [`get`](Self::get) does, with its name as it was sent.
    pub fn find(&self, name: &str) -> Option<(&str, &RawValue)> {
        let found = self.0.get_key_value(name).or_else(|| self.0.get_key_value(&camel(name)));
        found.map(|(name, raw)| (name.as_str(), &**raw))
    }

    /// Returns all members except the named ones.
    pub fn others(&self, named: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().filter(move |(name, _)| !named(name)).map(|(name, raw)| (name.as_str(), &**raw))
    }
}

/// The members of an object; `None` when there are too many.
struct Counted(Option<BTreeMap<String, Box<RawValue>>>);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Counted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Counted, A::Error> {
                let mut object: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    if object.len() == MAX_MEMBERS {
                        members.next_value::<IgnoredAny>()?;
                        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        return Ok(Counted(None));
                    }
                    let other = if camel(&name) == name { pascal(&name) } else { camel(&name) };
                    if object.contains_key(&name) || object.contains_key(&other) {
                        return Err(twice(&name));
                    }
                    object.insert(name, members.next_value()?);
                }
                Ok(Counted(Some(object)))
            }
        }
        from.deserialize_map(Object)
    }
}

/// Returns whether `given` is `name` in PascalCase or camelCase.
pub fn is_named(given: &str, name: &str) -> bool {
    given == name || given == camel(name)
}

fn pascal(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

/// Reads a scalar as text, numbers as they are written; `None` for `null` and `""`.
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

/// Reads an id; `None` for 0, which means none.
pub fn id(raw: &RawValue) -> Result<Option<ExternalId>, Unfit> {
    match text(raw)? {
        Some(text) if text != "0" => {
            // A negative or fractional number is not an id.
            let counts = raw.get().starts_with('"') || text.parse::<u64>().is_ok();
            counts.then(|| text.parse()).ok_or(Unfit)?.map(Some).map_err(|_| Unfit)
        }
        _ => Ok(None),
    }
}

/// Reads a time, in UTC with or without a zone. .NET's least date means no time, its greatest no end.
pub fn time(raw: &RawValue) -> Result<Option<jiff::Timestamp>, Unfit> {
    text(raw)?.map_or(Ok(None), |text| parse_time(&text).map_err(|_| Unfit))
}

/// Reads an amount from the digits that were sent.
pub fn money(raw: &RawValue) -> Result<Option<Decimal>, Unfit> {
    text(raw)?.map(|text| exact(text.trim()).ok_or(Unfit)).transpose()
}

/// Reads any value. A value that cannot be kept (nested too deep, or a number out of range) is kept as the text that
/// was sent.
pub fn value(raw: &RawValue) -> Result<Value, Unfit> {
    match json::value(raw.get().as_bytes()) {
        Ok(value) => Ok(value),
        Err(JsonError::Twice(_)) => Err(Unfit),
        Err(JsonError::TooDeep | JsonError::Form(_)) => Ok(Value::String(raw.get().to_owned())),
    }
}

/// Reads a time in any spelling, and returns it in the events' present one. Any other value stays as it is.
pub fn any_time(raw: &RawValue) -> Result<Value, Unfit> {
    time(raw).map_or_else(|_| value(raw), |time| Ok(json!(time)))
}

/// Reads the kind of an order, from its name, or in legacy events from its number. An undocumented kind stays as it is.
pub fn order_type(raw: &RawValue) -> Result<Value, Unfit> {
    let Ok(given) = text(raw) else { return value(raw) };
    let known = |name: &&&str| given.as_deref().is_some_and(|given| given.eq_ignore_ascii_case(name));
    match given.as_deref() {
        Some("1") => Ok(json!(ORDER_TYPES[0])),
        Some("2") => Ok(json!(ORDER_TYPES[1])),
        _ => ORDER_TYPES.iter().find(known).map_or_else(|| value(raw), |name| Ok(json!(name))),
    }
}

/// The documented kinds of orders, 1 and 2.
const ORDER_TYPES: [&str; 2] = ["Standard", "AutoShip"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The example as the documentation prints it, trailing comma included.
    const DOCUMENTED: &str = include_str!("../../../../../tests/path/data/directscale/documented-example.json");

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn trailing_commas_go_and_those_in_strings_stay() {
        let tidy = |body: &str| read::<Value>(body.as_bytes()).ok();
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
        for bad in
            ["\"much\"", "{}", "true", "\"1_000\"", "\"1,50\"", "\"0x10\"", "1e400", "0.12345678901234567890123456789"]
        {
            assert!(money(&raw(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_count_or_are_texts() {
        let read = |text: &str| id(&raw(text)).map(|id| id.map(String::from)).ok();
        assert_eq!(read("77"), Some(Some("77".into())));
        assert_eq!(read("\"A-7\""), Some(Some("A-7".into())));
        assert_eq!((read("0"), read("null")), (Some(None), Some(None)));
        assert_eq!((read("-1"), read("1.5"), read("[7]"), read("true")), (None, None, None, None));
        for bad in ["-0", "1e2", "7.0", "18446744073709551616", "false"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_member_is_there_once_in_one_spelling() {
        let twice = |body: &str| match Members::of(body.as_bytes()) {
            Err(Unread::Twice(name)) => name,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(twice(r#"{"OrderNumber":1,"OrderNumber":1}"#), "OrderNumber");
        assert_eq!(twice(r#"{"OrderNumber":1,"orderNumber":2}"#), "orderNumber");
        assert_eq!(twice(r#"{"orderNumber":1,"OrderNumber":2,}"#), "OrderNumber");
        assert_eq!(twice(r#"{"foo":1,"Foo":2}"#), "Foo");
        for good in ["{}", r#"{"a":{"b":1,"B":2}}"#, r#"{"":1,"1":2}"#, "\u{feff}{\"a\":1,}"] {
            assert!(Members::of(good.as_bytes()).is_ok(), "{good}");
        }
        assert!(value(&raw(r#"{"a":1,"a":2}"#)).is_err(), "nor in what is not documented");
        let head = |body: &str| Head::of(body.as_bytes()).map(|head| (head.is_object, head.event()));
        assert_eq!(head(r#"{"EventType":"A","eventType":"A"}"#), Err(Unread::Twice("eventType".into())));
        assert_eq!(head(r#"{"eventType":"A","x":[[]],"x":1,}"#), Ok((true, Some("A".into()))));
        for (body, is_object) in [("1", false), ("[1,]", false), ("\"a\"", false), ("null", false), ("{}", true)] {
            assert_eq!(head(body), Ok((is_object, None)), "{body}");
        }
        for bad in ["", "{", "{\"a", "[1,,]", "\u{1}garbage", r#""\u0001garbage""#, "{} {}", "nul", "'a'"] {
            assert_eq!(head(bad), Err(Unread::NoObject), "{bad}");
        }
    }

    #[test]
    fn too_many_members_are_told_before_they_are_built() {
        let body = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("\"k{n}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(Members::of(body(MAX_MEMBERS).as_bytes()).map(|members| members.0.len()), Ok(MAX_MEMBERS));
        for count in [MAX_MEMBERS + 1, 40_000] {
            assert_eq!(Members::of(body(count).as_bytes()).map(|_| ()), Err(Unread::TooMany), "{count}");
        }
        let broken = body(400).replace("\"k399\":1", "\"k399\":");
        assert_eq!(Members::of(broken.as_bytes()).map(|_| ()), Err(Unread::NoObject));
    }

    #[test]
    fn what_cannot_be_a_value_is_kept_as_it_was_sent() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        for text in [deep.as_str(), "1e400", r#"{"a":[1e400]}"#, r#""\ud800""#] {
            assert_eq!(value(&raw(text)).unwrap(), json!(text));
        }
        assert_eq!(value(&raw("[1,{\"a\":null}]")).unwrap(), json!([1, {"a": null}]));
    }

    #[test]
    fn what_is_written_in_two_ways_is_kept_in_one() {
        let kind = |text: &str| order_type(&raw(text)).unwrap();
        for one in ["1", "\"1\"", "\"Standard\"", "\"standard\""] {
            assert_eq!(kind(one), "Standard", "{one}");
        }
        for two in ["2", "\"2\"", "\"AutoShip\"", "\"Autoship\""] {
            assert_eq!(kind(two), "AutoShip", "{two}");
        }
        for other in ["3", "\"Party\"", "null", "{\"a\":2}", "true"] {
            assert_eq!(kind(other), serde_json::from_str::<Value>(other).unwrap(), "{other}");
        }
        let at = |text: &str| any_time(&raw(text)).unwrap();
        for text in ["\"2024-03-02T00:00:00\"", "\"2024-03-02T00:00:00.0000000Z\"", "\"2024-03-02T01:00:00+01:00\""] {
            assert_eq!(at(text), "2024-03-02T00:00:00Z", "{text}");
        }
        assert_eq!((at("null"), at("\"\""), at("\"soon\"")), (Value::Null, Value::Null, json!("soon")));
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(bytes in any::<Vec<u8>>(), text in "[\\[\\]{},:\"\\\\ 1an]*") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let strict = serde_json::from_slice::<Value>(body).ok();
                let lenient = read::<Value>(body).ok();
                prop_assert!(strict.is_none() || strict == lenient);
                prop_assert!(Members::of(body).is_err() || Head::of(body).is_ok_and(|head| head.is_object));
            }
        }
    }
}
