//! Owns handshakes: requests by which a sender tests that somebody is there, and the answers that it wants.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    document::Document,
    proof::{Algorithm, Encoding, Key},
    template::{Arrived, Template, Values},
};

/// The longest value that an answer repeats, in bytes.
const MAX_ECHO_BYTES: usize = 1_024;

/// A handshake. Its answer has no other effect.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handshake {
    /// The requests that are one.
    pub when: When,
    /// `true` when the request is proven like a delivery.
    #[serde(default)]
    pub proven: bool,
    /// The value that has to be one of the keys before anything is answered.
    #[serde(default)]
    pub token: Option<Template>,
    /// The code that the answer proves itself with, as `{part:code}`.
    #[serde(default)]
    pub code: Option<Code>,
    /// The answer.
    pub answer: Answering,
}

/// The requests that are a handshake: all that is named has to fit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
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
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The algorithm: `hmac-sha1`, `hmac-sha256` or `sha256`.
    pub algorithm: Algorithm,
    /// The text.
    pub text: Template,
    /// The encoding: `hex` or `base64`.
    pub encoding: Encoding,
}

/// The answer to a handshake, or the form of it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
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
    pub(super) fn answer(&self, request: &Arrived<'_>, document: Document<'_>, keys: &[Key]) -> Option<Answer> {
        let mut parts = BTreeMap::new();
        if let Some(token) = &self.token {
            let given = token.text(&Values { request, document, parts: &parts, secret: b"" })?;
            let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
            let same = |key: &Key| {
                !key.text.is_empty()
                    && aws_lc_rs::constant_time::verify_slices_are_equal(
                        hash(&key.text).as_ref(),
                        hash(&given).as_ref(),
                    )
                    .is_ok()
            };
            keys.iter().find(|key| same(key))?;
        }
        if let Some(code) = &self.code {
            let secret = keys.first().map(|key| key.text.as_bytes()).unwrap_or_default();
            let text = code.text.fill(&Values { request, document, parts: &parts, secret }).ok()?;
            let made = match code.algorithm {
                Algorithm::HmacSha1 => {
                    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), &text).as_ref().to_vec()
                }
                Algorithm::HmacSha256 if !secret.is_empty() => {
                    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &text).as_ref().to_vec()
                }
                Algorithm::Sha256 => digest::digest(&digest::SHA256, &text).as_ref().to_vec(),
                _ => return None,
            };
            let made = match code.encoding {
                Encoding::Hex => hex::encode(made),
                Encoding::Base64 | Encoding::Base64url => STANDARD.encode(made),
            };
            parts.insert("code".to_owned(), made);
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
