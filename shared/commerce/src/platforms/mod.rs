//! Owns the list of platforms, and the three traits that each of them implements, one for each function.
//!
//! A platform never holds a client: it says what to ask and reads what was answered, so all of it is pure. Adding one is a
//! folder beside its siblings and a line in [`PLATFORMS`].

pub mod woocommerce;

use std::collections::BTreeMap;

use http::StatusCode;
use zeroize::Zeroizing;

use crate::{
    api::{ApiRequest, ApiResponse, Fault},
    change::Change,
    connection::DeletePolicy,
    entity::{EntityKind, ExternalId},
    keys::WebhookSecret,
    outcome::Rule,
    request::RawRequest,
    stamp::Stamp,
    transfer::{Action, EntityProcessor},
    verify::Scheme,
};

/// All platforms.
pub static PLATFORMS: &[Platform] = &[woocommerce::PLATFORM];

/// One platform, for each of the three functions.
#[derive(Clone, Copy)]
pub struct Platform {
    /// Its name in paths, keys and metrics: `[a-z][a-z0-9-]*`.
    pub name: &'static str,
    /// For the receiver.
    pub delivery: &'static dyn Delivery,
    /// For the processor.
    pub mapping: &'static dyn Mapping,
    /// For the registrar.
    pub subscriptions: &'static dyn Subscriptions,
}

/// Finds a platform by its name.
pub fn find<'a>(platforms: &'a [Platform], name: &str) -> Option<&'a Platform> {
    platforms.iter().find(|platform| platform.name == name)
}

/// What the receiver has to know of a platform.
pub trait Delivery: Sync {
    /// Whether this is a greeting that wants an answer but carries nothing. It is not proven, so nothing may follow from it.
    fn is_handshake(&self, request: &RawRequest) -> bool;

    /// The platform's own name for what has happened; believed only after the proof.
    fn scope(&self, request: &RawRequest) -> Option<String>;

    /// What the platform calls the delivery. For people: it need not be unique.
    fn delivery_id(&self, request: &RawRequest) -> Option<String>;

    /// How a delivery is proven.
    fn scheme(&self) -> Scheme;

    /// Whether each scope has a secret of its own, because the platform does not sign the scope.
    fn secret_per_scope(&self) -> bool;

    /// The status that the platform takes for success.
    fn accepted(&self) -> StatusCode;
}

/// A delivery that is to be mapped.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
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
    /// Nothing that is kept.
    Ignored(Rule),
}

/// Why a delivery could not be mapped. Never repeats what the body says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// The body is not what the platform documents; names the place.
    #[error("the body is not what the platform documents, at {0}")]
    Malformed(String),
    /// The platform delivered an error object.
    #[error("the platform delivered its error {0} in place of the entity")]
    PlatformError(String),
}

/// Where and as whom a platform's API is called.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The store's or account's base URL, without a trailing slash.
    pub site: &'a str,
    /// The credentials, as [`Settings::credentials`] packed them.
    pub credentials: &'a str,
}

/// What the processor has to know of a platform.
pub trait Mapping: Sync {
    /// The entity processors; their scopes are what is subscribed to.
    fn processors(&self) -> &'static [EntityProcessor];

    /// A named rule for scopes that no entity processor declares.
    fn ignores(&self, scope: &str) -> Option<Rule>;

    /// Maps a delivery to a change.
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError>;

    /// The call that asks for one entity as it is now.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none.
    fn pull(&self, access: &Access<'_>, entity: EntityKind, id: &ExternalId) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Mapping::pull`]. `at` is the instant before the call.
    ///
    /// Only the platform's own not-found answer for that very resource is a delete. Any other 404 is a fault of the connection.
    ///
    /// # Errors
    /// [`Fault`].
    fn pulled(&self, entity: EntityKind, id: &ExternalId, at: Stamp, response: &ApiResponse) -> Result<Mapped, Fault>;
}

/// What somebody sent to connect a store.
pub struct Settings {
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The credentials, in the platform's own form; none when the hooks are entered by hand.
    pub credentials: Option<Zeroizing<String>>,
    /// What a delete does, per entity.
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
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
    /// Reads what somebody sent to connect a store.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that cannot be taken.
    fn settings(&self, body: &[u8], allow_loopback: bool) -> Result<Settings, SettingsError>;

    /// The call that lists subscriptions; an authenticated one, so that it proves the credentials. Pages count from 1.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none, here and below.
    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Subscriptions::list`].
    ///
    /// # Errors
    /// [`Fault`], here and below.
    fn listed(&self, response: &ApiResponse, page: u32, now: Stamp) -> Result<Page, Fault>;

    /// The call that makes a subscription.
    ///
    /// # Errors
    /// As above.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault>;

    /// The call that sets address, secret and active status of a subscription again.
    ///
    /// # Errors
    /// As above.
    fn update(
        &self,
        access: &Access<'_>,
        id: &ExternalId,
        scope: &str,
        url: &str,
        secret: &WebhookSecret,
    ) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Subscriptions::create`] and [`Subscriptions::update`].
    ///
    /// # Errors
    /// As above.
    fn saved(&self, response: &ApiResponse, now: Stamp) -> Result<Subscription, Fault>;

    /// The call that removes a subscription.
    ///
    /// # Errors
    /// As above.
    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Subscriptions::delete`]. Gone already is success.
    ///
    /// # Errors
    /// As above.
    fn deleted(&self, response: &ApiResponse, now: Stamp) -> Result<(), Fault>;
}

/// All scopes that a platform's entity processors declare: what is subscribed to.
pub fn declared_scopes(mapping: &dyn Mapping) -> impl Iterator<Item = &'static str> {
    mapping.processors().iter().flat_map(|processor| processor.scopes.iter().map(|(scope, _)| *scope))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::transfer::{Resolved, resolve};

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
    fn every_declared_scope_resolves_to_exactly_one_processor() {
        for platform in PLATFORMS {
            let scopes: Vec<_> = declared_scopes(platform.mapping).collect();
            let distinct: BTreeSet<_> = scopes.iter().collect();
            assert_eq!(distinct.len(), scopes.len(), "{} declares a scope twice", platform.name);
            for scope in scopes {
                assert!(matches!(resolve(platform.mapping, scope), Resolved::Entity(..)), "{} {scope}", platform.name);
            }
            assert_eq!(resolve(platform.mapping, "no.such.scope"), Resolved::Ignored(Rule::UNKNOWN_SCOPE));
        }
    }
}
