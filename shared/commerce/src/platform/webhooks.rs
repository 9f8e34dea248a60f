//! The registrar's part of a platform: its settings, and the calls that manage webhooks.

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
        renewal::Renewal,
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
        return Err(Fault::Unreadable(format!("a page of more than {MAX_ENTRIES} webhooks")));
    }
    Ok(listed)
}

/// The status of a webhook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebhookStatus {
    /// The webhook delivers.
    Active,
    /// The webhook does not deliver; the platform's own word for that.
    Inactive(String),
}

impl WebhookStatus {
    /// Returns `active`, or the platform's own word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Inactive(word) => word,
        }
    }
}

/// A webhook as the platform shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// The id at the platform.
    pub id: ExternalId,
    /// The topic (`scope`) that it delivers.
    pub scope: String,
    /// The URL that it delivers to.
    pub url: String,
    /// The status.
    pub status: WebhookStatus,
    /// The number of failed deliveries since the last success, where the platform reports it.
    pub failures: Option<u64>,
}

/// One page of webhooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The webhooks.
    pub webhooks: Vec<Webhook>,
    /// `true` when there is another page.
    pub more: bool,
}

/// The registrar's part of a platform.
pub trait Setup: Sync {
    /// Reads the platform's own part of a request to connect a store.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that is refused.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError>;

    /// Returns the names of settings that connecting finds out, such as the way to a site's API. They stay when somebody
    /// sets the others and leaves them out.
    fn found_out(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the calls that manage webhooks, or `None` where webhooks are entered by hand. Listing them proves the
    /// credentials.
    fn webhooks(&self) -> Option<&'static dyn WebhookApi>;

    /// Returns the renewal of the credentials, where they expire.
    fn renewal(&self) -> Option<&'static dyn Renewal> {
        None
    }

    /// Returns the instructions for webhooks entered by hand: what to enter beside URL and secret.
    fn manual_instructions(&self) -> &'static str;
}

/// The desired form of a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// The topic that it delivers.
    pub scope: &'a str,
    /// The URL that it delivers to.
    pub url: &'a str,
    /// The secret that it signs with.
    pub secret: &'a WebhookSecret,
    /// `true` when it is to be switched on.
    pub active: bool,
}

/// The progress of a change, given the answers so far.
#[derive(Clone, Debug)]
pub enum Saving {
    /// A call to make; its answer is added to the others.
    Ask(ApiRequest),
    /// The webhook is saved.
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
    /// Returns the topics to have webhooks for, by the connection's own settings: each is the topic of a [`Webhook`].
    /// Where a webhook takes more than a topic (one product each), the text says so in the platform's own form.
    fn wanted(&self, platform: &Platform, _settings: &Map<String, Value>) -> Vec<String> {
        declared_scopes(platform).map(str::to_owned).collect()
    }

    /// Returns the URL that the webhook of a topic delivers to: the connection's delivery URL, with a query for
    /// platforms that need different URLs. The path stays the same, and the receiver ignores the query.
    fn url(&self, _scope: &str, delivery_url: &str) -> String {
        delivery_url.to_owned()
    }

    /// Returns the topic that deliveries of a webhook carry, where they do not carry all of the webhook's topic.
    fn delivers<'s>(&self, scope: &'s str) -> &'s str {
        scope
    }

    /// Returns the connection's own settings, given its webhooks.
    fn settings_with(&self, settings: Map<String, Value>, _webhooks: &[ExternalId]) -> Map<String, Value> {
        settings
    }

    /// Returns settings for another way to call the platform, if this answer to [`WebhookApi::list`] shows that the
    /// present one fails. They are tried once, and kept if they work. On [`Occasion::Connecting`], a way may be tried
    /// that exposes more of the credentials.
    fn another_way(
        &self,
        _access: &Access<'_>,
        _answer: &ApiResponse,
        _occasion: Occasion,
    ) -> Option<Map<String, Value>> {
        None
    }

    /// Builds the call that lists webhooks. It is authenticated, so it proves the credentials. Pages count from 1.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are invalid, here and below.
    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`WebhookApi::list`].
    ///
    /// # Errors
    /// [`Fault`], here and below.
    fn listed(&self, response: &ApiResponse, page: u32, now: Timestamp) -> Result<Page, Fault>;

    /// Builds the call that makes a webhook.
    ///
    /// # Errors
    /// As above.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault>;

    /// Sets URL, secret and switch of a webhook again, call after call, because some platforms take only the whole
    /// webhook, which has to be read first.
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

    /// Returns whether a webhook can be switched off. One that cannot delivers while its connection is paused, too, and
    /// its deliveries wait.
    fn switches(&self) -> bool {
        true
    }

    /// Returns whether the platform removes its webhooks, and revokes its token, when the app is uninstalled there.
    fn go_with_the_app(&self) -> bool {
        false
    }

    /// Reads the answer to [`WebhookApi::create`].
    ///
    /// # Errors
    /// As above.
    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault>;

    /// Builds the call that removes a webhook.
    ///
    /// # Errors
    /// As above.
    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`WebhookApi::delete`]. A webhook that is already gone is a success.
    ///
    /// # Errors
    /// As above.
    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault>;
}
