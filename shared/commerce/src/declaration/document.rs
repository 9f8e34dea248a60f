//! Owns the document of a request: the JSON text that extraction and proof look into, whatever form the body has.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::request::{MAX_VALUES, has_too_many_values};

/// The form of a body.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BodyForm {
    /// JSON.
    #[default]
    Json,
    /// A form, whose fields are the members of the document. A field that is there several times is a list. A form may be
    /// URL-encoded, or have parts (`multipart/form-data`).
    Form,
    /// A form of which one field holds the JSON.
    FormField(String),
    /// A token (JWT), whose claims are the document.
    Jwt,
}

impl BodyForm {
    /// Returns the JSON text of a body, or `None` when it has another form.
    pub fn document<'a>(&self, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Json => Some(Cow::Borrowed(body)),
            Self::Form => Some(Cow::Owned(serde_json::to_vec(&form(fields(body)?)).ok()?)),
            Self::FormField(name) => {
                let mut fields = fields(body)?.into_iter().filter(|(given, _)| given == name);
                let (value, None) = (fields.next()?.1, fields.next()) else { return None };
                Some(Cow::Owned(value.into_owned().into_bytes()))
            }
            Self::Jwt => {
                let claims = std::str::from_utf8(body).ok()?.trim().split('.').nth(1)?;
                Some(Cow::Owned(URL_SAFE_NO_PAD.decode(claims).ok()?))
            }
        }
    }
}

/// The name and the value of a form's field.
type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Returns whether a form may have more fields than an entity has values. Nothing has proven it yet, and fields take much
/// more memory than their text.
pub(super) fn has_too_many_fields(body: &[u8]) -> bool {
    body.len() > MAX_VALUES && body.iter().filter(|byte| **byte == b'&').count() > MAX_VALUES
}

/// Returns the fields of a form, or `None` when they are too many, or its parts are not well formed.
fn fields(body: &[u8]) -> Option<Vec<Field<'_>>> {
    if has_too_many_fields(body) {
        return None;
    }
    match body.starts_with(b"--") {
        true => parts(std::str::from_utf8(body).ok()?),
        false => Some(url::form_urlencoded::parse(body).collect()),
    }
}

/// Returns the fields of a form in parts [RFC 7578]. Its first line is the boundary, which a text before the first part would
/// hide, but no sender puts one there. A file is no field.
fn parts(body: &str) -> Option<Vec<Field<'_>>> {
    let (boundary, rest) = body.split_once("\r\n")?;
    // Each part but the last has the boundary on the line behind it; the last has two dashes more.
    let mut rest = Some(rest);
    let mut fields = Vec::new();
    let end = format!("\r\n{boundary}");
    while let Some(part) = rest {
        let (part, behind) = part.split_once(end.as_str())?;
        let (headers, value) = part.split_once("\r\n\r\n")?;
        let mut lines = headers.split("\r\n").filter_map(|line| line.split_once(':'));
        let (_, disposition) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))?;
        let parameter = |wanted: &str| {
            let named = disposition.split(';').filter_map(|one| one.trim().split_once('='));
            named
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim_matches('"'))
        };
        if parameter("filename").is_none() {
            fields.push((Cow::Borrowed(parameter("name")?), Cow::Borrowed(value)));
        }
        rest = behind.strip_prefix("\r\n");
        if rest.is_none() && !behind.starts_with("--") {
            return None;
        }
    }
    Some(fields)
}

fn form(fields: Vec<Field<'_>>) -> Value {
    let mut members = Map::new();
    for (name, value) in fields {
        let value = Value::String(value.into_owned());
        match members.get_mut(name.as_ref()) {
            None => _ = members.insert(name.into_owned(), value),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(members)
}

/// Returns whether a text is a JSON pointer (RFC 6901).
pub(super) fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// A JSON text. A member that an object names twice has no value, because a reader could trust either.
#[derive(Clone, Copy)]
pub struct Document<'a>(&'a [u8]);

impl<'a> Document<'a> {
    /// Makes the document of a JSON text. A text with more values than an entity may have is taken for an empty one.
    pub fn new(text: &'a [u8]) -> Self {
        Self(if has_too_many_values(text) { b"" } else { text })
    }

    /// Returns the text at a pointer as it is written there: a string decoded, a number or a truth value as it stands,
    /// never through a floating-point number. Returns `None` for anything else.
    pub fn text(&self, pointer: &str) -> Option<String> {
        let raw = self.at(pointer)?;
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str(raw).ok(),
            b'{' | b'[' => None,
            _ => (raw != "null").then(|| raw.to_owned()),
        }
    }

    /// Returns the elements of the list at a pointer.
    pub fn elements(&self, pointer: &str) -> Option<Vec<Self>> {
        let Node::List(elements) = serde_json::from_str(self.at(pointer)?).ok()? else { return None };
        Some(elements.into_iter().map(|element| Self(element.get().as_bytes())).collect())
    }

    fn at(&self, pointer: &str) -> Option<&'a str> {
        let mut text = serde_json::from_slice::<&RawValue>(self.0).ok()?.get();
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            text = match serde_json::from_str(text).ok()? {
                Node::Object(members) => {
                    let mut named = members.into_iter().filter(|(name, _)| *name == step);
                    let (value, None) = (named.next()?.1, named.next()) else { return None };
                    value.get()
                }
                Node::List(elements) => elements.get(step.parse::<usize>().ok()?)?.get(),
                Node::Other => return None,
            };
        }
        Some(text)
    }
}

enum Node<'a> {
    Object(Vec<(Cow<'a, str>, &'a RawValue)>),
    List(Vec<&'a RawValue>),
    Other,
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Node<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node<'de>, A::Error> {
                let mut found = Vec::new();
                while let Some(member) = members.next_entry::<String, &RawValue>()? {
                    found.push((Cow::Owned(member.0), member.1));
                }
                Ok(Node::Object(found))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node<'de>, A::Error> {
                let mut found = Vec::new();
                while let Some(element) = elements.next_element::<&RawValue>()? {
                    found.push(element);
                }
                Ok(Node::List(found))
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Node<'de>, E> {
                Ok(Node::Other)
            }

            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Node<'de>, E> {
                Ok(Node::Other)
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Node<'de>, E> {
                Ok(Node::Other)
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Node<'de>, E> {
                Ok(Node::Other)
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node<'de>, E> {
                Ok(Node::Other)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Node<'de>, E> {
                Err(E::custom("null has no parts"))
            }
        }
        from.deserialize_any(Members).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_as_they_are_written() {
        let body = br#"{"a":{"b/c":[1.10,"x\u0041",null,true,{}]},"big":12345678901234567890123,"twice":1,"twice":1}"#;
        let document = Document::new(body);
        let text = |pointer| document.text(pointer);
        assert_eq!(text("/a/b~1c/0").as_deref(), Some("1.10"));
        assert_eq!(text("/a/b~1c/1").as_deref(), Some("xA"));
        assert_eq!(text("/a/b~1c/3").as_deref(), Some("true"));
        assert_eq!(text("/big").as_deref(), Some("12345678901234567890123"));
        for absent in ["/a/b~1c/2", "/a/b~1c/4", "/a/b~1c/9", "/a", "/twice", "/a/x", "/big/0", ""] {
            assert_eq!(text(absent), None, "{absent}");
        }
        assert_eq!(document.elements("/a/b~1c").unwrap().len(), 5);
        assert_eq!(Document::new(b"no JSON").text(""), None);
    }

    #[test]
    fn each_form_of_a_body_has_a_document() {
        let text = |form: BodyForm, body: &str, pointer: &str| {
            let document = form.document(body.as_bytes())?.into_owned();
            Document::new(&document).text(pointer)
        };
        assert_eq!(text(BodyForm::Form, "a=1&b=2&b=3", "/b/1").as_deref(), Some("3"));
        assert_eq!(text(BodyForm::FormField("p".into()), "p=%7B%22a%22%3A1%7D", "/a").as_deref(), Some("1"));
        assert_eq!(text(BodyForm::FormField("p".into()), "p=1&p=2", ""), None);
        let part = |name: &str, value: &str| {
            format!(
                "--b\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        let json = part("json", "{\"a\":\"x\\r\"}");
        let field = || BodyForm::FormField("json".into());
        let file = part("f\"; filename=\"a.pdf", "%PDF");
        assert_eq!(text(field(), &format!("{file}{json}--b--"), "/a").as_deref(), Some("x\r"));
        assert_eq!(text(field(), &format!("{json}--b--\r\n"), "/a").as_deref(), Some("x\r"));
        assert_eq!(
            text(BodyForm::Form, &format!("{}{}--b--", part("a", "1"), part("b", "")), "/a").as_deref(),
            Some("1")
        );
        for wrong in [format!("{json}{json}--b--"), json.clone(), format!("{json}--c--"), "--b".into(), "--b--".into()]
        {
            assert_eq!(text(field(), &wrong, "/a"), None, "{wrong}");
        }
        assert_eq!(text(BodyForm::Jwt, "e30.eyJhIjoieCJ9.c2ln", "/a").as_deref(), Some("x"));
        assert_eq!(text(BodyForm::Jwt, "e30", "/a"), None);
    }
}
