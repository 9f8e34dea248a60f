//! Owns the reading of loose JSON, for `#[serde(deserialize_with = "…")]`: numbers as strings and strings as numbers,
//! `""`, `null` and `false` for nothing, times without a zone, lists as objects. Also reads JSON as such.
//!
//! One odd member must not lose an entity, and a wrong amount must not pass for a right one. So each reader is of one
//! of two kinds: an **essential** value (identity, version, money) makes the whole malformed when it cannot be read;
//! any other is dropped, and its place is reported. Numbers are read from their text, so that no amount and no id is
//! ever a float.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Range};

use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use super::mapping::MapError;
use crate::{entity::ExternalId, http_call::Fault, timestamp::parse_time};

/// The deepest nesting that is kept. The parser takes 127 levels, and an item wraps its content into some more.
const MAX_DEPTH: usize = 64;
/// The most places of one body that are dropped before all of it counts as malformed.
const MAX_DROPPED: usize = 200;
/// The most bytes that are parsed again because of dropped places.
const MAX_REREAD: usize = 32 * 1024 * 1024;
/// The prefix of errors at essential places.
const ESSENTIAL: &str = "essential: ";

fn essential<E: Error>(what: &str) -> E {
    E::custom(format_args!("{ESSENTIAL}{what}"))
}

/// Returns the body without a byte order mark, which some plugins and editors write before it.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads a JSON object. An error names its place, never its content.
///
/// # Errors
/// [`MapError::Malformed`].
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, MapError> {
    if let Ok(Object(value)) = serde_json::from_slice(without_mark(body)) {
        return Ok(value);
    }
    let mut from = serde_json::Deserializer::from_slice(without_mark(body));
    let read: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut from);
    let value = read.map_err(|error| malformed(&error))?;
    from.end().map_err(|error| MapError::Malformed(place_of(&error)))?;
    Ok(value.0)
}

/// Reads a JSON list of objects. It may be an object with numeric names, which PHP writes for a list with gaps.
///
/// # Errors
/// [`MapError::Malformed`].
pub fn read_list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, MapError> {
    struct Entries<T>(Vec<T>);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            lines(from).map(Self)
        }
    }
    let body = without_mark(body);
    if !matches!(body.trim_ascii_start().first(), Some(b'[' | b'{')) {
        return Err(MapError::Malformed("its beginning: no JSON list".into()));
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let read: Result<Entries<T>, _> = serde_path_to_error::deserialize(&mut from);
    let entries = read.map_err(|error| match malformed(&error) {
        MapError::Malformed(place) if error.inner().is_data() && error.path().iter().len() == 0 => {
            MapError::Malformed(place.replace("no JSON object", "no JSON list"))
        }
        other => other,
    })?;
    from.end().map_err(|error| MapError::Malformed(place_of(&error)))?;
    // As an answer, an object without members is more likely something else than a list.
    if entries.0.is_empty() && body.trim_ascii_start().starts_with(b"{") {
        return Err(MapError::Malformed("its beginning: no JSON list".into()));
    }
    Ok(entries.0)
}

/// Reads an entity. Drops unreadable places that are not essential, and returns their names, too.
///
/// # Errors
/// [`MapError::Malformed`], with the place.
pub fn entity<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Vec<String>), MapError> {
    let (mut text, mut dropped) = shallow(without_mark(body));
    // Nearly every body is read at once. Only an error needs its place, and following the place takes time.
    if let Ok(Object(value)) = serde_json::from_slice(&text) {
        return Ok((value, dropped));
    }
    let mut reread = 0;
    loop {
        let mut from = serde_json::Deserializer::from_slice(&text);
        let read: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut from);
        let error = match read {
            Ok(Object(value)) => {
                from.end().map_err(|error| MapError::Malformed(place_of(&error)))?;
                return Ok((value, dropped));
            }
            Err(error) => error,
        };
        reread += text.len();
        if is_essential(error.inner()) || dropped.len() >= MAX_DROPPED || reread > MAX_REREAD {
            return Err(malformed(&error));
        }
        // A place that must have a value is dropped with the part that contains it.
        let segments: Vec<&Segment> = error.path().iter().collect();
        let mut depth = segments.len();
        while depth > 0 && dropped.contains(&name_of(&segments[..depth])) {
            depth -= 1;
        }
        let name = name_of(&segments[..depth]);
        let Some(range) = range_of(&text, &segments[..depth]).filter(|_| depth > 0) else {
            return Err(malformed(&error));
        };
        text.to_mut().splice(range, *b"null");
        dropped.push(name);
    }
}

impl From<MapError> for Fault {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Malformed(place) => Self::Unreadable(place),
            error @ (MapError::PlatformError(_) | MapError::TooLarge(_)) => Self::Unreadable(error.to_string()),
        }
    }
}

/// Returns whether a place cannot be dropped, because it is essential, or because not its content is wrong.
fn is_essential(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    !error.is_data() || [ESSENTIAL, "missing field", "duplicate field"].iter().any(|sign| text.starts_with(sign))
}

fn malformed(error: &serde_path_to_error::Error<serde_json::Error>) -> MapError {
    let segments: Vec<&Segment> = error.path().iter().collect();
    let text = error.inner().to_string();
    let missing =
        ["missing field `", "duplicate field `"].iter().find_map(|start| text.strip_prefix(start)?.split_once('`'));
    let name = match (name_of(&segments), missing) {
        (parent, Some((field, _))) if parent.is_empty() => field.to_owned(),
        (parent, Some((field, _))) => format!("{parent}.{field}"),
        (name, None) => name,
    };
    MapError::Malformed(if name.is_empty() || !error.inner().is_data() { place_of(error.inner()) } else { name })
}

/// Returns the place at which the text itself is wrong.
fn place_of(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    if error.to_string().starts_with("recursion limit") {
        format!("line {line} column {column}: nested too deeply")
    } else if error.is_data() || (line, column) <= (1, 1) {
        "its beginning: no JSON object".to_owned()
    } else {
        format!("line {line} column {column}: no JSON")
    }
}

/// Returns a place as people write it: `line_items[0].total`.
fn name_of(segments: &[&Segment]) -> String {
    let mut name = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => name.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let dot = if name.is_empty() { "" } else { "." };
                name.push_str(dot);
                name.extend(key.chars().take(100));
            }
            Segment::Unknown => name.push('?'),
        }
    }
    name
}

/// Returns the range of a place's value in a text.
fn range_of(text: &[u8], segments: &[&Segment]) -> Option<Range<usize>> {
    let mut at: &RawValue = serde_json::from_slice(text).ok()?;
    for segment in segments {
        at = match segment {
            Segment::Seq { index } => serde_json::from_str::<Vec<&RawValue>>(at.get()).ok()?.get(*index).copied()?,
            Segment::Map { key } => member(at.get(), key)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    let start = (at.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some(start..start + at.get().len())
}

/// Returns the value of the first member with a name.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a RawValue> {
    struct Find<'n>(&'n str);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some((name, value)) = members.next_entry::<Cow<'de, str>, &RawValue>()? {
                if found.is_none() && name == self.0 {
                    found = Some(value);
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Find(name)).ok()?
}

/// Returns whether nothing in a text is nested deeper than is kept. A text that is not JSON may count as either.
fn is_shallow(text: &[u8]) -> bool {
    let (mut depth, mut bytes) = (0_usize, text.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let end = bytes.as_slice();
                let Some(length) = string_length(end) else { return false };
                bytes = end.get(length..).unwrap_or_default().iter();
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Returns the length of a JSON string up to its end quote and with it, from behind its first quote on.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Replaces everything nested too deeply by `null`. Returns the names of the top-level members that lost something,
/// too.
fn shallow(text: &[u8]) -> (Cow<'_, [u8]>, Vec<String>) {
    if is_shallow(text) {
        return (Cow::Borrowed(text), Vec::new());
    }
    let (mut kept, mut names) = (Vec::new(), Vec::<String>::new());
    let (mut depth, mut copied) = (0_usize, 0);
    let (mut string, mut member) = (None, 0..0);
    let mut escaped = false;
    for (place, &byte) in text.iter().enumerate() {
        if let Some(start) = string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    string = None;
                    if depth == 1 && text[place + 1..].trim_ascii_start().first() == Some(&b':') {
                        member = start..place + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => string = Some(place),
            b'{' | b'[' => {
                depth += 1;
                if depth == MAX_DEPTH + 1 {
                    kept.extend_from_slice(&text[copied..place]);
                    kept.extend_from_slice(b"null");
                    let name: String = serde_json::from_slice(&text[member.clone()]).unwrap_or_default();
                    let name: String = name.chars().take(100).collect();
                    if !names.contains(&name) && names.len() < MAX_DROPPED {
                        names.push(name);
                    }
                }
            }
            b'}' | b']' => {
                if depth == MAX_DEPTH + 1 {
                    copied = place + 1;
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    if names.is_empty() {
        return (Cow::Borrowed(text), names);
    }
    // A text that ends within the depth is not JSON, and must not become it.
    kept.extend_from_slice(if depth > MAX_DEPTH { b"" } else { &text[copied..] });
    (Cow::Owned(kept), names)
}

/// A value that must be an object, because a derived struct also accepts an array, member by member.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(AsMap(from)).map(Self)
    }
}

struct AsMap<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsMap<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Reads the text of a scalar: the content of a string, or the digits of a number as they were sent. `null`, `""` and
/// `false`, which PHP writes for nothing, give `None`.
fn scalar<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Scalar>, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'n' | b'f') => None,
        Some(b't') => Some(Scalar::True),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(D::Error::custom)?;
            (!text.is_empty()).then_some(Scalar::Text(text))
        }
        Some(b'{' | b'[') | None => Some(Scalar::Other),
        Some(_) => Some(Scalar::Number(text.to_owned())),
    })
}

enum Scalar {
    True,
    Text(String),
    Number(String),
    /// An object or a list.
    Other,
}

/// Reads a scalar as text; `None` for `null`, `""` and `false`.
///
/// # Errors
/// Fails for anything else.
pub fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match scalar(from)? {
        None => Ok(None),
        Some(Scalar::True) => Ok(Some("true".to_owned())),
        Some(Scalar::Text(text) | Scalar::Number(text)) => Ok(Some(text)),
        Some(Scalar::Other) => Err(D::Error::custom("no text")),
    }
}

/// Parses a decimal number exactly. Returns `None` for a text that is not a number or has more digits than a
/// [`Decimal`] holds.
pub fn exact(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let digits = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let counts = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !counts(whole) || fraction.is_some_and(|fraction| !counts(fraction)) {
        return None;
    }
    let padded = mantissa.strip_prefix('+').unwrap_or(mantissa);
    // Zeros at the end count against the capacity, though they mean nothing.
    let bare = if padded.len() > 28 && padded.contains('.') {
        padded.trim_end_matches('0').trim_end_matches('.')
    } else {
        padded
    };
    let number = Decimal::from_str_exact(bare).ok()?;
    if exponent == 0 || number.is_zero() {
        return Some(number);
    }
    let power = |exponent: u32| (exponent <= 28).then(|| Decimal::from(10_i128.pow(exponent)));
    if exponent > 0 {
        return number.checked_mul(power(exponent.unsigned_abs())?);
    }
    let mut number = number.normalize();
    number.set_scale(number.scale().checked_add(exponent.unsigned_abs())?).ok()?;
    Some(number.normalize())
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Decimal>>, D::Error> {
    Ok(scalar(from)?.map(|scalar| match scalar {
        Scalar::Text(text) | Scalar::Number(text) => exact(text.trim()),
        Scalar::True | Scalar::Other => None,
    }))
}

/// Reads an amount of money, or another decimal number without which the entity is wrong. Essential.
///
/// # Errors
/// Fails for anything else, and for more digits than are kept.
pub fn decimal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    match number(from)? {
        None => Ok(None),
        Some(amount) => amount.map(Some).ok_or_else(|| essential("no decimal number")),
    }
}

/// Reads a required amount. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn required_decimal<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
    decimal(from)?.ok_or_else(|| essential("a number is missing"))
}

/// Reads a decimal number that is not money: a stock.
///
/// # Errors
/// Fails for anything else.
pub fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    match number(from)? {
        None => Ok(None),
        Some(quantity) => quantity.map(Some).ok_or_else(|| D::Error::custom("no decimal number")),
    }
}

/// Reads a whole number from 0.
///
/// # Errors
/// Fails for anything else.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| D::Error::custom("no whole number"))
}

/// Reads a flag. PHP's `false` is nothing to [`text`], but has a meaning here.
///
/// # Errors
/// Fails for an object or a list.
pub fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b't') => Some(true),
        Some(b'f') => Some(false),
        Some(b'"') => {
            let word: String = serde_json::from_str(text).map_err(D::Error::custom)?;
            let is = |known: &str| word.eq_ignore_ascii_case(known);
            (!word.is_empty()).then(|| is("yes") || is("true") || is("1"))
        }
        Some(b'-' | b'0'..=b'9') => {
            let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
            Some(mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte)))
        }
        Some(b'{' | b'[') => return Err(D::Error::custom("no flag")),
        _ => None,
    })
}

/// Makes an id of a scalar, or `None` of one that cannot be an id: a negative or fractional number.
fn an_id(scalar: Scalar) -> Option<ExternalId> {
    match scalar {
        Scalar::Number(digits) => digits.parse::<u64>().ok().filter(|_| !digits.starts_with('-')).map(ExternalId::from),
        Scalar::Text(text) => {
            let signed = text.strip_prefix(['+', '-']).unwrap_or(&text);
            let counts = signed == text && signed.bytes().all(|byte| byte.is_ascii_digit());
            let is_number = signed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            text.parse().ok().filter(|_| counts || !is_number)
        }
        Scalar::True | Scalar::Other => None,
    }
}

/// Reads an id; `None` for 0, which means none. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    let Some(scalar) = scalar(from)? else { return Ok(None) };
    let id = an_id(scalar).ok_or_else(|| essential("no id"))?;
    Ok((id.as_str() != "0").then_some(id))
}

/// Reads a required id. Ids of tax rates and of lines that are being made can be 0, so 0 counts as an id here.
/// Essential.
///
/// # Errors
/// Fails for anything else.
pub fn required_id<'de, D: Deserializer<'de>>(from: D) -> Result<ExternalId, D::Error> {
    scalar(from)?.and_then(an_id).ok_or_else(|| essential("no id"))
}

/// Reads a list of ids, or of the objects that have them, because some plugins put the whole in place of its id.
/// Essential.
///
/// # Errors
/// Fails for anything else.
pub fn ids<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ExternalId>, D::Error> {
    struct OneOrWhole(ExternalId);
    impl<'de> Deserialize<'de> for OneOrWhole {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            struct Whole {
                #[serde(deserialize_with = "required_id")]
                id: ExternalId,
            }
            let raw = Box::<RawValue>::deserialize(from)?;
            let id = match raw.get().starts_with('{') {
                true => serde_json::from_str::<Whole>(raw.get()).map(|whole| whole.id),
                false => required_id(&mut serde_json::Deserializer::from_str(raw.get())),
            };
            id.map(Self).map_err(|_| essential("no id"))
        }
    }
    let ids: Vec<OneOrWhole> = list(from)?;
    Ok(ids.into_iter().map(|id| id.0).collect())
}

/// Reads a time; one without a zone is UTC. `None` for values that mean no time, such as .NET's least date.
///
/// # Errors
/// Fails for anything else.
pub fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    parse_time(&text).map_err(D::Error::custom)
}

/// Reads the time that dates the entity, as [`time`] does. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn version<'de, D: Deserializer<'de>>(from: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    time(from).map_err(|_| essential("no time"))
}

/// Reads a part that is an object; the default for `null`, `""`, `[]` and `false`.
///
/// # Errors
/// Fails for anything else.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    struct Part<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Part<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<T, A::Error> {
            match elements.next_element::<IgnoredAny>()? {
                None => Ok(T::default()),
                Some(_) => Err(A::Error::custom("a list where an object should be")),
            }
        }

        fn visit_unit<E: Error>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
            if value { Err(E::custom("no object")) } else { Ok(T::default()) }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            if text.is_empty() { Ok(T::default()) } else { Err(E::custom("a text where an object should be")) }
        }
    }
    from.deserialize_any(Part(PhantomData))
}

/// Reads a part that is an object, such as an amount with its currency. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn required_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Object::deserialize(from).map(|object| object.0).map_err(as_essential)
}

/// Reads a part as [`required_object`] does; `None` for `null`. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn essential_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(from).map(|found| found.map(|object| object.0)).map_err(as_essential)
}

/// Reads a list of scalars. It may be `null`, `""` or `false`, or an object whose names number its elements.
///
/// # Errors
/// Fails for anything else.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(List(PhantomData))
}

/// Reads a list of texts, which may be other scalars.
///
/// # Errors
/// Fails for anything else.
pub fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Text(Option<String>);
    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            text(from).map(Self)
        }
    }
    let texts: Vec<Text> = list(from)?;
    Ok(texts.into_iter().filter_map(|text| text.0).collect())
}

/// Reads a list of objects, as [`list`] does. Leaves out empty elements.
///
/// # Errors
/// Fails for anything else.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Maybe<T>(Option<T>);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Maybe<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Option::<Object<T>>::deserialize(from).map(|found| Self(found.map(|object| object.0)))
        }
    }
    let elements: Vec<Maybe<T>> = list(from)?;
    Ok(elements.into_iter().filter_map(|element| element.0).collect())
}

/// Reads a list of objects that are money, or otherwise make up the entity: lines of an order. Essential.
///
/// # Errors
/// Fails for anything else.
pub fn lines<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Line<T>(T);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Line<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Object::deserialize(from).map(|object| Self(object.0)).map_err(as_essential)
        }
    }
    let lines: Vec<Line<T>> = list(from).map_err(as_essential)?;
    Ok(lines.into_iter().map(|line| line.0).collect())
}

/// Makes an error of the element itself essential. An error of a member below it has its own place and stays as it is.
fn as_essential<E: Error>(error: E) -> E {
    let text = error.to_string();
    let own =
        ["invalid type: ", "a text where", "an object where", "no list"].iter().any(|sign| text.starts_with(sign));
    if own { essential("no such list") } else { error }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(list)
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Vec<T>, E> {
        if value { Err(E::custom("no list")) } else { Ok(Vec::new()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        if text.is_empty() { Ok(Vec::new()) } else { Err(E::custom("a text where a list should be")) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(A::Error::custom("an object where a list should be"));
            }
            list.push(members.next_value()?);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    #[derive(Deserialize, Default, Debug, PartialEq)]
    struct Part {
        #[serde(default, deserialize_with = "text")]
        name: Option<String>,
        #[serde(default, deserialize_with = "count")]
        count: Option<u64>,
    }

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only read")]
    struct Line {
        #[serde(deserialize_with = "required_id")]
        id: ExternalId,
        #[serde(default, deserialize_with = "decimal")]
        total: Option<Decimal>,
        #[serde(default, deserialize_with = "text")]
        name: Option<String>,
    }

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only read")]
    struct Whole {
        #[serde(deserialize_with = "required_id")]
        id: ExternalId,
        #[serde(default, deserialize_with = "version")]
        changed: Option<jiff::Timestamp>,
        #[serde(default, deserialize_with = "time")]
        made: Option<jiff::Timestamp>,
        #[serde(default, deserialize_with = "decimal")]
        total: Option<Decimal>,
        #[serde(default, deserialize_with = "quantity")]
        stock: Option<Decimal>,
        #[serde(default, deserialize_with = "flag")]
        on: Option<bool>,
        #[serde(default, deserialize_with = "object")]
        part: Part,
        #[serde(default, deserialize_with = "lines")]
        lines: Vec<Line>,
        #[serde(default, deserialize_with = "objects")]
        parts: Vec<Part>,
        #[serde(default, deserialize_with = "texts")]
        words: Vec<String>,
        #[serde(default, deserialize_with = "ids")]
        others: Vec<ExternalId>,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }

    fn with(member: &str, text: &str) -> Result<(Whole, Vec<String>), MapError> {
        let id = if member == "id" { "" } else { r#""id": 1, "# };
        entity(format!(r#"{{{id}"{member}": {text}, "z": 1}}"#).as_bytes())
    }

    fn place(member: &str, text: &str) -> String {
        match with(member, text) {
            Err(MapError::Malformed(place)) => place,
            other => unreachable!("{member}: {text}: {other:?}"),
        }
    }

    #[test]
    fn one_odd_member_is_dropped_and_named() {
        for (member, text, name) in [
            ("made", "\"soon\"", "made"),
            ("made", "{}", "made"),
            ("on", "{}", "on"),
            ("stock", "\"many\"", "stock"),
            ("stock", "true", "stock"),
            ("part", "[13]", "part"),
            ("part", "\"here\"", "part"),
            ("part", r#"{"name": {}}"#, "part.name"),
            ("part", r#"{"count": -1}"#, "part.count"),
            ("parts", "5", "parts"),
            ("parts", r#"{"a": {}}"#, "parts"),
            ("parts", r#"[{}, 7]"#, "parts[1]"),
            ("parts", r#"[[1], {}]"#, "parts[0]"),
            ("parts", r#"{"0": {}, "2": {"name": []}}"#, "parts.2.name"),
            ("words", r#"["a", {}]"#, "words[1]"),
            ("lines", r#"[{"id": 1, "name": ["x"]}]"#, "lines[0].name"),
        ] {
            let (whole, dropped) = with(member, text).unwrap();
            assert_eq!(dropped, [name], "{member}: {text}");
            assert_eq!((whole.id.as_str(), &whole.rest["z"]), ("1", &json!(1)));
        }
        let (whole, dropped) =
            entity::<Whole>(br#"{"id":1,"words":["a",{},1],"stock":[],"made":"x","lines":[{"id":2,"name":{}}]}"#)
                .unwrap();
        assert_eq!(dropped, ["words[1]", "stock", "made", "lines[0].name"]);
        assert_eq!((whole.words, whole.lines.len(), &whole.lines[0].name), (vec!["a".into(), "1".into()], 1, &None));
    }

    #[test]
    fn what_is_essential_makes_the_whole_malformed_with_its_place() {
        for (member, text, name) in [
            ("id", "1.5", "id"),
            ("id", "null", "id"),
            ("changed", "\"soon\"", "changed"),
            ("total", "\"1..23\"", "total"),
            ("total", "{}", "total"),
            ("total", "true", "total"),
            ("lines", "5", "lines"),
            ("lines", "\"x\"", "lines"),
            ("lines", r#"{"a": {"id": 1}}"#, "lines"),
            ("lines", "[null]", "lines[0]"),
            ("lines", "[[1]]", "lines[0]"),
            ("lines", r#"[{"id": 1}, {"id": 2, "total": "x"}]"#, "lines[1].total"),
            ("lines", r#"[{"total": 1}]"#, "lines[0].id"),
            ("others", "[1, true]", "others[1]"),
            ("others", r#"[{"sku": 1}]"#, "others[0]"),
        ] {
            assert_eq!(place(member, text), name, "{member}: {text}");
        }
        for (body, name) in [
            ("{}", "id"),
            (r#"{"id":1,"id":2}"#, "id"),
            ("[13]", "its beginning: no JSON object"),
            ("[]", "its beginning: no JSON object"),
            ("<html>", "its beginning: no JSON object"),
            ("", "its beginning: no JSON object"),
            ("\"x\"", "its beginning: no JSON object"),
            ("{\"id\":1", "line 1 column 7: no JSON"),
            ("{\"id\":1}x", "line 1 column 9: no JSON"),
        ] {
            assert_eq!(entity::<Whole>(body.as_bytes()).unwrap_err(), MapError::Malformed(name.into()), "{body}");
            assert_eq!(read::<Whole>(body.as_bytes()).unwrap_err(), MapError::Malformed(name.into()), "{body}");
        }
        let many = format!(r#"{{"id":1,"parts":[{}]}}"#, vec!["7"; MAX_DROPPED + 1].join(","));
        assert!(entity::<Whole>(many.as_bytes()).is_err());
    }

    #[test]
    fn what_is_nested_too_deeply_is_dropped_and_named() {
        for depth in [MAX_DEPTH - 3, MAX_DEPTH - 2, 130, 5_000] {
            let deep = format!("{}{{\"n\":\"[\\\"{{\"}}{}", "[".repeat(depth), "]".repeat(depth));
            let body = format!(r#"{{"id": 1, "meta": {{"a": {deep}, "b": 2}}, "name": "x"}}"#);
            let (whole, dropped) = entity::<Whole>(body.as_bytes()).unwrap();
            assert_eq!(whole.rest["meta"]["b"], 2);
            assert_eq!(whole.rest["name"], "x");
            // The body and `meta` surround it, and an object is in it.
            assert_eq!(dropped, if depth + 3 <= MAX_DEPTH { vec![] } else { vec!["meta".to_owned()] }, "{depth}");
        }
        let endless = format!(r#"{{"id": 1, "meta": {}"#, "[".repeat(500));
        assert!(entity::<Whole>(endless.as_bytes()).is_err());
        assert!(place("lines", &format!("{}{}", "[".repeat(200), "]".repeat(200))).starts_with("lines"));
        let strict =
            read::<Whole>(format!(r#"{{"id": 1, "meta": {}{}}}"#, "[".repeat(200), "]".repeat(200)).as_bytes());
        assert!(matches!(strict, Err(MapError::Malformed(place)) if place.ends_with("nested too deeply")));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_body() {
        let body = "\u{feff}{\"id\": 1}".as_bytes();
        assert_eq!(entity::<Whole>(body).unwrap().0.id.as_str(), "1");
        assert!(read::<Whole>(body).is_ok());
        assert_eq!(read_list::<Line>("\u{feff}[{\"id\": 1}]".as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn numbers_are_read_from_their_text() {
        let total = |text: &str| with("total", text).unwrap().0.total.map(|total| total.to_string());
        for (text, kept) in [
            ("0.12444444444444445", "0.12444444444444445"),
            ("1234567.8900000001", "1234567.8900000001"),
            ("99999999999999.99", "99999999999999.99"),
            ("123456789012345678.99", "123456789012345678.99"),
            ("\"13.50\"", "13.50"),
            ("1e2", "100"),
            ("\"1.5E-3\"", "0.0015"),
            ("\"+5\"", "5"),
            ("-0.1", "-0.1"),
            ("100e-2", "1"),
            ("\"0.10000000000000000000000000000000000\"", "0.1"),
            ("79228162514264337593543950335", "79228162514264337593543950335"),
        ] {
            assert_eq!(total(text).as_deref(), Some(kept), "{text}");
        }
        for nothing in ["null", "\"\"", "false"] {
            assert_eq!(total(nothing), None, "{nothing}");
        }
        for text in [
            "\"1_000\"",
            "\"1_\"",
            "\"5.\"",
            "\".5\"",
            "\"1,5\"",
            "\"0x1\"",
            "\"\u{661}\"",
            "\"1e\"",
            "\"--1\"",
            "\"0.00000000000000000000000000005\"",
            "\"79228162514264337593543950335.4\"",
            "1e-400",
            "1e400",
            "\"Infinity\"",
        ] {
            assert_eq!(place("total", text), "total", "{text}");
        }
    }

    #[test]
    fn only_what_counts_is_an_id() {
        let id = |text: &str| with("id", text).map(|(whole, _)| whole.id.to_string());
        for (text, kept) in [
            ("13", "13"),
            ("0", "0"),
            ("\"13\"", "13"),
            ("18446744073709551615", "18446744073709551615"),
            ("\"PR-1\"", "PR-1"),
            ("\"1e2\"", "1e2"),
            ("\"1-2\"", "1-2"),
        ] {
            assert_eq!(id(text).as_deref(), Ok(kept), "{text}");
        }
        for text in [
            "true",
            "false",
            "1.5",
            "-5",
            "1e2",
            "18446744073709551616",
            "12345678901234567890123",
            "-0",
            "\"0.0\"",
            "\"-5\"",
            "\"+5\"",
            "\"\"",
            "\"a\\nb\"",
            "[]",
            "{}",
        ] {
            assert_eq!(id(text), Err(MapError::Malformed("id".into())), "{text}");
        }
    }

    #[test]
    fn flags_and_lists_come_in_many_shapes() {
        for (text, flag) in [
            ("true", Some(true)),
            ("false", Some(false)),
            ("0", Some(false)),
            ("0.0", Some(false)),
            ("-0", Some(false)),
            ("1", Some(true)),
            ("\"TRUE\"", Some(true)),
            ("\"yes\"", Some(true)),
            ("\"no\"", Some(false)),
            ("\"\"", None),
            ("null", None),
        ] {
            assert_eq!(with("on", text).unwrap().0.on, flag, "{text}");
        }
        for nothing in ["null", "\"\"", "{}", "[]", "false"] {
            let (whole, dropped) = with("lines", nothing).unwrap();
            assert!(whole.lines.is_empty() && dropped.is_empty(), "{nothing}");
            let (whole, dropped) = with("part", nothing).unwrap();
            assert!(whole.part == Part::default() && dropped.is_empty(), "{nothing}");
        }
        let (whole, _) = with("lines", r#"{"0": {"id": 7}, "2": {"id": 8}}"#).unwrap();
        assert_eq!(whole.lines.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), ["7", "8"]);
        let (whole, _) = with("others", r#"[1, "2", {"id": 3, "sku": "x"}]"#).unwrap();
        assert_eq!(whole.others.iter().map(ExternalId::as_str).collect::<Vec<_>>(), ["1", "2", "3"]);
        let list = |body: &str| read_list::<Line>(body.as_bytes()).map(|list| list.len());
        assert_eq!(list(r#"{"0": {"id": 7001}, "2": {"id": 7002}}"#), Ok(2));
        assert_eq!(list("[]"), Ok(0));
        assert_eq!(list("[[1]]"), Err(MapError::Malformed("[0]".into())));
        assert_eq!(list(r#"{"code": "x"}"#), Err(MapError::Malformed("its beginning: no JSON list".into())));
        assert!(list("<p>").is_err() && list("{}").is_err());
    }

    #[test]
    fn a_time_that_means_none_or_never_is_none_or_never() {
        let made = |text: &str| with("made", text).unwrap().0.made.map(|at| at.to_string());
        assert_eq!(made("\"9999-12-31T23:59:59.9999999\"").as_deref(), Some("9999-12-30T22:00:00Z"));
        assert_eq!(made("\"0001-01-01T00:00:00\""), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_panics(body in "[\\[\\]{}:,\"a0-9.e\\\\ -]{0,60}") {
            let _ = entity::<Whole>(body.as_bytes());
            let _ = read_list::<Line>(body.as_bytes());
        }

        #[test]
        fn an_amount_keeps_its_digits(number in -1_000_000_000_000_i64..1_000_000_000_000, scale in 0_u32..10) {
            let amount = Decimal::new(number, scale);
            prop_assert_eq!(exact(&amount.to_string()), Some(amount));
        }
    }
}
