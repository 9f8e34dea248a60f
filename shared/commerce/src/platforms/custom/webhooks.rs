//! The registrar's part of declared senders: the settings. Their webhooks are entered by hand.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ACCOUNT, Custom, DECLARATION};
use crate::{
    declaration::{Declaration, KeyInput, KeyRecord},
    http_call::{Loopback, site_url},
    key::ConnectionKey,
    platform::{
        settings::{OwnSender, OwnSettings, SettingsError, read_own},
        webhooks::{Setup, WebhookApi},
    },
};

/// The declarations of `presets/`, without their notes, as `make pages` writes them.
const PRESETS: &str = include_str!("../../../presets.json");
/// The most keys of a connection.
const MAX_KEYS: usize = 20;
/// The longest key, in bytes: a JWK set of several RSA keys.
const MAX_KEY_BYTES: usize = 16_384;
/// The most constants, and the longest one, in bytes.
const MAX_CONSTANTS: usize = 20;
const MAX_CONSTANT_BYTES: usize = 1_024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    preset: Option<String>,
    #[serde(default)]
    declaration: Option<Map<String, Value>>,
    #[serde(default)]
    keys: Vec<KeyInput>,
    #[serde(default)]
    constants: BTreeMap<String, String>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    credential: Option<Zeroizing<String>>,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

/// Returns the declaration of a known sender.
pub fn preset(name: &str) -> Option<Value> {
    let mut presets: Map<String, Value> = serde_json::from_str(PRESETS).unwrap_or_default();
    presets.remove(name)
}

/// Returns the declaration of a request: its own members over those of the preset that it names.
fn declaration(preset_name: Option<&str>, own: Option<Map<String, Value>>) -> Result<Value, SettingsError> {
    let mut members = match preset_name {
        None => Map::new(),
        Some(name) => match preset(name) {
            Some(Value::Object(members)) => members,
            _ => return Err(wrong("preset", "is none that is known; docs/senders.md lists them")),
        },
    };
    if own.is_none() && members.is_empty() {
        return Err(wrong("declaration", "is missing; send one, or the name of a preset, which docs/senders.md lists"));
    }
    members.extend(own.unwrap_or_default());
    Ok(Value::Object(members))
}

fn keys(input: Vec<KeyInput>, declaration: &Declaration) -> Result<Vec<KeyRecord>, SettingsError> {
    let keys = KeyInput::records(input);
    if keys.is_empty() && declaration.key_set().is_none() {
        return Err(wrong("keys", "is missing; send the sender's secret or public key, or several"));
    }
    let sized = |key: &KeyRecord| {
        (1..=MAX_KEY_BYTES).contains(&key.key.len())
            && (1..=100).contains(&key.id.len())
            && !key.id.chars().any(char::is_control)
    };
    if keys.len() > MAX_KEYS || !keys.iter().all(sized) {
        return Err(wrong(
            "keys",
            format!("must be up to {MAX_KEYS} keys of 1 to {MAX_KEY_BYTES} bytes, each with an id"),
        ));
    }
    let mut ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < keys.len() {
        return Err(wrong("keys", "has the same id twice"));
    }
    if let Some(key) = keys.iter().find(|key| !declaration.takes_key(&key.key)) {
        let id = &key.id;
        return Err(wrong("keys", format!("{id} has not the form that the declaration names for keys")));
    }
    Ok(keys)
}

impl Setup for Custom {
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let value = declaration(input.preset.as_deref(), input.declaration)?;
        let read = Declaration::read(value.clone())
            .map_err(|error| wrong("declaration", format!("{}: {}", error.place, error.why)))?;
        let keys = keys(input.keys, &read)?;
        if input.constants.len() > MAX_CONSTANTS
            || input.constants.iter().any(|(name, value)| name.len().max(value.len()) > MAX_CONSTANT_BYTES)
        {
            let why = format!("must be up to {MAX_CONSTANTS} of {MAX_CONSTANT_BYTES} bytes at most");
            return Err(wrong("constants", why));
        }
        if let Some(name) = constants(&value).into_iter().find(|name| !input.constants.contains_key(name)) {
            return Err(wrong("constants", format!("lacks {name}, which the declaration uses")));
        }
        if let Some(url) = read.key_set()
            && site_url(origin(url).as_deref().unwrap_or_default(), loopback).is_err()
        {
            return Err(wrong("declaration", "the URL of the key set must be https, with a public name"));
        }
        let declared_site = read.api.as_ref().and_then(|api| api.site.clone());
        let site = match input.site.or(declared_site) {
            Some(site) => site_url(&site, loopback).map_err(|error| wrong("site", error.to_string()))?,
            None if read.api.is_some() => return Err(wrong("site", "is missing: the declaration names no api.site")),
            // Nothing is called; the name can be nobody's [RFC 2606].
            None => format!("https://{}.invalid", label(key.connection.as_str())),
        };
        if input.credential.is_some() && read.api.is_none() {
            return Err(wrong("credential", "is of no use: the declaration has no api"));
        }
        if input.credential.as_ref().is_some_and(|credential| {
            credential.is_empty() || !credential.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        }) {
            return Err(wrong("credential", "must be visible ASCII, as a header carries it"));
        }
        let mut own = Map::from_iter([(DECLARATION.to_owned(), value.clone())]);
        if let Some(account) = &input.account {
            own.insert(ACCOUNT.to_owned(), account.as_str().into());
        }
        let sender =
            OwnSender { declaration: receiver_part(value), constants: input.constants, account: input.account, keys };
        Ok(OwnSettings { site, credentials: input.credential, own, brought: Vec::new(), sender: Some(sender) })
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        None
    }

    fn manual_instructions(&self) -> &'static str {
        "at the sender, enter delivery_url as the address of a webhook, choose its topics, and send the key that it shows \
         here in `keys`"
    }
}

/// Returns the names of the constants that a declaration cannot do without.
fn constants(declaration: &Value) -> Vec<String> {
    match declaration {
        Value::String(text) => {
            let named = text.split("{constant:").skip(1).filter_map(|rest| rest.split(['}', '|']).next());
            named.filter(|name| !name.ends_with('?')).map(str::to_owned).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(constants).collect(),
        Value::Object(members) => members.values().flat_map(constants).collect(),
        _ => Vec::new(),
    }
}

/// Returns the declaration without what the receiver has no use for, and would have to compile.
fn receiver_part(mut declaration: Value) -> Value {
    if let Value::Object(members) = &mut declaration {
        members.retain(|name, _| !matches!(name.as_str(), "split" | "map" | "mapping" | "api" | "pull" | "poll"));
    }
    declaration
}

/// Returns the origin of a URL.
fn origin(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(url.origin().ascii_serialization())
}

/// Returns a connection's id as a part of a host name.
fn label(connection: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    connection.chars().map(plain).take(60).collect::<String>().trim_matches('-').to_owned()
}
