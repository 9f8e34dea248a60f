//! Owns the list of platforms, and the three traits that each of them implements, one for each function.
//!
//! A platform never holds a client: it says what to ask and reads what was answered, so all of it is pure. Adding one is a
//! folder beside its siblings and a line in [`PLATFORMS`].

pub mod bigcommerce;
pub mod cloudblue;
pub mod directscale;
mod lenient;
mod paging;
pub mod woocommerce;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    api::{ApiRequest, ApiResponse, Fault, Hosts},
    change::Change,
    connection::{Connection, ConnectionKey, DeletePolicy, Retention, is_meant},
    entity::{EntityKind, ExternalId},
    envelope::{Listing, Transfer},
    install::Installation,
    keys::WebhookSecret,
    outcome::Rule,
    request::{HookPath, RawRequest, has_too_many_values},
    stamp::Stamp,
    transfer::{Action, EntityProcessor, Preset, processor},
    unique::{self, Wrong},
    verify::Scheme,
};

/// All platforms.
pub static PLATFORMS: &[Platform] =
    &[bigcommerce::PLATFORM, cloudblue::PLATFORM, directscale::PLATFORM, woocommerce::PLATFORM];

/// One platform, for each of the three functions.
#[derive(Clone, Copy)]
pub struct Platform {
    /// Its name in paths, keys and metrics: `[a-z][a-z0-9-]*`.
    pub name: &'static str,
    /// Where its API is.
    pub hosts: Hosts,
    /// For the receiver.
    pub delivery: &'static dyn Delivery,
    /// For the processor.
    pub mapping: &'static dyn Mapping,
    /// For the registrar.
    pub subscriptions: &'static dyn Subscriptions,
    /// For the registrar, where merchants can install an app, which gives us the credentials.
    pub installation: Option<&'static dyn Installation>,
}

/// Finds a platform by its name.
pub fn find<'a>(platforms: &'a [Platform], name: &str) -> Option<&'a Platform> {
    platforms.iter().find(|platform| platform.name == name)
}

/// What the receiver has to know of a platform.
pub trait Delivery: Sync {
    /// The methods that it delivers with.
    fn methods(&self) -> &'static [Method] {
        &[Method::POST]
    }

    /// Whether this is a greeting that wants an answer but carries nothing. It is not proven, so nothing may follow from it.
    fn is_handshake(&self, _request: &RawRequest) -> bool {
        false
    }

    /// The platform's own name for what has happened. Where each scope has a secret of its own, it is asked before the proof,
    /// and must not look at the body; else after it.
    fn scope(&self, request: &RawRequest) -> Option<String>;

    /// What the platform calls the delivery. For people: it need not be unique. Asked after the proof.
    fn delivery_id(&self, request: &RawRequest) -> Option<String>;

    /// On whose account it happened, where the delivery says so: for people, and as good as the proof of the caller. Asked after the
    /// proof; bounded, and without control characters.
    fn user(&self, _request: &RawRequest) -> Option<String> {
        None
    }

    /// How a delivery is proven.
    fn scheme(&self) -> Scheme;

    /// Whether each scope has a secret of its own, because the platform does not sign the scope.
    fn secret_per_scope(&self) -> bool {
        false
    }

    /// Whether a proven delivery is for the connection whose path it came over, where the proof does not say so by itself. One that
    /// cannot be read is: it is put aside later, with its body.
    fn belongs(&self, _path: &HookPath, _request: &RawRequest) -> bool {
        true
    }

    /// A delivery that tells of nothing, with the scope [`PROBE`]: with it, the registrar finds out whether a delivery of this
    /// platform gets through. What proves it is added by [`crate::verify::sign`].
    fn probe(&self, path: &HookPath, now: Stamp) -> Probe;

    /// The status that the platform takes for success.
    fn accepted(&self) -> StatusCode {
        StatusCode::OK
    }

    /// How long the platform waits for an answer. Five seconds where nothing else is known: that is what HTTP clients of stores use who do not
    /// say otherwise.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// The scope of a probe. It fits the grammar of every platform's scopes, and is none of them.
pub const PROBE: &str = "commerce_hooks_probe";

/// What a platform would send, before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probe {
    /// Headers beside those of the proof, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// The claims of the token, where the proof is one.
    pub claims: Map<String, Value>,
}

/// A delivery that is to be mapped.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// Whose it is.
    pub connection: &'a ConnectionKey,
    /// The platform's own event name.
    pub scope: &'a str,
    /// What the platform calls the delivery.
    pub delivery_id: Option<&'a str>,
    /// What its scope resolved to.
    pub entity: EntityKind,
    /// What its scope says has happened.
    pub action: Action,
    /// The raw bytes.
    pub body: &'a [u8],
    /// The moment of observation.
    pub received: Stamp,
}

/// What a delivery, or a pulled answer, says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mapped {
    /// A change of one entity.
    Change(ExternalId, Change),
    /// A change that counts only if its entity is known here, alive or deleted; else it is ignored by the rule.
    IfKnown(ExternalId, Change, Rule),
    /// Only which entity it is about: all else has to be pulled.
    Pull(ExternalId),
    /// Only which entity it is about, which has to be pulled, and what the delivery alone knows of it, kept beside what is pulled.
    PullWith(ExternalId, Change),
    /// All entities of a kind that are known here and whose ids begin with one of these: they have to be asked for.
    Known(EntityKind, Vec<String>),
    /// Several entities, each of which is brought up to date alone.
    Split(Vec<Transfer>),
    /// Something in a list of the platform's, which has to be gone through.
    List(Listing),
    /// Nothing that is kept.
    Ignored(Rule),
}

/// What the names of notes begin with that hold a [`Notice`].
pub const NOTICE: &str = "notice#";

/// How long such a note is kept, in seconds.
pub const NOTICE_SECONDS: i64 = 400 * 24 * 60 * 60;
/// The kind of the [`Notice`] that the app was removed at the platform.
pub const UNINSTALLED: &str = "uninstalled";

/// What the kinds of [`Notice`]s begin with that say that a hook delivers refusals in place of entities, for whoever owns it at the platform
/// has lost his rights there; its scope follows.
pub const WITHOUT_RIGHTS: &str = "hook-without-rights#";

/// Something about a connection that the registrar has to know.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// What kind: [`UNINSTALLED`], `delivery-exception`. Of one kind, the last is kept.
    pub kind: String,
    /// For people: what the platform says beyond it. Nothing secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When it was received.
    pub received: Stamp,
}

/// Why a delivery could not be mapped. Never repeats what the body says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// The body is not what the platform documents; names the place.
    #[error("the body is not what the platform documents, at {0}")]
    Malformed(String),
    /// It holds more than anything that the platform documents; names what there is too much of.
    #[error("the body holds {0}")]
    TooLarge(String),
    /// The platform delivered an error object.
    #[error("the platform delivered its error {0} in place of the entity")]
    PlatformError(String),
}

/// Where and as whom a platform's API is called.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The store's or account's base URL, without a trailing slash.
    pub site: &'a str,
    /// The credentials, as [`Subscriptions::settings`] packed them.
    pub credentials: &'a str,
    /// The platform's own settings, as [`Subscriptions::settings`] checked them.
    pub settings: &'a Map<String, Value>,
}

/// One entity that is to be pulled.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Where and as whom.
    pub access: Access<'a>,
    /// The kind of entity.
    pub entity: EntityKind,
    /// Its id.
    pub id: &'a ExternalId,
    /// The instant before the first call.
    pub at: Stamp,
}

/// What comes next, seen the answers so far.
#[derive(Clone, Debug)]
pub enum Next {
    /// This has to be asked; its answer is added to the others.
    Ask(ApiRequest),
    /// That is all.
    Done(Mapped),
}

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What is in it.
    pub found: Vec<Transfer>,
    /// Where it goes on, in this list or in the next one.
    pub next: Option<Listing>,
}

/// Something that is to be done at the platform, by the connection's settings.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    /// What: `approve`, `fail`, `inquire`.
    pub action: String,
    /// With what; only the platform's mapping can read it.
    pub with: Value,
    /// Whether nothing can follow it.
    pub last: bool,
}

/// How far something that is done at the platform has come, seen the answers so far.
#[derive(Clone, Debug)]
pub enum Acted {
    /// This has to be asked; its answer is added to the others.
    Ask(ApiRequest),
    /// It is done, and this is the entity since.
    Done(Mapped),
    /// It is not to be done any more: the platform shows another state than the one that was decided on, which is this.
    Void(Mapped),
    /// The platform refuses it, for good; the reason, without what may be secret.
    Refused(String),
}

/// How often a platform's API may be called for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// So many calls,
    pub calls: u32,
    /// in so many seconds.
    pub seconds: u32,
}

/// How often a connection's API is called: as often as its platform allows, or a quarter of that until the connection is confirmed.
pub fn budget(mapping: &dyn Mapping, connection: &Connection) -> Budget {
    let Budget { calls, seconds } = mapping.budget();
    Budget { calls: if connection.unconfirmed { calls.div_ceil(4) } else { calls }, seconds }
}

/// What the processor has to know of a platform.
pub trait Mapping: Sync {
    /// The entity processors; their scopes are what is subscribed to.
    fn processors(&self) -> &'static [EntityProcessor];

    /// Scopes that tell of the connection itself and not of an entity: only the registrar has to know. Subscribed to as well.
    fn notices(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a delivery of one of [`Mapping::notices`].
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn notice(&self, _scope: &str, _body: &[u8], _received: Stamp) -> Result<Notice, MapError> {
        Err(MapError::Malformed("the scope: it tells the registrar nothing".into()))
    }

    /// A named rule for scopes that no entity processor declares.
    fn ignores(&self, _scope: &str) -> Option<Rule> {
        None
    }

    /// Whether deliveries can come with this scope: what is set for another one would do nothing. Where nobody knows all of them, any
    /// that can be a name is one.
    fn is_scope(&self, scope: &str) -> bool {
        let name = (1..=200).contains(&scope.len()) && !scope.chars().any(char::is_control) && scope != PROBE;
        let declares =
            self.processors().iter().any(|one| one.takes_hooks() && one.scopes.iter().any(|own| own.name == scope));
        name && (self.fallback().is_some() || declares || self.notices().contains(&scope))
    }

    /// What takes scopes that nobody knows, where they are not to be ignored.
    fn fallback(&self) -> Option<(EntityKind, Action)> {
        None
    }

    /// Whether a connection takes a delivery with these claims in its proof.
    ///
    /// # Errors
    /// The rule by which it is ignored.
    fn admits(&self, _connection: &Connection, _claims: &BTreeMap<String, String>) -> Result<(), Rule> {
        Ok(())
    }

    /// Maps a delivery.
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError>;

    /// Adds on whose account it happened, where the delivery says so and that is kept.
    fn by_user(&self, _incoming: &Incoming<'_>, _user: &str, mapped: Mapped) -> Mapped {
        mapped
    }

    /// Where the platform delivered an error in place of an entity: the list in which that entity has to be.
    fn recover(&self, _incoming: &Incoming<'_>) -> Option<Listing> {
        None
    }

    /// Whether the platform tells of deletes of what never was, such as the same id of another kind.
    fn tells_of_strangers(&self) -> bool {
        false
    }

    /// What the registrar has to know where the platform delivered an error in place of an entity.
    fn complaint(&self, _incoming: &Incoming<'_>) -> Option<Notice> {
        None
    }

    /// How often the API may be called for one connection.
    fn budget(&self) -> Budget;

    /// Asks for one entity as it is now, call after call: some need several, which make one entity (its bucket). Done with a
    /// [`Mapped::Change`], [`Mapped::IfKnown`] or [`Mapped::Ignored`].
    ///
    /// Only the platform's own not-found answer for that very resource is a delete. Any other 404 is a fault of the connection.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none, and the [`Fault`] that an answer means.
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault>;

    /// Of an entity that is not known here: the rule by which it will be ignored, as far as the answers to [`Mapping::pull`] show
    /// already. Spares the calls that would make it complete.
    fn only_if_known(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Rule> {
        None
    }

    /// The call for the next page of a list.
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn list(&self, _access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// The list of an entity for polling it: of those that have changed since a time, or of all of them. Its entries come in an
    /// order in which none is passed over when others come, go or change meanwhile; one may come twice.
    fn poll(&self, _entity: EntityKind, _since: Option<Stamp>) -> Option<Listing> {
        None
    }

    /// The call that tells how many there are of an entity, of those that are kept as wholes: children are not counted. None where
    /// the platform cannot be asked so cheaply.
    fn count(&self, _access: &Access<'_>, _entity: EntityKind) -> Option<Result<ApiRequest, Fault>> {
        None
    }

    /// Reads the answer to [`Mapping::count`].
    fn counted(&self, _response: &ApiResponse) -> Option<u64> {
        None
    }

    /// A list that is begun, where all that had changed until then was found before: what is left of it.
    fn rest_of(&self, listing: Listing, _found_until: Stamp) -> Listing {
        listing
    }

    /// Reads the answer to [`Mapping::list`].
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn listed(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        _response: &ApiResponse,
        _at: Stamp,
    ) -> Result<Listed, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// How many entries a page of a list was asked for: one that has more is none.
    fn page_size(&self, _listing: &Listing) -> usize {
        MAX_ENTRIES
    }

    /// Whether anything is to be done at the platform about this kind of entity, by the connection's settings.
    fn acts_on(&self, _entity: EntityKind, _settings: &Map<String, Value>) -> bool {
        false
    }

    /// What is to be done about an entity as it was pulled, by the connection's settings.
    fn decide(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Decision> {
        None
    }

    /// Does what was decided, call after call. The first call reads the entity again, and what is decided is done only if it
    /// still fits.
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn act(&self, _wanted: &Wanted<'_>, decision: &Decision, _answers: &[ApiResponse]) -> Result<Acted, Fault> {
        Err(Fault::Unreadable(format!("there is no action {:?}", decision.action)))
    }

    /// With the delete policy `update`: the fields that a deleted entity has, known from its id alone.
    fn deleted_fields(&self, _entity: EntityKind, _id: &ExternalId) -> Map<String, Value> {
        Map::from_iter([("status".to_owned(), json!("deleted"))])
    }
}

/// The most entities that one delivery, or one page of a list, stands for: each becomes a message. BigCommerce takes up to 1,000 price
/// records in one call, and tells of them in one delivery [`price_lists.v3.yml`, `upsertPriceListRecords`]; no page of any platform
/// has more than that.
pub const MAX_ENTRIES: usize = 1_000;

/// Maps a delivery: the only way to [`Mapping::map`] from outside of a platform's folder.
///
/// # Errors
/// [`MapError`], also for a delivery that stands for more than [`MAX_ENTRIES`].
pub fn mapped(mapping: &dyn Mapping, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    match mapping.map(incoming)? {
        Mapped::Split(parts) if parts.len() > MAX_ENTRIES => {
            Err(MapError::TooLarge(format!("more than {MAX_ENTRIES} entities")))
        }
        mapped => Ok(mapped),
    }
}

/// Reads a page of a list: the only way to [`Mapping::listed`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page of more than was asked for.
pub fn listed(
    mapping: &dyn Mapping,
    access: &Access<'_>,
    listing: &Listing,
    response: &ApiResponse,
    at: Stamp,
) -> Result<Listed, Fault> {
    let listed = mapping.listed(access, listing, response, at)?;
    let most = mapping.page_size(listing).min(MAX_ENTRIES);
    if listed.found.len() > most {
        return Err(Fault::Unreadable(format!("a page of more than the {most} entries that were asked for")));
    }
    Ok(listed)
}

/// Reads a page of subscriptions: the only way to [`Hooks::listed`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page of more than [`MAX_ENTRIES`].
pub fn subscriptions(hooks: &dyn Hooks, response: &ApiResponse, page: u32, now: Stamp) -> Result<Page, Fault> {
    let listed = hooks.listed(response, page, now)?;
    if listed.subscriptions.len() > MAX_ENTRIES {
        return Err(Fault::Unreadable(format!("a page of more than {MAX_ENTRIES} subscriptions")));
    }
    Ok(listed)
}

/// The shortest time between two polls of an entity, in seconds.
pub const MIN_POLL_SECONDS: u32 = 300;

/// What somebody sent to connect a store.
pub struct Settings {
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The credentials, in the platform's own form; none when the hooks are entered by hand.
    pub credentials: Option<Zeroizing<String>>,
    /// The platform's own settings, checked. Nothing secret.
    pub own: Map<String, Value>,
    /// Keys that the client brought, to be accepted from the platform.
    pub brought: Vec<Zeroizing<String>>,
    /// What a delete does, per entity.
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// Scopes that are not wanted.
    pub ignores: BTreeSet<String>,
    /// How scopes are resolved that only this connection's conventions explain.
    pub presets: Vec<Preset>,
    /// How often each entity is polled, in seconds; 0 is never.
    pub polls: BTreeMap<EntityKind, u32>,
    /// What becomes of the state when the connection is disconnected.
    pub retention: Retention,
}

/// What a platform's folder makes of its own part of the settings.
pub struct OwnSettings {
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The credentials, in the platform's own form.
    pub credentials: Option<Zeroizing<String>>,
    /// Everything else that is kept.
    pub own: Map<String, Value>,
    /// Keys that the client brought.
    pub brought: Vec<Zeroizing<String>>,
}

/// A setting that cannot be taken: which, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SettingsError {
    /// The field.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

impl SettingsError {
    /// Of a field.
    pub fn new(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// Reads what somebody sent to connect a store: what is the same for every platform here, the rest in the platform's folder.
///
/// # Errors
/// [`SettingsError`] for the first setting that cannot be taken.
pub fn settings(
    platform: &Platform,
    key: &ConnectionKey,
    body: &[u8],
    allow_loopback: bool,
) -> Result<Settings, SettingsError> {
    if has_too_many_values(body) {
        return Err(SettingsError::new("body", "holds more than any settings"));
    }
    let mut members = unique::object(body).map_err(|wrong| match wrong {
        Wrong::Twice(name) => SettingsError::new("body", format!("{name} is there twice; leave one of them out")),
        Wrong::TooDeep => SettingsError::new("body", "is nested too deep"),
        Wrong::Form(line) => SettingsError::new("body", format!("must be a JSON object (line {line})")),
    })?;
    let deletes: BTreeMap<EntityKind, DeletePolicy> = taken(&mut members, "deletes")?;
    let ignores: Vec<String> = taken(&mut members, "ignores")?;
    let presets: Vec<Preset> = taken(&mut members, "presets")?;
    let polls: BTreeMap<EntityKind, u32> = taken(&mut members, "polls")?;
    let retention: Retention = taken(&mut members, "retention")?;
    if let Some(entity) = deletes.keys().find(|entity| processor(platform.mapping, **entity).is_none()) {
        return Err(SettingsError::new("deletes", format!("{} has no {entity} that can be deleted", platform.name)));
    }
    for (entity, seconds) in &polls {
        if processor(platform.mapping, *entity).is_none_or(|processor| processor.polling.is_none()) {
            return Err(SettingsError::new("polls", format!("{} has no {entity} that can be polled", platform.name)));
        }
        if (1..MIN_POLL_SECONDS).contains(seconds) {
            return Err(SettingsError::new("polls", format!("must be 0 or at least {MIN_POLL_SECONDS} seconds")));
        }
    }
    check_presets(platform, &presets)?;
    check_ignores(platform, &ignores, &presets)?;
    let ignores: BTreeSet<String> = ignores.into_iter().collect();
    let OwnSettings { site, credentials, own, brought } =
        platform.subscriptions.settings(key, members, allow_loopback)?;
    let allowed = url::Url::parse(&site).is_ok_and(|site| platform.hosts.allow(&site, allow_loopback));
    if !allowed {
        return Err(SettingsError::new("site", "is on none of the platform's hosts"));
    }
    // KMS takes no more.
    if credentials.as_ref().is_some_and(|credentials| credentials.len() > MAX_CREDENTIALS_BYTES) {
        let why = format!("the credentials are longer than {MAX_CREDENTIALS_BYTES} bytes");
        return Err(SettingsError::new("body", why));
    }
    let size = json!([&deletes, &ignores, &presets, &polls, &own]).to_string().len();
    if size > MAX_SETTINGS_BYTES || deepest(&own) > MAX_SETTINGS_DEPTH {
        let why = format!("the settings must fit {MAX_SETTINGS_BYTES} bytes and {MAX_SETTINGS_DEPTH} levels");
        return Err(SettingsError::new("body", why));
    }
    Ok(Settings { site, credentials, own, brought, deletes, ignores, presets, polls, retention })
}

/// The most scopes that a connection can ignore, and the most presets that it can have: both are gone through for a delivery.
const MAX_IGNORES: usize = 500;
const MAX_PRESETS: usize = 100;
/// The longest text in a preset, in bytes.
const MAX_PRESET_BYTES: usize = 256;
/// What KMS encrypts at most, in bytes.
const MAX_CREDENTIALS_BYTES: usize = 4_096;
/// The most that settings may come to, in bytes: a connection is one item, which DynamoDB takes up to 400 KB of.
const MAX_SETTINGS_BYTES: usize = 200_000;
/// How deep they may be nested: DynamoDB takes 32 levels.
const MAX_SETTINGS_DEPTH: usize = 24;

fn deepest(members: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Object(members) => 1 + members.values().map(of).max().unwrap_or(0),
            Value::Array(elements) => 1 + elements.iter().map(of).max().unwrap_or(0),
            _ => 0,
        }
    }
    1 + members.values().map(of).max().unwrap_or(0)
}

/// Each must be able to find something: in a scope that only presets explain, at a place that there can be, before another one has.
fn check_presets(platform: &Platform, presets: &[Preset]) -> Result<(), SettingsError> {
    let wrong = |why: String| Err(SettingsError::new("presets", why));
    if presets.len() > MAX_PRESETS {
        return wrong(format!("must be {MAX_PRESETS} at most"));
    }
    for (place, preset) in presets.iter().enumerate() {
        let Preset { scope, at, prefix, entity } = preset;
        if !processor(platform.mapping, *entity).is_some_and(|processor| processor.pull) {
            return wrong(format!("{} has no {entity} that can be pulled", platform.name));
        }
        if ![scope, at, prefix].iter().all(|text| text.len() <= MAX_PRESET_BYTES && !text.chars().any(char::is_control))
        {
            return wrong(format!("no text may be longer than {MAX_PRESET_BYTES} bytes, or have control characters"));
        }
        if scope.is_empty() || scope == PROBE {
            return wrong("`scope` must be the name of an event".into());
        }
        if declared_scopes(platform.mapping).any(|declared| declared == scope) {
            return wrong(format!("{scope} needs none: {} says which entity it means", platform.name));
        }
        let escaped = at.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !escaped || !(at.is_empty() || at.starts_with('/')) {
            return wrong("`at` must be a JSON pointer, such as /id".into());
        }
        let takes_all =
            |before: &&Preset| before.scope == *scope && before.at == *at && prefix.starts_with(&before.prefix);
        if let Some(before) = presets.iter().take(place).find(takes_all) {
            return wrong(format!(
                "one for {scope} never fits: that with the prefix {:?} comes before it",
                before.prefix
            ));
        }
    }
    Ok(())
}

/// Each must mean a scope that deliveries can have.
fn check_ignores(platform: &Platform, ignores: &[String], presets: &[Preset]) -> Result<(), SettingsError> {
    let wrong = |why: String| Err(SettingsError::new("ignores", why));
    if ignores.len() > MAX_IGNORES {
        return wrong(format!("must be {MAX_IGNORES} at most"));
    }
    for pattern in ignores {
        let means_any = declared_scopes(platform.mapping).any(|scope| is_meant(pattern, scope))
            || presets.iter().any(|preset| is_meant(pattern, &preset.scope));
        if !means_any && !platform.mapping.is_scope(pattern) {
            return wrong(format!(
                "{} is no scope of {}; its name must be that of an event, or its beginning and a *",
                shown(pattern),
                platform.name
            ));
        }
    }
    Ok(())
}

/// A name that somebody gave, as far as it is worth repeating.
fn shown(name: &str) -> String {
    let long = name.chars().count() > 60;
    let short: String = name.chars().filter(|letter| !letter.is_control()).take(60).collect();
    format!("{short:?}{}", if long { " and more" } else { "" })
}

fn taken<T: serde::de::DeserializeOwned + Default>(
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<T, SettingsError> {
    let Some(value) = members.remove(name) else { return Ok(T::default()) };
    serde_json::from_value(value).map_err(|error| SettingsError::new(name, error.to_string()))
}

/// Reads a platform's own part of the settings. What is wrong is told by the name of the field: a value may be secret.
///
/// # Errors
/// [`SettingsError`].
pub fn read_own<T: serde::de::DeserializeOwned>(members: Map<String, Value>) -> Result<T, SettingsError> {
    serde_json::from_value(Value::Object(members)).map_err(|error| {
        // serde quotes names of fields in backquotes, and values elsewhere; only the names are told.
        let text = error.to_string();
        let mut quoted = text.split('`').skip(1).step_by(2);
        let kind = text.split('`').next().unwrap_or_default().trim();
        let why = match (kind, quoted.next()) {
            ("unknown field" | "missing field", Some(field)) => format!("{kind} {field}"),
            _ => "a member has the wrong type; README.md shows how they look".to_owned(),
        };
        SettingsError::new("body", why)
    })
}

/// Whether a subscription delivers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubscriptionStatus {
    /// It delivers.
    Active,
    /// It does not; the platform's own word for it.
    Inactive(String),
}

impl SubscriptionStatus {
    /// `active`, or the platform's own word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Inactive(word) => word,
        }
    }
}

/// A webhook as it is at the platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Its id at the platform.
    pub id: ExternalId,
    /// What it delivers.
    pub scope: String,
    /// Where it delivers to.
    pub url: String,
    /// Whether it delivers.
    pub status: SubscriptionStatus,
    /// How many deliveries have failed since one succeeded, where the platform tells.
    pub failures: Option<u64>,
}

/// One page of subscriptions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Whether there is another page.
    pub more: bool,
}

/// What the registrar has to know of a platform.
pub trait Subscriptions: Sync {
    /// Reads the platform's own part of what somebody sent to connect a store.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that cannot be taken.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        allow_loopback: bool,
    ) -> Result<OwnSettings, SettingsError>;

    /// The calls that manage hooks; none where they are entered by hand. Listing them proves the credentials.
    fn hooks(&self) -> Option<&'static dyn Hooks>;

    /// For a connection whose hooks are entered by hand: what to enter beside address and secret.
    fn by_hand(&self) -> &'static str;
}

/// How a subscription has to be.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// What it delivers.
    pub scope: &'a str,
    /// Where to.
    pub url: &'a str,
    /// With what it signs.
    pub secret: &'a WebhookSecret,
    /// Whether it is switched on.
    pub active: bool,
}

/// How far a change has come, seen the answers so far.
#[derive(Clone, Debug)]
pub enum Saving {
    /// This has to be asked; its answer is added to the others.
    Ask(ApiRequest),
    /// It is saved.
    Done(Subscription),
}

/// The calls that manage hooks at a platform.
pub trait Hooks: Sync {
    /// What is to be subscribed to, by the connection's own settings: each is the scope of a [`Subscription`]. Where a hook takes
    /// more than a scope (one product each), it says so in its own form.
    fn wanted(&self, mapping: &dyn Mapping, _settings: &Map<String, Value>) -> Vec<String> {
        declared_scopes(mapping).map(str::to_owned).collect()
    }

    /// Where the hook for a scope delivers to: the connection's delivery URL, possibly with a query, for platforms that want
    /// different addresses. The path stays, and the query is not looked at when it delivers.
    fn url(&self, _scope: &str, delivery_url: &str) -> String {
        delivery_url.to_owned()
    }

    /// What the deliveries of a subscription call themselves, where they do not say all that its scope does.
    fn delivers<'s>(&self, scope: &'s str) -> &'s str {
        scope
    }

    /// The connection's own settings, when these are its hooks.
    fn settings_with(&self, settings: Map<String, Value>, _hooks: &[ExternalId]) -> Map<String, Value> {
        settings
    }

    /// Settings to call the platform with in another way, where this answer to [`Hooks::list`] says that the present one does not lead
    /// there. They are tried once, and kept if they do. While `connecting`, a way may be tried that shows more of the credentials.
    fn another_way(
        &self,
        _access: &Access<'_>,
        _answer: &ApiResponse,
        _connecting: bool,
    ) -> Option<Map<String, Value>> {
        None
    }

    /// The call that lists subscriptions; an authenticated one, so that it proves the credentials. Pages count from 1.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none, here and below.
    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Hooks::list`].
    ///
    /// # Errors
    /// [`Fault`], here and below.
    fn listed(&self, response: &ApiResponse, page: u32, now: Stamp) -> Result<Page, Fault>;

    /// The call that makes a subscription.
    ///
    /// # Errors
    /// As above.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault>;

    /// Sets address, secret and switch of a subscription again, call after call: some platforms take only the whole of it, which
    /// has to be read first.
    ///
    /// # Errors
    /// As above.
    fn update(
        &self,
        access: &Access<'_>,
        id: &ExternalId,
        desired: &Desired<'_>,
        answers: &[ApiResponse],
        now: Stamp,
    ) -> Result<Saving, Fault>;

    /// Whether the platform removes its hooks, and takes its token away, when the app is uninstalled there.
    fn go_with_the_app(&self) -> bool {
        false
    }

    /// Reads the answer to [`Hooks::create`].
    ///
    /// # Errors
    /// As above.
    fn saved(&self, response: &ApiResponse, now: Stamp) -> Result<Subscription, Fault>;

    /// The call that removes a subscription.
    ///
    /// # Errors
    /// As above.
    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Hooks::delete`]. Gone already is success.
    ///
    /// # Errors
    /// As above.
    fn deleted(&self, response: &ApiResponse, now: Stamp) -> Result<(), Fault>;
}

/// All scopes that a platform's entity processors declare, and those for the registrar: what is subscribed to.
pub fn declared_scopes(mapping: &dyn Mapping) -> impl Iterator<Item = &'static str> {
    let hooked = mapping.processors().iter().filter(|processor| processor.takes_hooks());
    let entities = hooked.flat_map(|processor| processor.scopes.iter().map(|scope| scope.name));
    entities.chain(mapping.notices().iter().copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::transfer::{Direction, Resolved, Via, resolve};

    #[test]
    fn names_are_unique_and_fit_their_grammar() {
        let names: BTreeSet<_> = PLATFORMS.iter().map(|platform| platform.name).collect();
        assert_eq!(names.len(), PLATFORMS.len());
        for name in names {
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            // With a connection id of 100 it must fit a `MessageGroupId` of 128.
            assert!(name.len() <= 27, "{name}");
        }
    }

    #[test]
    fn every_declared_scope_resolves_to_exactly_one_processor_and_action() {
        for platform in PLATFORMS {
            let mut claimed = BTreeMap::new();
            for processor in platform.mapping.processors() {
                for scope in processor.scopes {
                    let before = claimed.insert(scope.name, processor.entity);
                    assert_eq!(before, None, "{} declares {} twice", platform.name, scope.name);
                    let resolved = resolve(platform.mapping, scope.name);
                    assert_eq!(resolved, Resolved::Entity(processor.entity, scope.action), "{}", scope.name);
                }
            }
            let mut declared: BTreeSet<_> = claimed.into_keys().collect();
            for scope in platform.mapping.notices() {
                assert!(declared.insert(scope), "{} declares {scope} twice", platform.name);
                assert_eq!(resolve(platform.mapping, scope), Resolved::Notice, "{scope}");
            }
            assert_eq!(declared_scopes(platform.mapping).collect::<BTreeSet<_>>(), declared);
            let unknown = match platform.mapping.fallback() {
                Some((entity, action)) => Resolved::Entity(entity, action),
                None => Resolved::Ignored(Rule::UNKNOWN_SCOPE),
            };
            assert_eq!(resolve(platform.mapping, "no.such.scope"), unknown);
        }
    }

    #[test]
    fn processors_are_consistent() {
        for platform in PLATFORMS {
            let processors = platform.mapping.processors();
            let kinds: BTreeSet<_> = processors.iter().map(|processor| processor.entity).collect();
            assert_eq!(kinds.len(), processors.len(), "{}: an entity has two processors", platform.name);
            for processor in processors {
                let name = format!("{} {}", platform.name, processor.entity);
                if processor.direction == Direction::Export {
                    assert!(processor.scopes.is_empty(), "{name} is exported and takes hooks");
                }
                let thin = processor.payload == crate::transfer::Payload::Thin;
                assert!(!thin || processor.pull, "{name} is thin and cannot be pulled");
                let children = processor.scopes.iter().any(|scope| scope.via != Via::Own);
                assert!(!children || processor.pull, "{name} stands for children and cannot be pulled");
                for other in processor.requires.iter().chain(processor.followed_by) {
                    let known = processors.iter().find(|known| known.entity == *other);
                    assert!(known.is_some_and(|known| known.pull), "{name} needs {other}, which cannot be pulled");
                }
            }
        }
    }

    fn taken_by(platform: &Platform, body: &str) -> Result<(), String> {
        let connection = match platform.name {
            "directscale" => "acme",
            "bigcommerce" => "abc123",
            "cloudblue" => "va-000-111",
            _ => "shop.example.com",
        };
        let key = HookPath::parse(platform.name, connection, None).unwrap().key;
        settings(platform, &key, body.as_bytes(), false).map(|_| ()).map_err(|error| error.field)
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused_by_name() {
        let woo = |members: &str| {
            taken_by(&woocommerce::PLATFORM, &format!(r#"{{"site":"https://a.example.com",{members}}}"#))
        };
        let preset = |scope: &str, at: &str, prefix: &str| {
            format!(r#"{{"scope":"{scope}","at":"{at}","prefix":"{prefix}","entity":"order"}}"#)
        };
        for bad in [
            r#""ignores":["order.update"]"#,
            r#""ignores":[""]"#,
            r#""ignores":["*"]"#,
            r#""ignores":["orders.*"]"#,
            r#""ignores":["order.updated","store/order/updated"]"#,
            r#""ignores":["commerce_hooks_probe"]"#,
            r#""ignores":"order.updated""#,
        ] {
            assert_eq!(woo(bad), Err("ignores".into()), "{bad}");
        }
        for bad in [
            r#""deletes":{"subscription":"remove"}"#,
            r#""deletes":{"record":"mark"}"#,
            r#""deletes":{"order":"keep"}"#,
        ] {
            assert_eq!(woo(bad), Err("deletes".into()), "{bad}");
        }
        for bad in [
            preset("order.updated", "/id", ""),
            preset("", "/id", ""),
            preset("message", "/~9", ""),
            preset("message", "/a~", ""),
            preset("message", "id", ""),
            preset(&"x".repeat(300), "/id", ""),
            preset("commerce_hooks_probe", "/id", ""),
            format!("{},{}", preset("message", "/id", "Car:"), preset("message", "/id", "Car:")),
            format!("{},{}", preset("message", "/id", ""), preset("message", "/id", "Car:")),
            vec![preset("message", "/id", ""); 101].join(","),
        ] {
            assert_eq!(woo(&format!(r#""presets":[{bad}]"#)), Err("presets".into()), "{bad:.300}");
        }
        let many: Vec<_> = (0..40_000).map(|n| format!("\"s{n}\"")).collect();
        assert_eq!(woo(&format!(r#""ignores":[{}]"#, many.join(","))), Err("ignores".into()));
        let direct = |members: &str| taken_by(&directscale::PLATFORM, &format!("{{{members}}}"));
        assert_eq!(direct(&format!(r#""ignores":[{}]"#, many.join(","))), Err("ignores".into()));
        assert_eq!(direct(r#""ignores":["2"]"#), Err("ignores".into()), "which is told by its name");
        let good = [
            r#""ignores":["order.updated","order.updated"],"deletes":{"order":"remove"}"#.to_owned(),
            r#""ignores":["order.*","message"],"presets":[{"scope":"message","entity":"order"}]"#.to_owned(),
            format!(r#""presets":[{},{}]"#, preset("message", "/id", "Car:"), preset("message", "/id", "")),
            format!(r#""presets":[{}]"#, preset("message", "/a~0b~1c/0", "")),
            format!(r#""presets":[{}]"#, preset("action.x", "", "")),
        ];
        for good in good {
            assert_eq!(woo(&good), Ok(()), "{good}");
        }
        assert_eq!(direct(r#""ignores":["AcmeRewards","CreateOrderEvent"],"deletes":{"product":"remove"}"#), Ok(()));
        assert_eq!(taken_by(&bigcommerce::PLATFORM, r#"{"ignores":["store/cart/lineItem/*"]}"#), Ok(()));
    }

    #[test]
    fn a_member_that_is_there_twice_is_not_chosen_from() {
        for body in [
            r#"{"site":"https://a.example.com","site":"https://b.example.com"}"#,
            r#"{"site":"https://a.example.com","deletes":{"order":"mark","order":"remove"}}"#,
            r#"{"site":"https://a.example.com","presets":[{"scope":"x","scope":"y","entity":"order"}]}"#,
            r#"{"site":"https://a.example.com","polls":{},"polls":{}}"#,
        ] {
            assert_eq!(taken_by(&woocommerce::PLATFORM, body), Err("body".into()), "{body}");
        }
        let own = r#"{"api_key":"ApiKey SU-1:2","products":{"PRD-1":"observe","PRD-1":"observe"}}"#;
        assert_eq!(taken_by(&cloudblue::PLATFORM, own), Err("body".into()));
    }

    #[test]
    fn settings_that_no_item_can_hold_are_refused() {
        let policy = |text: &str| {
            format!(r#"{{"api_key":"ApiKey SU-1:2","products":{{"PRD-1":[{{"fail":{{"reason":"{text}"}}}}]}}}}"#)
        };
        assert_eq!(taken_by(&cloudblue::PLATFORM, &policy("no")), Ok(()));
        assert!(taken_by(&cloudblue::PLATFORM, &policy(&"x".repeat(300_000))).is_err());
        assert_eq!(
            taken_by(&directscale::PLATFORM, &format!(r#"{{"api_key":"{}"}}"#, "k".repeat(4_096))),
            Err("body".into())
        );
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(taken_by(&woocommerce::PLATFORM, &deep), Err("body".into()));
        assert_eq!(taken_by(&woocommerce::PLATFORM, &format!("[{}1]", "1,".repeat(300_000))), Err("body".into()));
    }

    #[test]
    fn what_is_wrong_with_settings_is_told_without_their_values() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Own {
            #[expect(dead_code, reason = "only read")]
            number: u8,
        }
        let why = |value: Value| read_own::<Own>(value.as_object().cloned().unwrap_or_default()).unwrap_err().why;
        assert_eq!(why(json!({ "nmber": 1 })), "unknown field nmber");
        assert_eq!(why(json!({})), "missing field number");
        assert!(!why(json!({ "number": "s3cr3t" })).contains("s3cr3t"));
    }
}
