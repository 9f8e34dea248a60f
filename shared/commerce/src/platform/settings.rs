//! The settings of a connection: the common ones are read here, the others in the platform's folder.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    connection::{DeletePolicy, Retention, is_meant},
    declaration::{KeyRecord, SenderRecord},
    entity::EntityKind,
    http_call::Loopback,
    json::{self, JsonError},
    key::ConnectionKey,
    platform::{
        Platform,
        delivery::PROBE,
        mapping::{declared_scopes, is_scope, processor},
    },
    request::has_too_many_values,
    transfer::Preset,
};

/// The shortest time between two polls of an entity, in seconds.
pub const MIN_POLL_SECONDS: u32 = 300;

/// The settings of a connection, as a request has them.
pub struct Settings {
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The credentials, in the platform's own form; none when the webhooks are entered by hand.
    pub credentials: Option<Zeroizing<String>>,
    /// The platform's own settings, checked. Nothing secret.
    pub own: Map<String, Value>,
    /// Keys that the client brought, to be accepted from the platform.
    pub brought: Vec<Zeroizing<String>>,
    /// The sender, where the connection declares it.
    pub sender: Option<OwnSender>,
    /// The effect of a delete, by kind of entity.
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// The topics (`scope`) that are not wanted.
    pub ignores: BTreeSet<String>,
    /// The rules for topics that only this connection's conventions explain.
    pub presets: Vec<Preset>,
    /// The time between two polls of each kind of entity, in seconds; 0 means never.
    pub polls: BTreeMap<EntityKind, u32>,
    /// The fate of the state after a disconnection.
    pub retention: Retention,
}

/// The platform's own part of the settings, as its folder checked it.
pub struct OwnSettings {
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The credentials, in the platform's own form.
    pub credentials: Option<Zeroizing<String>>,
    /// Everything else that is kept.
    pub own: Map<String, Value>,
    /// Keys that the client brought.
    pub brought: Vec<Zeroizing<String>>,
    /// The sender, where the connection declares it.
    pub sender: Option<OwnSender>,
}

/// A declared sender, before it is known where it delivers to.
pub struct OwnSender {
    /// The declaration, as far as the receiver needs it.
    pub declaration: Value,
    /// The constants of the connection.
    pub constants: BTreeMap<String, String>,
    /// The account, shop or site that deliveries have to be of.
    pub account: Option<String>,
    /// The keys.
    pub keys: Vec<KeyRecord>,
}

impl OwnSender {
    /// Returns the record of the sender, which delivers to a URL.
    pub fn at(&self, url: &str) -> SenderRecord {
        let Self { declaration, constants, account, keys } = self;
        SenderRecord {
            declaration: declaration.clone(),
            url: url.to_owned(),
            constants: constants.clone(),
            account: account.clone(),
            keys: keys.clone(),
        }
    }
}

/// The refusal of a setting.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SettingsError {
    /// The field.
    pub field: String,
    /// The fault, and what would be right.
    pub why: String,
}

impl SettingsError {
    /// Refuses a field.
    pub fn new(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// Reads the settings of a request: the common ones here, the others in the platform's folder.
///
/// # Errors
/// [`SettingsError`] for the first setting that is refused.
pub fn settings(
    platform: &Platform,
    key: &ConnectionKey,
    body: &[u8],
    loopback: Loopback,
) -> Result<Settings, SettingsError> {
    if has_too_many_values(body) {
        return Err(SettingsError::new("body", "holds more than any settings"));
    }
    let mut members = json::object(body).map_err(|wrong| match wrong {
        JsonError::Twice(name) => SettingsError::new("body", format!("{name} is there twice; leave one of them out")),
        JsonError::TooDeep => SettingsError::new("body", "is nested too deep"),
        JsonError::Form(line) => SettingsError::new("body", format!("must be a JSON object (line {line})")),
    })?;
    let deletes: BTreeMap<EntityKind, DeletePolicy> = taken(&mut members, "deletes")?;
    let ignores: Vec<String> = taken(&mut members, "ignores")?;
    let presets: Vec<Preset> = taken(&mut members, "presets")?;
    let polls: BTreeMap<EntityKind, u32> = taken(&mut members, "polls")?;
    let retention: Retention = taken(&mut members, "retention")?;
    if let Some(entity) = deletes.keys().find(|entity| processor(platform.mapping, **entity).is_none()) {
        return Err(SettingsError::new("deletes", format!("{} has no {entity} that can be deleted", platform.name)));
    }
    check_presets(platform, &presets)?;
    check_ignores(platform, &ignores, &presets)?;
    let ignores: BTreeSet<String> = ignores.into_iter().collect();
    let OwnSettings { site, credentials, own, brought, sender } = platform.setup.settings(key, members, loopback)?;
    for (entity, seconds) in &polls {
        let listed = processor(platform.mapping, *entity).is_some_and(|processor| processor.polling.is_some())
            && platform.lists.is_some_and(|lists| lists.polls(&own, *entity));
        if !listed {
            return Err(SettingsError::new("polls", format!("{} has no {entity} that can be polled", platform.name)));
        }
        if (1..MIN_POLL_SECONDS).contains(seconds) {
            return Err(SettingsError::new("polls", format!("must be 0 or at least {MIN_POLL_SECONDS} seconds")));
        }
    }
    let allowed = url::Url::parse(&site).is_ok_and(|site| platform.hosts.allow(&site, loopback));
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
    Ok(Settings { site, credentials, own, brought, sender, deletes, ignores, presets, polls, retention })
}

/// The most topics that a connection can ignore: every delivery is compared with all.
const MAX_IGNORES: usize = 500;

/// The most presets of a connection: every delivery is compared with all.
const MAX_PRESETS: usize = 100;

/// The longest text in a preset, in bytes.
const MAX_PRESET_BYTES: usize = 256;

/// The most that KMS encrypts, in bytes.
const MAX_CREDENTIALS_BYTES: usize = 4_096;

/// The largest settings, in bytes: a connection is one item, and DynamoDB's limit is 400 KB.
const MAX_SETTINGS_BYTES: usize = 200_000;

/// The deepest settings, in levels: DynamoDB's limit is 32.
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

/// Checks that each preset can apply: to a topic that only presets explain, at a valid place, and not behind another one
/// that always applies first.
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
        if declared_scopes(platform).any(|declared| declared == scope) {
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

/// Checks that each pattern means a topic that deliveries can have.
fn check_ignores(platform: &Platform, ignores: &[String], presets: &[Preset]) -> Result<(), SettingsError> {
    let wrong = |why: String| Err(SettingsError::new("ignores", why));
    if ignores.len() > MAX_IGNORES {
        return wrong(format!("must be {MAX_IGNORES} at most"));
    }
    for pattern in ignores {
        let means_any = declared_scopes(platform).any(|scope| is_meant(pattern, scope))
            || presets.iter().any(|preset| is_meant(pattern, &preset.scope));
        if !means_any && !is_scope(platform, pattern) {
            return wrong(format!(
                "{} is no topic of {}; name one, or its beginning and a *",
                shown(pattern),
                platform.name
            ));
        }
    }
    Ok(())
}

/// Returns the beginning of a name that a request gave, without control characters.
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

/// The setting that lists the permissions that a store did not grant, for those who look at the connection.
pub const MISSING_PERMISSIONS: &str = "missing_permissions";

/// Returns the setting [`MISSING_PERMISSIONS`], or none where nothing is missing. `what` is the platform's word for
/// permissions.
///
/// # Errors
/// [`SettingsError`] for more names than any platform has, or for one that is none.
pub fn missing_permissions(names: Vec<String>, what: &str) -> Result<Map<String, Value>, SettingsError> {
    let is_name = |name: &String| name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if names.len() > 20 || !names.iter().all(is_name) {
        return Err(SettingsError::new(MISSING_PERMISSIONS, format!("must be names of {what}")));
    }
    let setting = (!names.is_empty()).then(|| (MISSING_PERMISSIONS.to_owned(), names.into()));
    Ok(setting.into_iter().collect())
}

/// Reads a platform's own part of the settings. An error names the field only, because its value may be secret.
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
            _ => "a member has the wrong type; docs/platforms/ has a page that shows every setting".to_owned(),
        };
        SettingsError::new("body", why)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
