//! What the registrar has to know of a platform: its settings, and the calls that manage webhooks.

use serde_json::{Map, Value};

use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    key::ConnectionKey,
    keys::WebhookSecret,
    platform::{
        Platform,
        mapping::{MAX_ENTRIES, declared_scopes},
        pull::Access,
        settings::{OwnSettings, SettingsError},
    },
    timestamp::Timestamp,
};

/// Reads a page of webhooks: the only way to [`WebhookApi::listed`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page of more than [`MAX_ENTRIES`].
pub fn read_webhook_page(
    webhooks: &dyn WebhookApi,
    response: &ApiResponse,
    page: u32,
    now: Timestamp,
) -> Result<Page, Fault> {
    let listed = webhooks.listed(response, page, now)?;
    if listed.webhooks.len() > MAX_ENTRIES {
        return Err(Fault::Unreadable(format!("a page of more than {MAX_ENTRIES} subscriptions")));
    }
    Ok(listed)
}

/// Whether a webhook delivers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebhookStatus {
    /// It delivers.
    Active,
    /// It does not; the platform's own word for it.
    Inactive(String),
}

impl WebhookStatus {
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
pub struct Webhook {
    /// Its id at the platform.
    pub id: ExternalId,
    /// What it delivers.
    pub scope: String,
    /// Where it delivers to.
    pub url: String,
    /// Whether it delivers.
    pub status: WebhookStatus,
    /// How many deliveries have failed since one succeeded, where the platform tells.
    pub failures: Option<u64>,
}

/// One page of webhooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The webhooks.
    pub webhooks: Vec<Webhook>,
    /// Whether there is another page.
    pub more: bool,
}

/// What the registrar has to know of a platform.
pub trait Setup: Sync {
    /// Reads the platform's own part of what somebody sent to connect a store.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that cannot be taken.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError>;

    /// The calls that manage webhooks; none where they are entered by hand. Listing them proves the credentials.
    fn webhooks(&self) -> Option<&'static dyn WebhookApi>;

    /// For a connection whose webhooks are entered by hand: what to enter beside address and secret.
    fn manual_instructions(&self) -> &'static str;
}

/// How a webhook has to be.
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
    Done(Webhook),
}

/// The occasion on which a store's webhooks are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// The store is being connected: the credentials have just been entered, and the way to its API is still unknown.
    Connecting,
    /// The store was connected before.
    Routine,
}

/// The calls that manage webhooks at a platform.
pub trait WebhookApi: Sync {
    /// What is to be subscribed to, by the connection's own settings: each is the scope of a [`Webhook`]. Where a webhook takes
    /// more than a scope (one product each), it says so in its own form.
    fn wanted(&self, platform: &Platform, _settings: &Map<String, Value>) -> Vec<String> {
        declared_scopes(platform).map(str::to_owned).collect()
    }

    /// Where the webhook for a scope delivers to: the connection's delivery URL, possibly with a query, for platforms that want
    /// different addresses. The path stays, and the query is not looked at when it delivers.
    fn url(&self, _scope: &str, delivery_url: &str) -> String {
        delivery_url.to_owned()
    }

    /// What the deliveries of a webhook call themselves, where they do not say all that its scope does.
    fn delivers<'s>(&self, scope: &'s str) -> &'s str {
        scope
    }

    /// The connection's own settings, when these are its webhooks.
    fn settings_with(&self, settings: Map<String, Value>, _webhooks: &[ExternalId]) -> Map<String, Value> {
        settings
    }

    /// Settings to call the platform with in another way, where this answer to [`WebhookApi::list`] says that the present one does not lead
    /// there. They are tried once, and kept if they do. While connecting, a way may be tried that shows more of the credentials.
    fn another_way(
        &self,
        _access: &Access<'_>,
        _answer: &ApiResponse,
        _occasion: Occasion,
    ) -> Option<Map<String, Value>> {
        None
    }

    /// The call that lists webhooks; an authenticated one, so that it proves the credentials. Pages count from 1.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none, here and below.
    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`WebhookApi::list`].
    ///
    /// # Errors
    /// [`Fault`], here and below.
    fn listed(&self, response: &ApiResponse, page: u32, now: Timestamp) -> Result<Page, Fault>;

    /// The call that makes a webhook.
    ///
    /// # Errors
    /// As above.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault>;

    /// Sets address, secret and switch of a webhook again, call after call: some platforms take only the whole of it, which
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
        now: Timestamp,
    ) -> Result<Saving, Fault>;

    /// Whether the platform removes its webhooks, and takes its token away, when the app is uninstalled there.
    fn go_with_the_app(&self) -> bool {
        false
    }

    /// Reads the answer to [`WebhookApi::create`].
    ///
    /// # Errors
    /// As above.
    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault>;

    /// The call that removes a webhook.
    ///
    /// # Errors
    /// As above.
    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`WebhookApi::delete`]. Gone already is success.
    ///
    /// # Errors
    /// As above.
    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault>;
}
