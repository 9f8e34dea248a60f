//! Owns the limit on the nesting of an entity's content, so that every item that is written can be read again. Bodies
//! are read down to 127 levels, and an item holds their content some levels further down.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The deepest nesting of an entity's members, which are themselves the first level. An item has up to three levels
/// above them.
pub const MAX_DEPTH: usize = 100;

/// The deepest text of an item that is read. It exceeds the depth that any release wrote: some 133, before
/// [`MAX_DEPTH`].
const MAX_READ_DEPTH: usize = 200;

/// Replaces values nested deeper than [`MAX_DEPTH`] by their JSON text. Nothing is lost.
pub fn limit(members: &mut Map<String, Value>) {
    members.values_mut().for_each(|member| limit_value(member, MAX_DEPTH - 1));
}

fn limit_value(value: &mut Value, levels: usize) {
    match value {
        Value::Object(_) | Value::Array(_) if levels == 0 => *value = Value::String(value.to_string()),
        Value::Object(members) => members.values_mut().for_each(|member| limit_value(member, levels - 1)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| limit_value(element, levels - 1)),
        _ => {}
    }
}

/// Reads a JSON text of an item, to a greater depth than JSON elsewhere.
///
/// # Errors
/// Fails when the text is not such JSON, or is deeper than any that was ever written.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    if deepest(text) > MAX_READ_DEPTH {
        return Err(serde::de::Error::custom("nested too deep"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    json.disable_recursion_limit();
    let read = T::deserialize(&mut json)?;
    json.end().map(|()| read)
}

/// Returns the nesting depth of a text as far as it is JSON: at least the depth that a parser reaches.
fn deepest(text: &str) -> usize {
    let (mut level, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if in_string => {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            }
            b'"' => in_string = true,
            b'{' | b'[' => level += 1,
            b'}' | b']' => level = level.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::{
        change::{Change, Facets, State, Upsert},
        connection::DeletePolicy,
        entity::{Content, EntityKey, EntityKind},
        item::{Item, Projection, Writer},
        key::ConnectionKey,
        timestamp::Timestamp,
    };

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) })
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn members(value: Value) -> Map<String, Value> {
        Map::from_iter([("deep".to_owned(), value)])
    }

    #[test]
    fn what_is_nested_too_deep_is_kept_as_a_text() {
        for levels in [0, 1, 98, 99, 100, 101, 126] {
            let mut limited = members(nested(levels));
            limit(&mut limited);
            assert!(depth(&Value::Object(limited.clone())) <= MAX_DEPTH, "{levels}");
            assert_eq!(limited == members(nested(levels)), levels < MAX_DEPTH, "{levels}");
            // The text is the rest.
            let mut at = &limited["deep"];
            while let Value::Object(_) | Value::Array(_) = at {
                at = at.get("a").or_else(|| at.get(0)).unwrap();
            }
            let rest = at.as_str().map_or(json!(1), |text| serde_json::from_str(text).unwrap());
            assert_eq!(rest, nested(levels.saturating_sub(MAX_DEPTH - 1)), "{levels}");
        }
    }

    #[test]
    fn a_text_s_depth_is_what_a_parser_meets() {
        for (text, expected) in
            [("", 0), ("[[1],[2]]", 2), (r#"{"[[[":"]]]\"[[["}"#, 1), (r#"["\\",[1]]"#, 2), ("]]][", 1)]
        {
            assert_eq!(deepest(text), expected, "{text}");
        }
        for levels in [1, 127, 133, MAX_READ_DEPTH] {
            assert_eq!(read::<Value>(&nested(levels).to_string()).unwrap(), nested(levels), "{levels}");
        }
        assert!(read::<Value>(&nested(MAX_READ_DEPTH + 1).to_string()).is_err());
        assert!(read::<Value>("[1] 2").is_err() && read::<Value>("[1").is_err());
    }

    /// Checks each form of content in an item: an item that is written is read again.
    #[test]
    fn every_item_that_is_written_is_read_again() {
        let connection = ConnectionKey { platform: "directscale".into(), connection: "acme".parse().unwrap() };
        let key = EntityKey { connection, kind: EntityKind::Order, id: 7.into() };
        let (at, none) = (Timestamp::from_millis(1_795_219_200_123), Map::new());
        for levels in [10, 90, 99, 100, 110, 120, 121, 122, 123, 124, 125, 126] {
            let whole = Content::new(&json!({ "id": "7" }), members(nested(levels))).unwrap();
            let whole = Upsert {
                source: None,
                received: at,
                observed: false,
                mapping: 1,
                content: whole.into(),
                facets: Facets::new(),
            };
            let extra = members(json!({ "9": { "more": nested(levels) } }));
            let facet = Content::facet(members(json!("x")), extra);
            let part = Upsert::partial(Some(at), at, false, 1, Facets::from([("more.more".to_owned(), facet.into())]));
            let [whole, part] = [whole, part].map(|upsert| State::of(&Change::Upsert(upsert)));
            for state in [whole.clone(), part.clone(), whole.join(part)] {
                for policy in [DeletePolicy::Mark, DeletePolicy::Update] {
                    let writer = Writer {
                        by: "m",
                        origin: crate::origin::Origin::Webhook,
                        trace: None,
                        received: None,
                        now: at,
                    };
                    let projection = Projection::new(policy, &none);
                    let item = projection.item(&key, &state, None, writer).unwrap();
                    let text = serde_json::to_value(&item).unwrap();
                    for name in ["extra", "facets"] {
                        let readable = |text: &str| serde_json::from_str::<Value>(text).is_ok();
                        assert!(text.get(name).is_none_or(|text| readable(text.as_str().unwrap())), "{levels} {name}");
                    }
                    assert_eq!(serde_json::from_value::<Item>(text).unwrap().state(), state, "{levels}");
                }
            }
        }
    }
}
