//! Owns handshakes: requests by which a sender tests that somebody is there, and the answers that it wants.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    document::Document,
    proof::{Agreement, Algorithm, Encoding, Key},
    template::{Arrived, Template, Values},
};

/// The longest value that an answer repeats, in bytes.
const MAX_ECHO_BYTES: usize = 1_024;

/// A handshake. Its answer has no other effect.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handshake {
    /// The requests that are one.
    pub when: When,
    /// `true` when the request is proven like a delivery.
    #[serde(default)]
    pub proven: bool,
    /// The values that have to be the same before anything is answered, such as a token and a constant. A token in a URL
    /// ends up in logs, so it is no key.
    #[serde(default)]
    pub token: Option<Agreement>,
    /// The code that the answer proves itself with, as `{part:code}`.
    #[serde(default)]
    pub code: Option<Code>,
    /// The answer.
    pub answer: Answering,
}

/// The requests that are a handshake: all that is named has to fit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The method.
    #[serde(default)]
    pub method: Option<String>,
    /// The headers that are there, with the value that they have to have, or an empty text for any.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// The query parameters, likewise.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The values of the document, by their pointers, likewise.
    #[serde(default)]
    pub json: BTreeMap<String, String>,
}

/// A code in an answer: an HMAC, or a plain SHA-256.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The algorithm, an HMAC with the first key or `sha256`.
    pub algorithm: Algorithm,
    /// The text.
    pub text: Template,
    /// The encoding.
    pub encoding: Encoding,
}

/// The answer to a handshake, or the form of it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Answering {
    /// The status.
    #[serde(default = "ok")]
    pub status: u16,
    /// The body as a text.
    #[serde(default)]
    pub text: Option<Template>,
    /// The body as a JSON object, by its members.
    #[serde(default)]
    pub json: BTreeMap<String, Template>,
    /// The headers.
    #[serde(default)]
    pub header: BTreeMap<String, Template>,
}

const fn ok() -> u16 {
    200
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Handshake {
    /// Returns whether a request is this handshake.
    pub(super) fn fits(&self, request: &Arrived<'_>, document: Document<'_>) -> bool {
        let method = self.when.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(request.method));
        let all = |wanted: &BTreeMap<String, String>, value: &dyn Fn(&str) -> Option<String>| {
            wanted.iter().all(|(name, wanted)| {
                value(name).is_some_and(|value| !value.is_empty() && (wanted.is_empty() || value == *wanted))
            })
        };
        method
            && all(&self.when.header, &|name| request.header(&name.to_ascii_lowercase()).map(str::to_owned))
            && all(&self.when.query, &|name| request.query_value(name).map(std::borrow::Cow::into_owned))
            && all(&self.when.json, &|pointer| document.text(pointer))
    }

    /// Returns the answer, or `None` where the token is wrong or a value cannot be repeated.
    pub(super) fn answer(&self, request: &Arrived<'_>, document: Document<'_>, keys: &[&Key]) -> Option<Answer> {
        let mut parts = BTreeMap::new();
        if let Some(token) = &self.token
            && token.agrees(request, document) != Some(true)
        {
            return None;
        }
        if let Some(code) = &self.code {
            let secret = keys.first().map(|key| key.text.as_bytes()).unwrap_or_default();
            let text = code.text.fill(&Values { request, document, parts: &parts, secret }).ok()?;
            parts.insert("code".to_owned(), code.encoding.encode(&code.algorithm.code(secret, &text)?));
        }
        let fill = |template: &Template| {
            let text = template.text(&Values { request, document, parts: &parts, secret: b"" })?;
            // What is repeated can be no page, and no second header.
            let plain = text.len() <= MAX_ECHO_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            plain.then_some(text)
        };
        let mut headers = vec![("x-content-type-options".to_owned(), "nosniff".to_owned())];
        for (name, value) in &self.answer.header {
            headers.push((name.to_ascii_lowercase(), fill(value)?));
        }
        let (kind, body) = match (&self.answer.text, self.answer.json.is_empty()) {
            (Some(text), _) => ("text/plain; charset=utf-8", fill(text)?),
            (None, false) => {
                let members =
                    self.answer.json.iter().map(|(name, value)| Some((name.clone(), Value::String(fill(value)?))));
                ("application/json", Value::Object(members.collect::<Option<Map<_, _>>>()?).to_string())
            }
            (None, true) => ("text/plain; charset=utf-8", String::new()),
        };
        headers.push(("content-type".to_owned(), kind.to_owned()));
        Some(Answer { status: self.answer.status, headers, body })
    }
}
