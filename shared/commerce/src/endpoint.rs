//! Owns the endpoints of the vendor's own application: which changes an endpoint gets, how a delivery to it is signed, and
//! when it is tried again.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    change_event::{ChangeEvent, ChangeKind},
    entity::EntityKind,
    http_call::{ApiRequest, Loopback, SiteError, site_url},
    key::ConnectionKey,
    scheme::standard_webhooks::STANDARD_HEADERS,
    timestamp::Timestamp,
};

/// The platform in the keys of endpoints' notes and secrets. No platform has this name.
const ENDPOINT: &str = "endpoint";
/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_000;
/// The time for which a delivery is tried, in seconds.
pub const TRIED_SECONDS: i64 = 3 * 24 * 60 * 60;
/// The time for which the former secret signs, too, after a new one was made, in seconds.
pub const FORMER_SECONDS: i64 = 24 * 60 * 60;
/// The number of failures in a row from which an endpoint's circuit is open.
const MAX_FAILURES: u32 = 5;
/// The longest pause of an open circuit, in seconds.
const LONGEST_PAUSE_SECONDS: i64 = 30 * 60;

/// An endpoint, as the `Connections` table holds it in the partition `endpoints`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The id.
    pub id: String,
    /// The number of writes. Each write is conditional on no other in between.
    pub revision: u64,
    /// The address, over https.
    pub url: String,
    /// The changes that it gets.
    #[serde(flatten)]
    pub filter: Filter,
    /// `true` while nothing is delivered to it. What comes meanwhile waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The time at which it was made.
    pub created: Timestamp,
    /// The secret, encrypted.
    pub secret: String,
    /// The former secret, encrypted, and the time until which it signs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<(String, Timestamp)>,
}

/// The changes that an endpoint gets. An empty set stands for all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// The platforms.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub platforms: BTreeSet<String>,
    /// The connections: `woocommerce/shop.example.com`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub connections: BTreeSet<String>,
    /// The types: `order.created`, `order.*` or `*.deleted`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub types: BTreeSet<String>,
}

impl Filter {
    /// Returns whether an event passes.
    pub fn passes(&self, event: &ChangeEvent) -> bool {
        let source = event.source.trim_start_matches('/');
        let platform = source.split('/').next().unwrap_or_default();
        let among = |set: &BTreeSet<String>, one: &str| set.is_empty() || set.contains(one);
        let is_type = |pattern: &String| {
            let (wanted, given) = (pattern.split_once('.'), event.kind.split_once('.'));
            let fits = |wanted: &str, given: &str| wanted == "*" || wanted == given;
            wanted.zip(given).is_some_and(|(wanted, given)| fits(wanted.0, given.0) && fits(wanted.1, given.1))
        };
        among(&self.platforms, platform)
            && among(&self.connections, source)
            && (self.types.is_empty() || self.types.iter().any(is_type))
    }
}

/// Returns whether a text can be one of [`Filter::types`].
pub fn is_type(pattern: &str) -> bool {
    let Some((entity, change)) = pattern.split_once('.') else { return false };
    let is_entity = entity == "*" || serde_json::from_value::<EntityKind>(entity.into()).is_ok();
    is_entity && (change == "*" || ChangeKind::ALL.iter().any(|kind| kind.as_str() == change))
}

/// Reads the address of an endpoint: https, a host name, and no credentials in it.
///
/// # Errors
/// [`SiteError`] with what is wrong.
pub fn endpoint_url(text: &str, loopback: Loopback) -> Result<Url, SiteError> {
    let url = Url::parse(text).map_err(|_| SiteError::NotAUrl)?;
    if text.len() > MAX_URL_BYTES || url.fragment().is_some() {
        return Err(SiteError::NotAUrl);
    }
    let mut origin = url.clone();
    origin.set_path("");
    origin.set_query(None);
    site_url(origin.as_str(), loopback)?;
    Ok(url)
}

/// Returns the key under which an endpoint's notes and its secret are kept. Returns `None` for a text that is no id.
pub fn endpoint_key(id: &str) -> Option<ConnectionKey> {
    Some(ConnectionKey { platform: ENDPOINT.to_owned(), connection: id.parse().ok()? })
}

/// An event on its way to an endpoint: a message of the queue of deliveries.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outgoing {
    /// The id of the endpoint.
    pub endpoint: String,
    /// The event.
    pub event: ChangeEvent,
}

impl Outgoing {
    /// Returns the message's group: the events of one subject at one endpoint go one after the other.
    pub fn group(&self) -> String {
        format!("{}-{}", self.endpoint, self.subject())
    }

    /// Returns the id by which the queue drops a message that was sent twice.
    pub fn deduplication(&self) -> String {
        hash(&[&self.endpoint, &self.event.id])
    }

    /// Returns a short name of the subject at its connection.
    pub fn subject(&self) -> String {
        hash(&[&self.event.source, &self.event.subject])
    }
}

fn hash(parts: &[&str]) -> String {
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..18])
}

/// Builds the request that delivers an event, signed as [Standard Webhooks](https://www.standardwebhooks.com) with each of
/// the secrets, which are raw bytes.
///
/// # Errors
/// An error of JSON, which no event causes.
pub fn delivery(
    url: &Url,
    event: &ChangeEvent,
    secrets: &[&[u8]],
    now: Timestamp,
) -> Result<ApiRequest, serde_json::Error> {
    let body = Bytes::from(serde_json::to_vec(event)?);
    let signatures: Vec<String> =
        secrets.iter().map(|secret| STANDARD_HEADERS.sign(secret, &event.id, now.seconds(), &body)).collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
    for (name, value) in [
        (STANDARD_HEADERS.id, event.id.clone()),
        (STANDARD_HEADERS.timestamp, now.seconds().to_string()),
        (STANDARD_HEADERS.signature, signatures.join(" ")),
    ] {
        headers.extend(HeaderValue::from_str(&value).ok().map(|value| (header::HeaderName::from_static(name), value)));
    }
    Ok(ApiRequest { method: Method::POST, url: url.clone(), headers, body })
}

/// The circuit of an endpoint: after some failures in a row, it is left alone for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Circuit {
    /// The number of failures since the last success.
    pub failures: u32,
    /// The time until which nothing is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// The time of the first failure since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Circuit {
    /// Returns the circuit after one more failure. Calls that were under way when it opened do not count.
    #[must_use]
    pub fn failed(self, now: Timestamp) -> Self {
        if self.pause_seconds(now).is_some() {
            return self;
        }
        let failures = self.failures.saturating_add(1);
        let pause = failures.checked_sub(MAX_FAILURES).map(|beyond| {
            let doubled = 60_i64.saturating_mul(1 << beyond.min(10));
            now.plus_seconds(doubled.min(LONGEST_PAUSE_SECONDS))
        });
        Self { failures, open_until: pause.or(self.open_until), since: self.since.or(Some(now)) }
    }

    /// Returns whether one more failure opened it just now, for the first time since the last success.
    pub fn has_just_opened(self) -> bool {
        self.failures == MAX_FAILURES
    }

    /// Returns the seconds for which nothing is to be delivered, if it is open.
    pub fn pause_seconds(self, now: Timestamp) -> Option<i64> {
        let until = self.open_until.filter(|until| *until > now)?;
        Some((until.seconds() - now.seconds()).max(1))
    }
}

/// Returns the pause after the nth attempt to deliver an event, if that failed, in seconds: from five seconds to half an
/// hour. Waiting for an open circuit counts as an attempt.
pub fn retry_seconds(attempt: u32) -> i64 {
    let steps = [5, 30, 120, 600];
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    steps.get(step).copied().unwrap_or(LONGEST_PAUSE_SECONDS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_circuit_opens_after_five_failures_and_for_longer_each_time() {
        let now = Timestamp::from_millis(1_795_225_781_000);
        let mut circuit = Circuit::default();
        for _ in 0..4 {
            circuit = circuit.failed(now);
            assert_eq!(circuit.pause_seconds(now), None);
        }
        circuit = circuit.failed(now);
        assert_eq!((circuit.pause_seconds(now), circuit.has_just_opened()), (Some(60), true));
        // Ten environments had a call under way.
        let after = (0..10).fold(circuit, |circuit, _| circuit.failed(now));
        assert_eq!(after, circuit);
        let (mut at, mut pauses) = (now, Vec::new());
        for _ in 0..8 {
            at = at.plus_seconds(circuit.pause_seconds(at).unwrap());
            circuit = circuit.failed(at);
            pauses.push(circuit.pause_seconds(at).unwrap());
        }
        assert_eq!(pauses, [120, 240, 480, 960, 1_800, 1_800, 1_800, 1_800]);
        assert_eq!(circuit.since, Some(now));
    }

    #[test]
    fn an_event_comes_again_later_and_later() {
        assert_eq!([1, 2, 3, 4, 5, 900].map(retry_seconds), [5, 30, 120, 600, 1_800, 1_800]);
    }

    #[test]
    fn a_type_is_an_entity_and_a_change() {
        assert!(["order.created", "order.*", "*.deleted", "*.*"].into_iter().all(is_type));
        assert!(
            ["order", "order.", "x.created", "order.x", "", "*", "order.created.x"].into_iter().all(|no| !is_type(no))
        );
    }

    #[test]
    fn only_public_addresses_over_https_are_endpoints() {
        let url = |text: &str| endpoint_url(text, Loopback::Refused).is_ok();
        assert!(url("https://app.example.com/changes?x=1") && url("https://app.example.com"));
        for refused in [
            "http://app.example.com",
            "https://127.0.0.1",
            "https://u@app.example.com",
            "https://app.example.com:444",
            "https://app.example.com/#x",
            "ftp://app.example.com",
            "app.example.com",
        ] {
            assert!(!url(refused), "{refused}");
        }
        assert!(endpoint_url("http://127.0.0.1:8080/x", Loopback::Allowed).is_ok());
    }
}
