//! Owns declarations: senders that are described as data rather than in code.
//!
//! A declaration says how a sender proves its deliveries, which handshakes it wants answered, and where a delivery has
//! its topic, ids and time. [`Declaration::examine`] applies it to one request, and tells each step in words.

mod document;
pub mod filter;
mod handshake;
pub mod map;
mod proof;
mod sender;
mod template;
mod time;
mod written;

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    document::{BodyForm, Document},
    handshake::{Answer, Answering, Code, Handshake, When},
    proof::{
        Agreement, Algorithm, Encoding, Key, KeyForm, Place, Proof, Proven, SecretHeader, Signed, Time, Token,
        TokenKeys,
    },
    sender::{KeyInput, KeyRecord, Sender, SenderRecord},
    template::{Arrived, Template, Values},
    time::Unit,
    written::{Pattern, Written},
};
use self::{
    filter::Filter,
    map::{Api, Meaning, PollCall, PullCall},
};
use crate::{
    entity::EntityKind,
    scheme::{Refusal, Strength},
    timestamp::Timestamp,
};

/// The most levels of `any`, `all` and `first-present`.
const MAX_DEPTH: usize = 3;
/// The most proofs in a declaration.
const MAX_PROOFS: usize = 16;
/// The most templates of a value.
const MAX_TEMPLATES: usize = 8;
/// The longest extracted value, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// The description of a sender.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Declaration {
    /// The sender's name.
    pub sender: String,
    /// Who says so.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// The limits and traps of the sender, and the facts that are unconfirmed.
    #[serde(default)]
    pub notes: Option<String>,
    /// The methods of deliveries.
    #[serde(default = "post")]
    pub methods: Vec<String>,
    /// The form of their bodies.
    #[serde(default)]
    pub body: BodyForm,
    /// Their proof.
    pub proof: Proof,
    /// The handshakes.
    #[serde(default)]
    pub handshakes: Vec<Handshake>,
    /// The places of topic, ids and time.
    #[serde(default)]
    pub extract: Extract,
    /// The answers to deliveries.
    #[serde(default)]
    pub answers: Answers,
    /// The parts of a body that has many, each of which is a delivery of its own.
    #[serde(default)]
    pub split: Option<Filter>,
    /// The number of the mapping. It rises when the mapping makes something else of the same delivery.
    #[serde(default = "first")]
    pub mapping: u32,
    /// The meaning of topics. The first that fits counts. Without any, each delivery is kept as a record.
    #[serde(default)]
    pub map: Vec<Meaning>,
    /// The sender's API.
    #[serde(default)]
    pub api: Option<Api>,
    /// The calls that return one entity, by its kind.
    #[serde(default)]
    pub pull: BTreeMap<EntityKind, PullCall>,
    /// The calls that list all entities of a kind.
    #[serde(default)]
    pub poll: BTreeMap<EntityKind, PollCall>,
}

/// The source of what a declaration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The provider's own documentation.
    Documentation,
    /// The provider's own library or sample.
    Library,
    /// Third parties alone, so the facts are unconfirmed.
    ThirdParty,
}

const fn first() -> u32 {
    1
}

fn post() -> Vec<String> {
    vec!["POST".to_owned()]
}

/// The places of a delivery's topic, ids and time. Of several templates, the first that has all its values counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Extract {
    /// The topic.
    #[serde(default)]
    pub topic: Vec<Template>,
    /// The id of the entity.
    #[serde(default)]
    pub id: Vec<Template>,
    /// The id of the message.
    #[serde(default)]
    pub message: Vec<Template>,
    /// The account, shop or site.
    #[serde(default)]
    pub account: Vec<Template>,
    /// The time of the event.
    #[serde(default)]
    pub time: Option<EventTime>,
}

/// The time of an event.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventTime {
    /// The value.
    pub from: Template,
    /// Its unit.
    #[serde(default)]
    pub unit: Unit,
}

/// The answers that a sender wants.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct Answers {
    /// The status for a delivery that is accepted.
    pub accepted: u16,
    /// The text for one that is accepted, where the sender waits for one; else the answer is empty.
    pub text: Option<String>,
    /// The status for one that is not proven.
    pub refused: u16,
}

impl Default for Answers {
    fn default() -> Self {
        Self { accepted: 200, text: None, refused: 401 }
    }
}

impl Answers {
    /// Returns the status for a delivery that is accepted.
    pub fn accepted(&self) -> StatusCode {
        StatusCode::from_u16(self.accepted).unwrap_or(StatusCode::OK)
    }

    /// Returns the status for a request that is not proven.
    pub fn refused(&self) -> StatusCode {
        StatusCode::from_u16(self.refused).unwrap_or(StatusCode::UNAUTHORIZED)
    }
}

/// The values of a delivery.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extracted {
    /// The topic.
    pub topic: Option<String>,
    /// The id of the entity.
    pub id: Option<String>,
    /// The id of the message.
    pub message: Option<String>,
    /// The account, shop or site.
    pub account: Option<String>,
    /// The time of the event.
    pub time: Option<Timestamp>,
}

/// The result of applying a declaration to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Examined {
    /// A handshake, and its answer.
    Handshake(Answer),
    /// A proven delivery.
    Delivery(Proven, Extracted),
    /// A request that is not proven.
    Refused(Refusal),
}

/// The error for a text that is no declaration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct DeclarationError {
    /// The place: `proof.signed.text`.
    pub place: String,
    /// The fault, and what would be right.
    pub why: String,
}

impl Declaration {
    /// Reads a declaration.
    ///
    /// # Errors
    /// [`DeclarationError`] for the first place that is wrong.
    pub fn read(value: Value) -> Result<Self, DeclarationError> {
        let read: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let place = error.path().to_string();
            DeclarationError { place, why: error.into_inner().to_string() }
        })?;
        read.check()?;
        Ok(read)
    }

    /// Checks what the types do not say.
    fn check(&self) -> Result<(), DeclarationError> {
        let wrong = |place: &str, why: &str| Err(DeclarationError { place: place.to_owned(), why: why.to_owned() });
        let mut leaves = Vec::new();
        self.proof.leaves("proof".to_owned(), &mut leaves);
        if self.proof.depth() > MAX_DEPTH || leaves.len() > MAX_PROOFS {
            return wrong("proof", &format!("has {MAX_DEPTH} levels and {MAX_PROOFS} proofs at most"));
        }
        for (place, leaf) in leaves {
            match leaf {
                Proof::Any(_) | Proof::All(_) | Proof::FirstPresent(_) => return wrong(&place, "lists no proof"),
                Proof::Hash(_) if !place.rsplit('.').next().is_some_and(|last| last.starts_with("all[")) => {
                    return wrong(&place, "a hash has no key; put it into `all`, beside a proof that has one");
                }
                Proof::Signed(signed) => signed.check_declared(&place)?,
                Proof::Query(name) if name.is_empty() => return wrong(&place, "must name a parameter"),
                _ => {}
            }
        }
        let mut leaves = Vec::new();
        self.proof.leaves("proof".to_owned(), &mut leaves);
        let has_secrets = leaves.iter().any(|(_, leaf)| leaf.keys() == Some(proof::Use::Secret));
        let unmarked =
            leaves.iter().find(|(_, leaf)| leaf.keys() == Some(proof::Use::Public) && !leaf.marks_its_keys());
        if let (true, Some((place, _))) = (has_secrets, unmarked) {
            return wrong(
                place,
                "beside a proof with a secret, needs keys in PEM or with a key-prefix, to tell public keys from secrets",
            );
        }
        if self.methods.is_empty() {
            return wrong("methods", "must name a method; leave it out for POST");
        }
        for (place, handshake) in self.handshakes.iter().enumerate() {
            let When { header, query, json, method } = &handshake.when;
            if header.is_empty() && query.is_empty() && json.is_empty() && method.as_deref().is_none_or(|m| m == "POST")
            {
                return wrong(
                    &format!("handshakes[{place}].when"),
                    "would take deliveries; name a header, query or value",
                );
            }
            if !(200..300).contains(&handshake.answer.status) {
                return wrong(&format!("handshakes[{place}].answer.status"), "must be 200 to 299");
            }
        }
        let Extract { topic, id, message, account, .. } = &self.extract;
        if [topic, id, message, account].iter().any(|templates| templates.len() > MAX_TEMPLATES) {
            return wrong("extract", &format!("each value has {MAX_TEMPLATES} templates at most"));
        }
        self.check_mapping()?;
        if !(200..300).contains(&self.answers.accepted) || !(400..500).contains(&self.answers.refused) {
            return wrong("answers", "accepted must be 200 to 299, refused 400 to 499");
        }
        if self.answers.text.as_ref().is_some_and(|text| text.len() > MAX_VALUE_BYTES) {
            return wrong("answers.text", &format!("must have {MAX_VALUE_BYTES} bytes at most"));
        }
        Ok(())
    }

    /// Checks the part about entities.
    fn check_mapping(&self) -> Result<(), DeclarationError> {
        let wrong = |place: String, why: String| Err(DeclarationError { place, why });
        if self.map.len() > map::MAX_MEANINGS {
            return wrong("map".into(), format!("has {} entries at most", map::MAX_MEANINGS));
        }
        for (at, meaning) in self.map.iter().enumerate() {
            let place = format!("map[{at}]");
            if meaning.topic.is_empty() {
                return wrong(place, "topic must name a topic, or be *".into());
            }
            let beginning = |meaning: &Meaning| meaning.topic.strip_suffix('*').map(str::to_owned);
            let before = self.map.iter().take(at).find(|before| {
                before.topic == meaning.topic || beginning(before).is_some_and(|own| meaning.topic.starts_with(&own))
            });
            if let Some(before) = before {
                return wrong(place, format!("never counts: {} comes before it", before.topic));
            }
            let pulled = self.pull.contains_key(&meaning.entity);
            let deletes = meaning.action == crate::transfer::Action::Deleted;
            if meaning.content.is_none() && !pulled && !deletes && meaning.entity != EntityKind::Record {
                let why = format!("needs content, or {0} below pull: the delivery only names the {0}", meaning.entity);
                return wrong(place, why);
            }
            if meaning.id.is_none() && self.extract.id.is_empty() && meaning.entity != EntityKind::Record {
                return wrong(place, "needs id, or extract.id".into());
            }
        }
        let calls = self.pull.keys().chain(self.poll.keys()).next();
        if let (Some(kind), None) = (calls, &self.api) {
            return wrong("api".into(), format!("must say how calls for {kind} are made"));
        }
        for (name, value) in self.api.iter().flat_map(|api| &api.headers) {
            let named = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !named || http::HeaderValue::from_str(value).is_err() {
                return wrong(format!("api.headers.{name}"), "must be a header's name and value".into());
            }
        }
        if let Some((kind, _)) = self.pull.iter().find(|(_, call)| !call.path.has("{id}")) {
            return wrong(format!("pull.{kind}.path"), "must have {id}".into());
        }
        for (kind, call) in &self.poll {
            let place = format!("poll.{kind}");
            if !self.pull.contains_key(kind) {
                return wrong(place, format!("needs pull.{kind}, because what is listed is pulled"));
            }
            let continues = call.then.as_ref().is_some_and(|then| then.has("{cursor}"));
            if call.next.is_some() != continues {
                return wrong(place, "needs next and, with {cursor}, then; or neither for one page".into());
            }
            if call.whole && call.id.is_none() {
                return wrong(place, "needs id, because its entries are whole".into());
            }
        }
        Ok(())
    }

    /// Returns whether a key has a form that a proof can use.
    pub fn takes_key(&self, key: &str) -> bool {
        let key = Key { id: String::new(), text: key.to_owned().into() };
        let told = proof::Keys::of(&self.proof, [&key]);
        let mut leaves = Vec::new();
        self.proof.leaves(String::new(), &mut leaves);
        leaves.into_iter().any(|(_, leaf)| {
            let may = match leaf.keys() {
                Some(proof::Use::Secret) => !told.secrets.is_empty(),
                Some(proof::Use::Public) => !told.public.is_empty(),
                None => false,
            };
            may && match leaf {
                Proof::Signed(signed) => signed.takes_key(&key),
                _ => true,
            }
        })
    }

    /// Returns the URL of the sender's key set, if it has one.
    pub fn key_set(&self) -> Option<&str> {
        let mut leaves = Vec::new();
        self.proof.leaves(String::new(), &mut leaves);
        leaves.into_iter().find_map(|(_, leaf)| match leaf {
            Proof::Jwt(token) => match &token.keys {
                TokenKeys::JwksUrl(url) => Some(url.as_str()),
                TokenKeys::Secrets | TokenKeys::Jwks => None,
            },
            _ => None,
        })
    }

    /// Returns the headers and query parameters of a request that the places of its values name, by these names, so that
    /// they can be read again without the request.
    pub fn noted(&self, request: &Arrived<'_>) -> BTreeMap<String, String> {
        let Extract { topic, id, message, account, time } = &self.extract;
        let templates = topic.iter().chain(id).chain(message).chain(account).chain(time.iter().map(|time| &time.from));
        templates.flat_map(|template| template.noted(request)).collect()
    }

    /// Returns the values of a document whose request is known by what was noted of it alone.
    pub fn extracted(&self, document: &[u8], noted: &BTreeMap<String, String>) -> Extracted {
        let headers = template::headers_of(noted);
        let target = template::target_of(noted);
        let constants = BTreeMap::new();
        let request = Arrived {
            method: "POST",
            target: &target,
            url: "",
            headers: &headers,
            body: document,
            constants: &constants,
        };
        self.extract.from(&request, Document::new(document))
    }

    /// Applies the declaration to a request. With `steps`, it adds each step in words; no step shows a key.
    pub fn examine(
        &self,
        request: &Arrived<'_>,
        keys: &[Key],
        now: Timestamp,
        steps: Option<&mut Vec<String>>,
    ) -> Examined {
        let Some(text) = self.body.document(request.body) else { return Examined::Refused(Refusal::MalformedProof) };
        let document = Document::new(&text);
        let wanted = steps.is_some().then(Vec::new);
        let keys = proof::Keys::of(&self.proof, keys);
        let mut checking = proof::Checking { request, form: &self.body, document, keys, now, steps: wanted };
        let examined = self.examine_with(&mut checking);
        if let (Some(steps), Some(told)) = (steps, checking.steps) {
            steps.extend(told);
        }
        examined
    }

    fn examine_with(&self, checking: &mut proof::Checking<'_>) -> Examined {
        let (request, document) = (checking.request, checking.document);
        let handshake = self.handshakes.iter().find(|handshake| handshake.fits(request, document));
        if let Some(handshake) = handshake {
            if handshake.proven
                && let Err(refusal) = self.proof.check(checking)
            {
                return Examined::Refused(refusal);
            }
            let answer = handshake.answer(request, document, &checking.keys.secrets);
            return answer.map_or(Examined::Refused(Refusal::WrongProof), Examined::Handshake);
        }
        if !self.methods.iter().any(|method| method.eq_ignore_ascii_case(request.method)) {
            return Examined::Refused(Refusal::Method);
        }
        match self.proof.check(checking) {
            Ok(proven) => Examined::Delivery(proven, self.extract.from(request, document)),
            Err(refusal) => Examined::Refused(refusal),
        }
    }
}

impl Signed {
    fn check_declared(&self, place: &str) -> Result<(), DeclarationError> {
        let wrong = |member: &str, why: &str| {
            Err(DeclarationError { place: format!("{place}.signed.{member}"), why: why.to_owned() })
        };
        let has_secret = self.text.has(|source| *source == template::Source::Secret);
        match self.algorithm {
            Algorithm::Sha256 if !has_secret => return wrong("text", "a plain hash needs {secret} in its text"),
            Algorithm::Sha256 => {}
            _ if has_secret => return wrong("text", "{secret} belongs in the text of a plain hash (sha256) alone"),
            _ => {}
        }
        if self.each.is_some() && self.strength() == Strength::Body {
            return wrong("text", "signs the whole body with each element; sign values of the element, {json:/…}");
        }
        if self.text.sources().next().is_none() {
            return wrong("text", "must have a placeholder, such as {body}");
        }
        if self.algorithm.is_shared() && self.key == KeyForm::Pem {
            return wrong("key", "PEM holds public keys; a secret is text, base64 or hex");
        }
        if !self.covers_the_time() {
            return wrong("time", "the text does not cover it, so it proves nothing; put {timestamp} into the text");
        }
        if self.id.is_none() && self.text.has(|source| *source == template::Source::Part("id".to_owned())) {
            return wrong("id", "the text has {id}; say where it is");
        }
        Ok(())
    }
}

impl Extract {
    fn from(&self, request: &Arrived<'_>, document: Document<'_>) -> Extracted {
        let parts = std::collections::BTreeMap::new();
        let values = Values { request, document, parts: &parts, secret: b"" };
        let first = |templates: &[Template]| {
            let found = templates.iter().find_map(|template| template.text(&values))?;
            ((1..=MAX_VALUE_BYTES).contains(&found.len()) && !found.chars().any(char::is_control)).then_some(found)
        };
        Extracted {
            topic: first(&self.topic),
            id: first(&self.id),
            message: first(&self.message),
            account: first(&self.account),
            time: self.time.as_ref().and_then(|time| time.unit.read(&time.from.text(&values)?)),
        }
    }
}

#[cfg(test)]
mod tests;
