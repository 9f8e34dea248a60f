//! Owns declared proofs: what a sender signs, where the signature is, and how it is checked.

use std::{borrow::Cow, collections::BTreeMap};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac, signature};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    document::{BodyForm, Document},
    template::{Arrived, Source, Template, Values},
    time::Unit,
    written::{Given, Written},
};
use crate::{
    scheme::{
        Refusal, Strength,
        jwt::{self, PublicKeys},
        weak,
    },
    timestamp::Timestamp,
};

/// The most elements with a signature each that are checked in one request.
const MAX_ELEMENTS: usize = 100;
/// The most signatures of one text: more than anybody sends. Each that a public key checks hashes the text again.
const MAX_SIGNATURES: usize = 16;

/// A key that a sender signs with, or the public key for it.
#[derive(Clone)]
pub struct Key {
    /// The name of the key in logs, and at the sender where it names its keys.
    pub id: String,
    /// The key as the sender shows it.
    pub text: Zeroizing<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A proof that a sender makes.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Any of these proofs is enough.
    Any(Vec<Proof>),
    /// All of these proofs are needed.
    All(Vec<Proof>),
    /// The first of these proofs that is present decides, so that a wrong strong one does not fall back to a weaker one.
    FirstPresent(Vec<Proof>),
    /// A signature or a code over a text.
    Signed(Box<Signed>),
    /// A hash that the request itself has to agree with, beside another proof.
    Hash(Agreement),
    /// A token (JWT).
    Jwt(Box<Token>),
    /// A header with the key, often behind a word such as `Bearer`. It proves the caller alone.
    Header(SecretHeader),
    /// Basic authentication; the key is `user:password`. It proves the caller alone.
    Basic {},
    /// A query parameter with the key. It proves the caller alone.
    Query(String),
    /// A value of the document that is the key. It proves the caller alone.
    Json(String),
}

/// The algorithm of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// SHA-256 of a text that has the secret in it.
    Sha256,
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, in DER.
    EcdsaP256Sha256,
    /// RSA (PKCS#1 v1.5) with SHA-256.
    RsaSha256,
}

/// The form of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KeyForm {
    /// The text's own bytes.
    #[default]
    Text,
    /// Base64, with or without padding.
    Base64,
    /// Hex.
    Hex,
    /// PEM.
    Pem,
}

/// The encoding of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Hex, in either case.
    Hex,
    /// Base64, with or without padding.
    Base64,
    /// Base64url, with or without padding.
    Base64url,
}

/// The place of a signature or a token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A header, all of whose lines count.
    Header(String),
    /// Several headers, of which any may match.
    Headers(Vec<String>),
    /// A query parameter.
    Query(String),
    /// A value of the document.
    Json(String),
    /// The whole body.
    Body {},
}

/// The time of a delivery, and how far it may be from now.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Time {
    /// The value, where it is not a part of the signature's header.
    #[serde(default)]
    pub from: Option<Template>,
    /// The unit.
    #[serde(default)]
    pub unit: Unit,
    /// The greatest age, in seconds.
    #[serde(default = "five_minutes")]
    pub past: u32,
    /// The most that it may lie in the future, in seconds.
    #[serde(default = "five_minutes")]
    pub future: u32,
}

const fn five_minutes() -> u32 {
    300
}

/// A signature or a code over a text.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signed {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The form of the key.
    #[serde(default)]
    pub key: KeyForm,
    /// The prefix of the key, which is no part of it; a key without it is accepted, too.
    #[serde(default)]
    pub key_prefix: Option<String>,
    /// The text that is signed.
    pub text: Template,
    /// The place of the signature.
    pub at: Place,
    /// The way in which it is written.
    #[serde(default)]
    pub written: Written,
    /// Its encoding.
    pub encoding: Encoding,
    /// The time of the delivery, where the text covers it.
    #[serde(default)]
    pub time: Option<Time>,
    /// The value of `{id}`.
    #[serde(default)]
    pub id: Option<Template>,
    /// The id of the key, where the request names it.
    #[serde(default)]
    pub key_id: Option<Template>,
    /// The list whose elements are signed each, as a JSON pointer. Pointers then look into the element.
    #[serde(default)]
    pub each: Option<String>,
}

/// Two values of a request that have to be the same.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The value, often with a filter: `{body|sha256}`.
    pub of: Template,
    /// The value that it has to be: `{query:bodySHA256}`.
    pub equals: Template,
}

/// A header with a key.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretHeader {
    /// The header.
    pub name: String,
    /// The text before the key, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
}

/// The source of the keys of tokens.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TokenKeys {
    /// The keys are secrets.
    Secrets,
    /// The keys are JWK sets, or single JWKs.
    Jwks,
    /// The keys are the JWK set at this URL.
    JwksUrl(String),
}

/// The algorithms of tokens, as the schema has them: the type itself belongs to a library.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[allow(dead_code, reason = "it is there for the schema alone")]
enum TokenAlgorithm {
    HS256,
    HS384,
    HS512,
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    #[schemars(rename = "EdDSA")]
    EdDsa,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// The place of the token.
    pub at: Place,
    /// The text before it, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
    /// The one algorithm.
    #[cfg_attr(feature = "schema", schemars(with = "TokenAlgorithm"))]
    pub algorithm: jwt::Algorithm,
    /// The source of the keys.
    pub keys: TokenKeys,
    /// The one issuer.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The one audience.
    #[serde(default)]
    pub audience: Option<Template>,
    /// The greatest age by `iat`, in seconds. A token without it needs `exp`.
    #[serde(default)]
    pub greatest_age: Option<u32>,
    /// The claim that is the SHA-256 of the body in hex.
    #[serde(default)]
    pub body_hash: Option<String>,
    /// The claim that is the SHA-256 of the registered URL in hex.
    #[serde(default)]
    pub url_hash: Option<String>,
}

/// A proof that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The id of the key that made it.
    pub key_id: String,
    /// The coverage of the proof.
    pub strength: Strength,
}

/// The keys, by what they can prove. A public key is known to anybody, so it never counts as a secret.
#[derive(Clone, Default)]
pub(super) struct Keys<'a> {
    pub secrets: Vec<&'a Key>,
    pub public: Vec<&'a Key>,
}

impl<'a> Keys<'a> {
    /// Tells the keys of a proof apart. Where it has secrets alone, or public keys alone, all keys are of that kind.
    pub(super) fn of(proof: &Proof, keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let mut leaves = Vec::new();
        proof.leaves(String::new(), &mut leaves);
        let of_kind = |kind: Use| leaves.iter().map(|(_, leaf)| *leaf).filter(move |leaf| leaf.keys() == Some(kind));
        let (has_secrets, has_public) = (of_kind(Use::Secret).next().is_some(), of_kind(Use::Public).next().is_some());
        let mut told = Self::default();
        for key in keys {
            let text = key.text.trim();
            let has_prefix = |leaf: &Proof| leaf.key_prefix().is_some_and(|prefix| text.starts_with(prefix));
            // A PEM, or a JWK or a set of them.
            let is_public = text.starts_with(['-', '{']) || of_kind(Use::Public).any(has_prefix);
            let is_secret = of_kind(Use::Secret).any(|leaf| leaf.key_prefix().is_none() || has_prefix(leaf));
            match (has_secrets, has_public) {
                (true, false) => told.secrets.push(key),
                (false, true) => told.public.push(key),
                _ if is_public => told.public.push(key),
                _ if is_secret => told.secrets.push(key),
                _ => {}
            }
        }
        told
    }

    fn len(&self) -> usize {
        self.secrets.len() + self.public.len()
    }
}

/// The check of one request: its inputs, and the steps noted so far.
pub(super) struct Checking<'a> {
    pub request: &'a Arrived<'a>,
    pub form: &'a BodyForm,
    pub document: Document<'a>,
    pub keys: Keys<'a>,
    pub now: Timestamp,
    /// The steps for people, never with a key in them; `None` when nobody wants them.
    pub steps: Option<Vec<String>>,
}

impl Checking<'_> {
    fn step(&mut self, text: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(text());
        }
    }
}

impl Proof {
    /// Returns the signed and the other simple proofs, with the way to each in words.
    pub(super) fn leaves<'p>(&'p self, way: String, found: &mut Vec<(String, &'p Proof)>) {
        let (name, several) = match self {
            Self::Any(several) => ("any", several),
            Self::All(several) => ("all", several),
            Self::FirstPresent(several) => ("first-present", several),
            _ => return found.push((way, self)),
        };
        for (place, one) in several.iter().enumerate() {
            one.leaves(format!("{way}.{name}[{place}]"), found);
        }
        if several.is_empty() {
            found.push((format!("{way}.{name}"), self));
        }
    }

    /// Returns the number of levels below this one.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Any(several) | Self::All(several) | Self::FirstPresent(several) => {
                1 + several.iter().map(Self::depth).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Checks the proof of a request.
    ///
    /// # Errors
    /// The [`Refusal`] that fits.
    pub(super) fn check(&self, checking: &mut Checking<'_>) -> Result<Proven, Refusal> {
        match self {
            Self::Any(several) => {
                let mut refused = Refusal::MissingProof;
                for one in several {
                    match one.check(checking) {
                        Ok(proven) => return Ok(proven),
                        Err(refusal) if telling(refusal) > telling(refused) => refused = refusal,
                        Err(_) => {}
                    }
                }
                Err(refused)
            }
            Self::All(several) => {
                let (mut key_id, mut strength) = (None, Strength::Caller);
                for one in several {
                    let proven = one.check(checking)?;
                    key_id = key_id.or(Some(proven.key_id).filter(|id| !id.is_empty()));
                    // A hash covers the body only if something with a key covers the hash.
                    let counts = match one {
                        Self::Hash(agreement) => several.iter().any(|other| agreement.is_covered_by(other)),
                        _ => true,
                    };
                    if counts && proven.strength == Strength::Body {
                        strength = Strength::Body;
                    }
                }
                key_id.map(|key_id| Proven { key_id, strength }).ok_or(Refusal::MissingProof)
            }
            Self::FirstPresent(several) => {
                for one in several {
                    match one.check(checking) {
                        Err(Refusal::MissingProof) => {}
                        decided => return decided,
                    }
                }
                Err(Refusal::MissingProof)
            }
            Self::Signed(signed) => signed.check(checking),
            Self::Hash(agreement) => agreement.check(checking),
            Self::Jwt(token) => token.check(checking),
            Self::Header(SecretHeader { name, prefix }) => {
                let given = checking.request.header(&name.to_ascii_lowercase());
                equals_a_key(checking, &format!("header {name}"), given.and_then(|given| given.strip_prefix(prefix)))
            }
            Self::Basic {} => {
                let given = checking.request.header("authorization");
                let given = given.and_then(|given| given.strip_prefix("Basic "));
                let given = given.and_then(|given| String::from_utf8(STANDARD.decode(given).ok()?).ok());
                equals_a_key(checking, "basic authentication", given.as_deref())
            }
            Self::Query(name) => {
                let given = checking.request.query_value(name);
                equals_a_key(checking, &format!("query {name}"), given.as_deref())
            }
            Self::Json(pointer) => {
                let given = checking.document.text(pointer);
                equals_a_key(checking, &format!("json {pointer}"), given.as_deref())
            }
        }
    }
}

/// The kind of key that a proof needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A secret that the sender shares with us.
    Secret,
    /// A public key of the sender.
    Public,
}

impl Proof {
    /// Returns the kind of key that this proof needs, if it needs one and has no others within.
    pub(super) fn keys(&self) -> Option<Use> {
        match self {
            Self::Any(_) | Self::All(_) | Self::FirstPresent(_) | Self::Hash(_) => None,
            Self::Signed(signed) if !signed.algorithm.is_shared() => Some(Use::Public),
            Self::Jwt(token) if token.keys != TokenKeys::Secrets => Some(Use::Public),
            Self::Signed(_) | Self::Jwt(_) => Some(Use::Secret),
            Self::Header(_) | Self::Basic {} | Self::Query(_) | Self::Json(_) => Some(Use::Secret),
        }
    }

    fn key_prefix(&self) -> Option<&str> {
        match self {
            Self::Signed(signed) => signed.key_prefix.as_deref(),
            _ => None,
        }
    }

    /// Returns whether the text of a public key of this proof can be told from a secret.
    pub(super) fn marks_its_keys(&self) -> bool {
        match self {
            Self::Signed(signed) => signed.key == KeyForm::Pem || signed.key_prefix.is_some(),
            _ => true,
        }
    }
}

/// Returns how much a refusal says, where several proofs were refused: a right one that is too old says most.
fn telling(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::MissingProof => 0,
        Refusal::MalformedProof => 1,
        Refusal::Stale => 3,
        _ => 2,
    }
}

/// Compares a value with all keys, in a time that does not depend on what differs.
fn equals_a_key(checking: &mut Checking<'_>, place: &str, given: Option<&str>) -> Result<Proven, Refusal> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        checking.step(|| format!("{place}: missing"));
        return Err(Refusal::MissingProof);
    };
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    let given = hash(given);
    let found = checking.keys.secrets.iter().filter(|key| {
        !key.text.is_empty() && verify_slices_are_equal(hash(&key.text).as_ref(), given.as_ref()).is_ok()
    });
    let found = found.fold(None, |found, key| found.or(Some(key.id.clone())));
    checking.step(|| format!("{place}: {}", if found.is_some() { "is a key" } else { "is none of the keys" }));
    found.map(|key_id| Proven { key_id, strength: Strength::Caller }).ok_or(Refusal::WrongProof)
}

impl Place {
    /// Returns the values at this place.
    fn values<'a>(&self, request: &Arrived<'a>, document: Document<'a>) -> Vec<Cow<'a, str>> {
        let headers = |name: &String| {
            let lines = request.headers.get_all(name.to_ascii_lowercase()).iter();
            lines.filter_map(|line| line.to_str().ok()).map(Cow::Borrowed)
        };
        match self {
            Self::Header(name) => headers(name).take(MAX_SIGNATURES).collect(),
            Self::Headers(names) => names.iter().flat_map(headers).take(MAX_SIGNATURES).collect(),
            Self::Query(name) => request.query_value(name).into_iter().collect(),
            Self::Json(pointer) => document.text(pointer).map(Cow::Owned).into_iter().collect(),
            Self::Body {} => {
                std::str::from_utf8(request.body).ok().map(|body| body.trim().into()).into_iter().collect()
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Headers(names) => write!(f, "headers {}", names.join(", ")),
            Self::Query(name) => write!(f, "query {name}"),
            Self::Json(pointer) => write!(f, "json {pointer}"),
            Self::Body {} => f.write_str("body"),
        }
    }
}

impl Signed {
    /// Returns the coverage of the text.
    pub(super) fn strength(&self) -> Strength {
        match self.text.has(|source| matches!(source, Source::Body | Source::Form)) {
            true => Strength::Body,
            false => Strength::Caller,
        }
    }

    /// Returns whether the text covers the time, alone or within the body.
    pub(super) fn covers_the_time(&self) -> bool {
        let Some(time) = &self.time else { return true };
        let in_body = time.from.as_ref().is_some_and(|from| from.has(|source| matches!(source, Source::Json(_))));
        self.text.has(|source| *source == Source::Part("timestamp".to_owned()))
            || (in_body && self.text.has(|source| *source == Source::Body))
    }

    fn check(&self, checking: &mut Checking<'_>) -> Result<Proven, Refusal> {
        let Some(list) = &self.each else { return self.check_one(checking, checking.document) };
        let elements = checking.document.elements(list).filter(|elements| !elements.is_empty());
        let elements = elements.ok_or(Refusal::MalformedProof)?;
        if elements.len() > MAX_ELEMENTS {
            return Err(Refusal::MalformedProof);
        }
        let mut proven = None;
        for element in elements {
            proven = Some(self.check_one(checking, element)?);
        }
        proven.ok_or(Refusal::MissingProof)
    }

    fn check_one(&self, checking: &mut Checking<'_>, document: Document<'_>) -> Result<Proven, Refusal> {
        let request = checking.request;
        let values = self.at.values(request, document);
        if values.is_empty() {
            checking.step(|| format!("{}: missing", self.at));
            return Err(Refusal::MissingProof);
        }
        let (mut given, mut parts) = (Vec::new(), BTreeMap::new());
        for value in &values {
            self.written.read(value, &mut given, &mut parts).ok_or(Refusal::MalformedProof)?;
        }
        if given.is_empty() || given.len() > MAX_SIGNATURES {
            checking.step(|| format!("{}: holds no signature as it is declared to be written", self.at));
            return Err(Refusal::MalformedProof);
        }
        let fill = |template: &Template, parts: &BTreeMap<String, String>, secret: &[u8]| {
            template.fill(&Values { request, document, parts, secret })
        };
        if let Some(id) = &self.id {
            let id = fill(id, &parts, b"").ok().and_then(|id| String::from_utf8(id).ok());
            // A dot could shift the boundary between two signed parts.
            let id = id.filter(|id| (1..=256).contains(&id.len()) && !id.contains('.'));
            parts.insert("id".to_owned(), id.ok_or(Refusal::MalformedProof)?);
        }
        let stale = self.find_time(checking, document, &mut parts)?;
        let named = match &self.key_id {
            None => None,
            Some(template) => {
                let id = fill(template, &parts, b"").ok().and_then(|id| String::from_utf8(id).ok());
                Some(id.filter(|id| !id.is_empty()).ok_or(Refusal::MalformedProof)?)
            }
        };
        let text = match fill(&self.text, &parts, b"{secret}") {
            Ok(text) => text,
            Err(missing) => {
                checking.step(|| format!("the signed text lacks {missing}"));
                return Err(Refusal::MalformedProof);
            }
        };
        checking.step(|| format!("signed text, {} bytes: {}", text.len(), shown(&text)));
        let mut found = None;
        let keys = if self.algorithm.is_shared() { &checking.keys.secrets } else { &checking.keys.public };
        for key in keys {
            let fits = |one: &&Given| [&named, &one.key_id].into_iter().flatten().all(|id| *id == key.id);
            let Some(bytes) = self.key_bytes(key) else { continue };
            let text = match self.algorithm {
                Algorithm::Sha256 => fill(&self.text, &parts, &bytes).map(Cow::Owned),
                _ => Ok(Cow::Borrowed(&text)),
            };
            let text = text.map_err(|_| Refusal::MalformedProof)?;
            let mut signatures = given.iter().filter(fits).filter_map(|one| self.encoding.decode(&one.signature));
            // A code is made once, however many signatures a stranger sends with a long text.
            let made = match self.algorithm.code(&bytes, &text) {
                Some(code) => signatures.any(|given| verify_slices_are_equal(&code, &given).is_ok()),
                None => signatures.any(|given| self.algorithm.verifies(&bytes, &text, &given)),
            };
            if made {
                found = found.or(Some(key.id.clone()));
            }
        }
        let keys = checking.keys.len();
        checking.step(|| match &found {
            Some(id) => format!("{}: key {id} made it", self.at),
            None => format!("{}: none of the {keys} keys made it", self.at),
        });
        let key_id = found.ok_or(Refusal::WrongProof)?;
        if stale { Err(Refusal::Stale) } else { Ok(Proven { key_id, strength: self.strength() }) }
    }

    /// Finds the time of the delivery, and returns whether it is too far from now.
    fn find_time(
        &self,
        checking: &mut Checking<'_>,
        document: Document<'_>,
        parts: &mut BTreeMap<String, String>,
    ) -> Result<bool, Refusal> {
        let Some(time) = &self.time else { return Ok(false) };
        if let Some(from) = &time.from {
            let values = Values { request: checking.request, document, parts, secret: b"" };
            // The signature is there, so the proof is not missing: a weaker one must not take its place.
            let found = from.text(&values).ok_or(Refusal::MalformedProof)?;
            parts.insert("timestamp".to_owned(), found);
        }
        let at = parts.get("timestamp").and_then(|text| time.unit.read(text));
        let at = at.ok_or(Refusal::MalformedProof)?;
        let age = checking.now.seconds().saturating_sub(at.seconds());
        let stale = age > i64::from(time.past) || age < -i64::from(time.future);
        checking.step(|| {
            let told = if stale { "too far from now" } else { "close enough to now" };
            format!("time: {age} s old, {told} ({} s before to {} s after)", time.past, time.future)
        });
        Ok(stale)
    }

    /// Returns whether a key has the form of this proof's keys.
    pub(super) fn takes_key(&self, key: &Key) -> bool {
        self.key_bytes(key).is_some()
    }

    fn key_bytes(&self, key: &Key) -> Option<Zeroizing<Vec<u8>>> {
        let text = key.text.trim();
        let text = self.key_prefix.as_ref().map_or(text, |prefix| text.strip_prefix(prefix.as_str()).unwrap_or(text));
        let bytes = match self.key {
            KeyForm::Text => text.as_bytes().to_vec(),
            KeyForm::Base64 => LENIENT.decode(text).ok()?,
            KeyForm::Hex => hex::decode(text).ok()?,
            KeyForm::Pem => {
                let lines = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim);
                LENIENT.decode(lines.collect::<String>()).ok()?
            }
        };
        let weak = self.algorithm == Algorithm::Ed25519 && weak::is_small_order(&bytes);
        (!bytes.is_empty() && !weak).then(|| Zeroizing::new(bytes))
    }
}

/// Returns the beginning of a text, for people.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let begin: String = text.chars().take(2_000).collect();
    let rest = if begin.len() < text.len() { " …" } else { "" };
    let lines = begin.chars().map(|letter| match letter.is_control() {
        true => letter.escape_debug().to_string(),
        false => letter.to_string(),
    });
    format!("{}{rest}", lines.collect::<String>())
}

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = lenient(&alphabet::STANDARD);
/// Base64url with or without its padding.
const LENIENT_URL: GeneralPurpose = lenient(&alphabet::URL_SAFE);

const fn lenient(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self {
            Self::Hex => hex::decode(text).ok()?,
            Self::Base64 => LENIENT.decode(text).ok()?,
            Self::Base64url => LENIENT_URL.decode(text).ok()?,
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => LENIENT.encode(bytes),
            Self::Base64url => LENIENT_URL.encode(bytes),
        }
    }
}

impl Algorithm {
    /// Returns whether it is a code or a hash with a shared secret.
    pub(super) fn is_shared(self) -> bool {
        !matches!(self, Self::Ed25519 | Self::EcdsaP256Sha256 | Self::RsaSha256)
    }

    /// Makes the code or the hash of a text, or returns `None` where only the sender can make a signature.
    pub(super) fn code(self, key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let algorithm = match self {
            Self::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
            Self::Sha256 => return Some(digest::digest(&digest::SHA256, text).as_ref().to_vec()),
            Self::Ed25519 | Self::EcdsaP256Sha256 | Self::RsaSha256 => return None,
        };
        (!key.is_empty()).then(|| hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec())
    }

    /// Returns whether a signature of a public key's owner is that of a text.
    fn verifies(self, key: &[u8], text: &[u8], given: &[u8]) -> bool {
        let algorithm: &'static dyn signature::VerificationAlgorithm = match self {
            Self::Ed25519 => &signature::ED25519,
            Self::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::RsaSha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 | Self::Sha256 => return false,
        };
        signature::UnparsedPublicKey::new(algorithm, key).verify(text, given).is_ok()
    }
}

impl Agreement {
    fn is_covered_by(&self, other: &Proof) -> bool {
        let Proof::Signed(signed) = other else { return false };
        self.equals.sources().any(|hash| signed.text.has(|source| source == hash))
    }

    /// Returns whether both values are the same, or `None` where one is missing.
    pub(super) fn agrees(&self, request: &Arrived<'_>, document: Document<'_>) -> Option<bool> {
        let parts = BTreeMap::new();
        let values = Values { request, document, parts: &parts, secret: b"" };
        let (of, equals) = (self.of.fill(&values).ok()?, self.equals.fill(&values).ok()?);
        Some(!equals.is_empty() && verify_slices_are_equal(&of, &equals).is_ok())
    }

    fn check(&self, checking: &mut Checking<'_>) -> Result<Proven, Refusal> {
        let same = self.agrees(checking.request, checking.document).ok_or(Refusal::MissingProof)?;
        checking.step(|| format!("hash: {}", if same { "the request agrees with it" } else { "another than given" }));
        let strength = match self.of.has(|source| *source == Source::Body) {
            true => Strength::Body,
            false => Strength::Caller,
        };
        // A hash alone has no key, so it is no proof of its own.
        if same { Ok(Proven { key_id: String::new(), strength }) } else { Err(Refusal::WrongProof) }
    }
}

impl Token {
    fn check(&self, checking: &mut Checking<'_>) -> Result<Proven, Refusal> {
        let values = self.at.values(checking.request, checking.document);
        let [value] = values.as_slice() else {
            checking.step(|| format!("{}: missing, or there several times", self.at));
            return Err(if values.is_empty() { Refusal::MissingProof } else { Refusal::MalformedProof });
        };
        let token = value.strip_prefix(&self.prefix).unwrap_or(value);
        let parts = BTreeMap::new();
        let filled = Values { request: checking.request, document: checking.document, parts: &parts, secret: b"" };
        let audience = match &self.audience {
            None => None,
            Some(audience) => Some(audience.text(&filled).ok_or(Refusal::Claim("aud"))?),
        };
        let rules = jwt::Rules {
            algorithm: self.algorithm,
            issuer: self.issuer.as_deref(),
            audience: audience.as_deref(),
            required: &[],
            by_kid: false,
            max_lifetime_seconds: None,
            max_age_seconds: self.greatest_age.map(i64::from),
        };
        let verified = match &self.keys {
            TokenKeys::Secrets => {
                let secrets = checking.keys.secrets.iter();
                let keys = secrets.map(|key| (key.id.as_str(), key.text.as_bytes())).collect();
                rules.verify(token, &jwt::Keys::Secrets(keys), checking.now)
            }
            TokenKeys::Jwks | TokenKeys::JwksUrl(_) => {
                let mut verified = Err(Refusal::EmptyKey);
                for key in &checking.keys.public {
                    let jwks = serde_json::from_str(&key.text).map_err(|_| Refusal::EmptyKey)?;
                    let keys = PublicKeys::from_jwks(&jwks)?;
                    verified = rules.verify(token, &jwt::Keys::Public(&keys), checking.now);
                    if !matches!(verified, Err(Refusal::WrongProof | Refusal::EmptyKey)) {
                        break;
                    }
                }
                verified
            }
        };
        checking.step(|| match &verified {
            Ok(_) => format!("{}: the token is right", self.at),
            Err(refusal) => format!("{}: {refusal}", self.at),
        });
        let verified = verified?;
        let hash = |bytes: &[u8]| hex::encode(digest::digest(&digest::SHA256, bytes));
        let hashed = [(&self.body_hash, checking.request.body), (&self.url_hash, checking.request.url.as_bytes())];
        for (claim, bytes) in hashed {
            let Some(claim) = claim else { continue };
            let same = verified.text(claim).is_some_and(|given| given.eq_ignore_ascii_case(&hash(bytes)));
            checking.step(|| format!("claim {claim}: {}", if same { "agrees" } else { "another hash" }));
            if !same {
                return Err(Refusal::Claim("the hash of the body or the URL"));
            }
        }
        let covers = self.body_hash.is_some() || (self.at == Place::Body {} && *checking.form == BodyForm::Jwt);
        let strength = if covers { Strength::Body } else { Strength::Caller };
        Ok(Proven { key_id: verified.key_id, strength })
    }
}
