//! The registrar's part of Shopify: settings, and the calls that manage webhooks.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    api::{Credentials, call, check, gid, shop},
    queries::{WEBHOOK_CREATE, WEBHOOK_DELETE, WEBHOOK_UPDATE, WEBHOOKS},
    scopes::{COMPLIANCE, permission},
    wire::{Answer, Hook, Nodes, Saved},
};
use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback, site_url},
    key::ConnectionKey,
    keys::WebhookSecret,
    platform::{
        Platform, lenient,
        mapping::declared_scopes,
        pull::Access,
        renewal::Renewal,
        settings::{MISSING_PERMISSIONS, OwnSettings, SettingsError, missing_permissions, read_own},
        webhooks::{Desired, Page, Saving, Setup, Webhook, WebhookApi, WebhookStatus},
    },
    platforms::shopify::{PLATFORM, Shopify},
    timestamp::Timestamp,
};

/// The most webhooks that one call lists.
const PAGE: usize = 250;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    access_token: Option<Zeroizing<String>>,
    #[serde(default)]
    refresh_token: Option<Zeroizing<String>>,
    /// The time at which the access token expires, in seconds since 1970.
    #[serde(default)]
    expires_at: Option<i64>,
    /// The permissions that the shop did not grant, as the installation found out.
    #[serde(default)]
    missing_permissions: Vec<String>,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

/// Checks a token.
fn token(field: &str, token: &str) -> Result<(), SettingsError> {
    let legal = (1..=500).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { Ok(()) } else { Err(wrong(field, "must be as Shopify gave it, without spaces")) }
}

impl Setup for Shopify {
    /// Reads the settings. The connection's id is the shop's own host, so the site follows from it.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        if shop(key.connection.as_str()).is_none() {
            return Err(wrong("connection", "must be the shop's own host, such as my-shop.myshopify.com"));
        }
        let site = match input.site {
            None => format!("https://{}", key.connection),
            Some(_) if loopback == Loopback::Refused => {
                return Err(wrong("site", "follows from the connection's id, which is the shop's host; leave it out"));
            }
            Some(site) => site_url(&site, Loopback::Allowed).map_err(|error| wrong("site", error.to_string()))?,
        };
        let credentials = match input.access_token {
            None if input.refresh_token.is_some() || input.expires_at.is_some() => {
                return Err(wrong("access_token", "is missing beside what belongs to it"));
            }
            None => None,
            Some(access) => {
                token("access_token", &access)?;
                if input.refresh_token.is_some() != input.expires_at.is_some() {
                    return Err(wrong(
                        "refresh_token",
                        "and expires_at belong together: a token that expires has both",
                    ));
                }
                if let Some(refresh) = &input.refresh_token {
                    token("refresh_token", refresh)?;
                }
                let credentials = Credentials {
                    access_token: access.to_string(),
                    refresh_token: input.refresh_token.as_ref().map(|token| token.to_string()),
                    expires_at: input.expires_at,
                };
                let text =
                    serde_json::to_string(&credentials).map_err(|_| wrong("access_token", "cannot be written"))?;
                Some(Zeroizing::new(text))
            }
        };
        let own = missing_permissions(input.missing_permissions, "access scopes")?;
        Ok(OwnSettings { site, credentials, own, brought: Vec::new(), sender: None })
    }

    fn found_out(&self) -> &'static [&'static str] {
        &[MISSING_PERMISSIONS]
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        Some(&Self)
    }

    fn renewal(&self) -> Option<&'static dyn Renewal> {
        Some(&Self)
    }

    fn manual_instructions(&self) -> &'static str {
        "make a webhook for each topic with webhookSubscriptionCreate of the Admin GraphQL API, with a token of the app: \
         the topic, the delivery_url as its uri, and the format JSON. It signs with the app's client secret, which has to \
         be in AppCredentials. The compliance topics have no webhooks: enter {this API}/apps/shopify/compliance as their \
         address in the app's configuration"
    }
}

/// The calls of the Admin GraphQL API. A token sees only the webhooks of its own app.
impl WebhookApi for Shopify {
    /// Returns the topics that webhooks can be made for, without those whose permission the shop did not grant.
    fn wanted(&self, platform: &Platform, settings: &Map<String, Value>) -> Vec<String> {
        let missing = settings.get(MISSING_PERMISSIONS).and_then(Value::as_array);
        let lacks = |scope: &str| {
            let needed = permission(scope);
            needed.is_some_and(|needed| missing.is_some_and(|missing| missing.iter().any(|one| one == needed)))
        };
        let scopes = declared_scopes(platform).filter(|scope| !COMPLIANCE.contains(scope) && !lacks(scope));
        scopes.map(str::to_owned).collect()
    }

    /// Returns `false`: a webhook delivers for as long as it exists.
    fn switches(&self) -> bool {
        false
    }

    fn list(&self, access: &Access<'_>, _page: u32) -> Result<ApiRequest, Fault> {
        call(access, WEBHOOKS, &json!({ "first": PAGE }))
    }

    fn listed(&self, response: &ApiResponse, _page: u32, now: Timestamp) -> Result<Page, Fault> {
        check(response, now)?;
        let answer: Answer<Nodes<Hook>> = lenient::read(&response.body)?;
        let Nodes { nodes, page_info } = answer.data.one;
        // Pages go by cursors, and an app has a webhook or two for each topic.
        if page_info.has_next_page {
            return Err(Fault::Unreadable(format!("more than {PAGE} webhooks of one app")));
        }
        Ok(Page { webhooks: nodes.into_iter().map(read_webhook).collect(), more: false })
    }

    /// Builds the call that makes a webhook. A second one of the same topic and address is refused.
    fn create(
        &self,
        access: &Access<'_>,
        scope: &str,
        url: &str,
        _secret: &WebhookSecret,
    ) -> Result<ApiRequest, Fault> {
        let webhook = json!({ "uri": url, "format": "JSON" });
        call(access, WEBHOOK_CREATE, &json!({ "topic": topic(scope), "webhook": webhook }))
    }

    fn update(
        &self,
        access: &Access<'_>,
        id: &ExternalId,
        desired: &Desired<'_>,
        answers: &[ApiResponse],
        now: Timestamp,
    ) -> Result<Saving, Fault> {
        if let Some(answer) = answers.first() {
            return self.saved(answer, now).map(Saving::Done);
        }
        let variables = json!({ "id": gid("WebhookSubscription", id)?, "webhook": { "uri": desired.url } });
        call(access, WEBHOOK_UPDATE, &variables).map(Saving::Ask)
    }

    /// Returns `true`: Shopify removes the app's webhooks, and its token is invalid.
    fn go_with_the_app(&self) -> bool {
        true
    }

    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault> {
        check(response, now)?;
        let answer: Answer<Saved> = lenient::read(&response.body)?;
        let Saved { webhook_subscription, user_errors, .. } = answer.data.one;
        match (webhook_subscription, user_errors.is_empty()) {
            (Some(webhook), true) => Ok(read_webhook(webhook)),
            (_, false) => Err(Fault::Connection(
                "Shopify refuses the webhook: there is another one of the same topic and address, or the app lacks the \
                 topic's permission"
                    .into(),
            )),
            (None, true) => Err(Fault::Unreadable("the webhook that was saved".into())),
        }
    }

    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault> {
        call(access, WEBHOOK_DELETE, &json!({ "id": gid("WebhookSubscription", id)? }))
    }

    /// Reads the answer to a removal. With a refused token, no webhook is left. An error about the id means that there
    /// is no such webhook.
    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault> {
        if matches!(response.status, 401 | 403) {
            return Ok(());
        }
        check(response, now)?;
        let answer: Answer<Saved> = lenient::read(&response.body)?;
        let Saved { deleted_webhook_subscription_id: deleted, user_errors, .. } = answer.data.one;
        let about_id = |field: &Option<Vec<String>>| field.as_ref().is_some_and(|field| field == &["id"]);
        match user_errors.iter().all(|error| about_id(&error.field)) && (deleted.is_some() || !user_errors.is_empty()) {
            true => Ok(()),
            false => Err(Fault::Unreadable("the removal of a webhook".into())),
        }
    }
}

/// Returns GraphQL's name of a topic: `ORDERS_CREATE` for `orders/create`.
fn topic(scope: &str) -> String {
    scope.replace('/', "_").to_ascii_uppercase()
}

fn read_webhook(webhook: Hook) -> Webhook {
    let scope = declared_scopes(&PLATFORM).find(|scope| topic(scope) == webhook.topic);
    let scope = scope.map_or_else(|| webhook.topic.to_ascii_lowercase(), str::to_owned);
    let url = webhook.uri.unwrap_or_default();
    Webhook { id: webhook.id, scope, url, status: WebhookStatus::Active, failures: None }
}
