//! Owns templates: texts with placeholders that a request fills in, such as `{timestamp}.{body}`.

use std::{borrow::Cow, collections::BTreeMap};

use aws_lc_rs::digest;
use http::HeaderMap;
use serde::Deserialize;

use super::document::{Document, has_too_many_fields};

/// The longest template, in bytes.
const MAX_BYTES: usize = 1_024;

/// A request, with what its connection knows beside it.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, and the query behind its question mark, as they were received.
    pub target: &'a str,
    /// The URL that was registered at the sender.
    pub url: &'a str,
    /// The headers, with names in lower case.
    pub headers: &'a HeaderMap,
    /// The bytes of the body.
    pub body: &'a [u8],
    /// The constants of the connection.
    pub constants: &'a BTreeMap<String, String>,
}

impl<'a> Arrived<'a> {
    fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the value of a header that is there once, or `None`.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.get_all(name).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        value.to_str().ok()
    }

    /// Returns the decoded value of a query parameter that is there once, or `None`.
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut values = url::form_urlencoded::parse(self.query().as_bytes()).filter(|(given, _)| given == name);
        let (value, None) = (values.next()?.1, values.next()) else { return None };
        Some(value)
    }
}

/// The values that placeholders stand for.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// The request.
    pub request: &'a Arrived<'a>,
    /// The document that JSON pointers look into.
    pub document: Document<'a>,
    /// The parts of the signature's header, by name, the time among them.
    pub parts: &'a BTreeMap<String, String>,
    /// The secret, where a plain hash covers it.
    pub secret: &'a [u8],
}

/// A text with placeholders.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Value { source: Source, filters: Vec<Filter>, optional: bool },
}

/// The source of a placeholder's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The bytes of the body.
    Body,
    /// The method, in upper case.
    Method,
    /// The registered URL.
    Url,
    /// The path as received.
    Path,
    /// The path and the query as received.
    Target,
    /// The secret.
    Secret,
    /// The form's names and values, sorted, each pair once.
    Form,
    /// A header.
    Header(String),
    /// A query parameter, decoded.
    Query(String),
    /// A value of the document, as it is written there.
    Json(String),
    /// A constant of the connection.
    Constant(String),
    /// A part of the signature's header, or the time, or the id.
    Part(String),
}

/// The change of a placeholder's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Filter {
    /// Its SHA-256 in lower-case hex.
    Sha256,
    /// Its characters beyond ASCII as `\uXXXX` in lower-case hex.
    Escape,
    /// The percent-escapes of characters that URLs reserve, decoded.
    Decode,
    /// A URL with the port 443 behind its host.
    Port,
    /// In lower case.
    Lower,
}

impl Template {
    /// Returns the value with the placeholders filled in.
    ///
    /// # Errors
    /// The name of the first placeholder without a value.
    pub fn fill(&self, values: &Values<'_>) -> Result<Vec<u8>, String> {
        let mut filled = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.extend_from_slice(text.as_bytes()),
                Piece::Value { source, filters, optional } => {
                    let value = match source.value(values) {
                        Some(value) => value,
                        None if *optional => Cow::Borrowed(&b""[..]),
                        None => return Err(source.name()),
                    };
                    filled.extend_from_slice(&filters.iter().fold(value, |value, filter| filter.apply(value)));
                }
            }
        }
        Ok(filled)
    }

    /// Returns the filled-in text, if it is one.
    pub fn text(&self, values: &Values<'_>) -> Option<String> {
        String::from_utf8(self.fill(values).ok()?).ok()
    }

    /// Returns the sources of the placeholders.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value { source, .. } => Some(source),
            Piece::Text(_) => None,
        })
    }

    /// Returns the headers, query parameters and the path that the placeholders name, as far as the request has them and
    /// they are not long.
    pub(super) fn noted(&self, request: &Arrived<'_>) -> Vec<(String, String)> {
        let value = |source: &Source| {
            let (name, value) = match source {
                Source::Header(name) => (format!("{HEADER}{name}"), request.header(name)?.to_owned()),
                Source::Query(name) => (format!("{QUERY}{name}"), request.query_value(name)?.into_owned()),
                Source::Path => (PATH.to_owned(), request.path().to_owned()),
                _ => return None,
            };
            (value.len() <= MAX_NOTED_BYTES).then_some((name, value))
        };
        self.sources().filter_map(value).collect()
    }

    /// Returns whether a placeholder has this source.
    pub(super) fn has(&self, wanted: impl Fn(&Source) -> bool) -> bool {
        self.sources().any(wanted)
    }
}

/// The name of a noted path, and the beginnings of the names of noted headers and query parameters.
const PATH: &str = "path";
const HEADER: &str = "header:";
const QUERY: &str = "query:";
/// The longest value that is noted, in bytes.
const MAX_NOTED_BYTES: usize = 1_024;

/// Returns the headers among what was noted of a request.
pub(super) fn headers_of(noted: &BTreeMap<String, String>) -> HeaderMap {
    let header = |(name, value): (&String, &String)| {
        let name = http::HeaderName::from_bytes(name.strip_prefix(HEADER)?.as_bytes()).ok()?;
        Some((name, http::HeaderValue::from_str(value).ok()?))
    };
    noted.iter().filter_map(header).collect()
}

/// Returns the path and query among what was noted of a request.
pub(super) fn target_of(noted: &BTreeMap<String, String>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in noted {
        if let Some(name) = name.strip_prefix(QUERY) {
            query.append_pair(name, value);
        }
    }
    format!("{}?{}", noted.get(PATH).map_or("/", String::as_str), query.finish())
}

impl Source {
    fn parse(text: &str) -> Option<Self> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Some(match text.split_once(':') {
            None => match text {
                "body" => Self::Body,
                "method" => Self::Method,
                "url" => Self::Url,
                "path" => Self::Path,
                "target" => Self::Target,
                "secret" => Self::Secret,
                "form" => Self::Form,
                "timestamp" | "id" => Self::Part(text.to_owned()),
                _ => return None,
            },
            Some(("header", name)) => Self::Header(named(name)?.to_ascii_lowercase()),
            Some(("query", name)) => Self::Query(named(name)?),
            Some(("json", pointer)) if super::document::is_pointer(pointer) => Self::Json(pointer.to_owned()),
            Some(("constant", name)) => Self::Constant(named(name)?),
            Some(("part", name)) => Self::Part(named(name)?),
            Some(_) => return None,
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Body => "{body}".into(),
            Self::Method => "{method}".into(),
            Self::Url => "{url}".into(),
            Self::Path => "{path}".into(),
            Self::Target => "{target}".into(),
            Self::Secret => "{secret}".into(),
            Self::Form => "{form}".into(),
            Self::Header(name) => format!("{{header:{name}}}"),
            Self::Query(name) => format!("{{query:{name}}}"),
            Self::Json(pointer) => format!("{{json:{pointer}}}"),
            Self::Constant(name) => format!("{{constant:{name}}}"),
            Self::Part(name) => format!("{{{name}}}"),
        }
    }

    fn value<'a>(&self, values: &Values<'a>) -> Option<Cow<'a, [u8]>> {
        let request = values.request;
        let text = |text: &'a str| Some(Cow::Borrowed(text.as_bytes()));
        match self {
            Self::Body => Some(Cow::Borrowed(request.body)),
            Self::Method => Some(Cow::Owned(request.method.to_ascii_uppercase().into_bytes())),
            Self::Url => text(request.url),
            Self::Path => text(request.path()),
            Self::Target => text(request.target),
            Self::Secret => Some(Cow::Borrowed(values.secret)),
            Self::Form => Some(Cow::Owned(sorted_form(request.body)?)),
            Self::Header(name) => text(request.header(name)?),
            Self::Query(name) => Some(Cow::Owned(request.query_value(name)?.into_owned().into_bytes())),
            Self::Json(pointer) => Some(Cow::Owned(values.document.text(pointer)?.into_bytes())),
            Self::Constant(name) => text(request.constants.get(name)?),
            Self::Part(name) => text(values.parts.get(name)?),
        }
    }
}

impl Filter {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "sha256" => Self::Sha256,
            "escape" => Self::Escape,
            "decode" => Self::Decode,
            "port" => Self::Port,
            "lower" => Self::Lower,
            _ => return None,
        })
    }

    fn apply(self, value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        let text = || String::from_utf8_lossy(&value).into_owned();
        Cow::Owned(match self {
            Self::Sha256 => hex::encode(digest::digest(&digest::SHA256, &value)).into_bytes(),
            Self::Escape => escaped(&text()).into_bytes(),
            Self::Decode => decoded(&text()).into_bytes(),
            Self::Port => with_port(&text()).into_bytes(),
            Self::Lower => text().to_lowercase().into_bytes(),
        })
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut units = [0_u16; 2];
    for letter in text.chars() {
        match letter.is_ascii() {
            true => escaped.push(letter),
            false => {
                letter.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")))
            }
        }
    }
    escaped
}

/// The characters whose escapes HubSpot decodes before it signs a URL [HubSpot, "Validating requests", v3].
const RESERVED: &[(&str, char)] = &[
    ("%3A", ':'),
    ("%2F", '/'),
    ("%3F", '?'),
    ("%40", '@'),
    ("%21", '!'),
    ("%24", '$'),
    ("%27", '\''),
    ("%28", '('),
    ("%29", ')'),
    ("%2A", '*'),
    ("%2C", ','),
    ("%3B", ';'),
];

/// Decodes in one pass, so that what an escape stands for is not decoded again.
fn decoded(text: &str) -> String {
    let (mut decoded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3).unwrap_or_default();
        match RESERVED.iter().find(|(code, _)| code.eq_ignore_ascii_case(escape)) {
            Some((_, letter)) => {
                decoded.push(*letter);
                rest = &rest[at + 3..];
            }
            None => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn with_port(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, tail) = rest.split_at(end);
    format!("{scheme}://{host}:443{tail}")
}

/// Returns the pairs of a form as `namevalue`, sorted, each once, as Twilio and Mandrill sign them, or `None` when they are
/// too many.
fn sorted_form(body: &[u8]) -> Option<Vec<u8>> {
    if has_too_many_fields(body) {
        return None;
    }
    let mut pairs: Vec<_> = url::form_urlencoded::parse(body).collect();
    pairs.sort();
    pairs.dedup();
    Some(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()].concat()).collect())
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("a template has {MAX_BYTES} bytes at most"));
        }
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text.as_str());
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = (&rest[at..=at], &rest[at + 1..]);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let inner = (brace == "{").then(|| after.split_once('}')).flatten();
            let Some((inner, after)) = inner else {
                return Err("a brace stands alone; write {{ or }} for a brace of the text".to_owned());
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(placeholder(inner)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }
}

fn placeholder(inner: &str) -> Result<Piece, String> {
    let mut words = inner.split('|');
    let name = words.next().unwrap_or_default();
    let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    let source = Source::parse(name).ok_or_else(|| {
        format!(
            "there is no placeholder {{{name}}}; there are {{body}}, {{timestamp}}, {{id}}, {{method}}, {{url}}, {{path}}, \
             {{target}}, {{form}}, {{secret}}, {{header:NAME}}, {{query:NAME}}, {{json:/POINTER}}, {{constant:NAME}} and \
             {{part:NAME}}"
        )
    })?;
    let filters = words.map(|word| {
        Filter::parse(word)
            .ok_or_else(|| format!("there is no filter {word}; there are sha256, escape, decode, port and lower"))
    });
    Ok(Piece::Value { source, filters: filters.collect::<Result<_, _>>()?, optional })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(template: &str, target: &str, body: &str) -> Result<String, String> {
        let template = Template::try_from(template.to_owned())?;
        let (mut headers, constants, parts) = (HeaderMap::new(), BTreeMap::new(), BTreeMap::new());
        headers.insert("x-topic", "order".parse().unwrap());
        let request = Arrived {
            method: "post",
            target,
            url: "https://a.example/h%3Ax?b=%2F%25",
            headers: &headers,
            body: body.as_bytes(),
            constants: &constants,
        };
        let document = Document::new(body.as_bytes());
        let values = Values { request: &request, document, parts: &parts, secret: b"" };
        template.fill(&values).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (template, right) in [
            ("{method} {path} {target}", "POST /hooks/a /hooks/a?id=7%2F8&x=1"),
            ("{query:id}|{header:X-Topic}", "7/8|order"),
            ("{{{json:/n}}}", "{1.50}"),
            ("{json:/t}{json:/none?}.", "a\"b."),
            ("{url|decode}", "https://a.example/h:x?b=/%25"),
            ("{url|port}", "https://a.example:443/h%3Ax?b=%2F%25"),
            ("{json:/u|escape}", "\\u00e9\\ud83d\\ude00"),
        ] {
            let body = "{\"n\":1.50,\"t\":\"a\\\"b\",\"u\":\"\u{e9}\u{1f600}\"}";
            assert_eq!(filled(template, "/hooks/a?id=7%2F8&x=1", body).as_deref(), Ok(right), "{template}");
        }
        assert_eq!(filled("{form}", "/", "b=2&a=1&b=2&b=1&c=%C3%A9").unwrap(), "a1b1b2c\u{e9}");
    }

    #[test]
    fn a_value_that_is_missing_or_there_twice_is_told() {
        assert_eq!(filled("{json:/a}", "/", "{}"), Err("{json:/a}".into()));
        assert_eq!(filled("{json:/a}", "/", r#"{"a":1,"a":2}"#), Err("{json:/a}".into()));
        assert_eq!(filled("{query:a}", "/?a=1&a=2", ""), Err("{query:a}".into()));
        assert_eq!(filled("{header:none}", "/", ""), Err("{header:none}".into()));
    }

    #[test]
    fn a_template_that_cannot_be_is_refused_with_what_could() {
        for (template, told) in [
            ("{bdy}", "there is no placeholder {bdy}"),
            ("{body", "a brace stands alone"),
            ("body}", "a brace stands alone"),
            ("{json:a}", "there is no placeholder {json:a}"),
            ("{body|md5}", "there is no filter md5"),
        ] {
            let error = Template::try_from(template.to_owned()).unwrap_err();
            assert!(error.contains(told), "{template}: {error}");
        }
    }
}
