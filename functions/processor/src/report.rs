//! What a batch says: one line for all of it, a metric for each (platform, outcome), and a full line for each thing that went
//! wrong. Ids, names and counts; never a body.

use std::collections::BTreeMap;

use cloud::telemetry;
use commerce::{
    drift::{Drift, DriftKind},
    entity::EntityKey,
    envelope::Envelope,
    outcome::Outcome,
    platform::{Platform, find, mapping::processor},
    timestamp::Timestamp,
};
use serde_json::{Map, Value, json};

use crate::{End, Message, batch::ByEntity};

/// One message with its end.
pub struct Entry<'a> {
    pub message: &'a Message,
    pub end: End,
    pub why: String,
}

impl Entry<'_> {
    /// Whether the message must not be deleted from the queue.
    pub fn comes_back(&self) -> bool {
        matches!(self.end, End::Failed(..) | End::Unfinished)
    }

    fn name(&self) -> &'static str {
        match &self.end {
            End::Outcome(outcome) => outcome.name(),
            End::Deferred(_) => "deferred",
            End::Failed(..) => "failed",
            End::Unfinished => "unfinished",
        }
    }
}

pub fn lines(entries: &[Entry<'_>], entities: usize, took_ms: i64, now: Timestamp) -> Vec<Value> {
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    // Messages whose source time was not to be believed: the only note that an outcome can have.
    let mut clamped = 0;
    let mut ends = Map::new();
    let mut details = Vec::new();
    for entry in entries {
        let envelope = Envelope::parse(&entry.message.body).ok();
        let platform = envelope.as_ref().map_or("unknown", |envelope| &envelope.key.platform);
        *outcomes.entry(entry.name()).or_default() += 1;
        if let Some(envelope) = &envelope {
            *keys.entry(envelope.key_id.clone()).or_default() += 1;
        }
        let text = match &entry.end {
            End::Outcome(outcome) => {
                *counts.entry((platform.to_owned(), outcome.name())).or_default() += 1;
                outcome.to_string()
            }
            _ => entry.name().to_owned(),
        };
        ends.insert(entry.message.id.clone(), text.into());
        clamped += u64::from(
            matches!(entry.end, End::Outcome(Outcome::Applied | Outcome::Unchanged | Outcome::Superseded))
                && !entry.why.is_empty(),
        );
        details.extend(detail(entry, envelope.as_ref()));
    }
    let mut lines = vec![json!({
        "level": "INFO",
        "event": "batch",
        "messages": entries.len(),
        "entities": entities,
        "ms": took_ms,
        "outcomes": outcomes,
        "keys": keys,
        "clamped": clamped,
        "ends": ends,
    })];
    lines.extend(telemetry::metrics(&counts, now));
    lines.extend(details);
    lines
}

/// What polling found to differ: a line for each connection and kind of entity, with the scopes one of which should have told of it,
/// and metrics by platform only.
pub fn difference_lines(platforms: &[Platform], found: &ByEntity, now: Timestamp) -> Vec<Value> {
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut lines = Vec::new();
    for ((key, entity), Drift { missed, stale, unmapped, .. }) in found {
        let declared = find(platforms, &key.platform).and_then(|platform| processor(platform.mapping, *entity));
        let scopes: Vec<_> =
            declared.into_iter().flat_map(|declared| declared.scopes).map(|scope| scope.name).collect();
        lines.push(json!({
            "level": "WARN",
            "event": "differences",
            "connection": key.to_string(),
            "entity": entity,
            "scopes": scopes,
            "missed": missed,
            "stale": stale,
            "unmapped": unmapped,
        }));
        for (difference, count) in
            [(DriftKind::Missed, missed), (DriftKind::Stale, stale), (DriftKind::Unmapped, unmapped)]
        {
            if *count > 0 {
                *counts.entry((key.platform.clone(), difference.name())).or_default() += count;
            }
        }
    }
    lines.extend(telemetry::differences(&counts, now));
    lines
}

/// What of entities could not be read and was dropped: a line for each entity, and metrics by platform and kind of entity.
pub fn unreadable_lines(found: &[(EntityKey, Vec<String>)], now: Timestamp) -> Vec<Value> {
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut lines = Vec::new();
    for (key, places) in found {
        *counts.entry((key.connection.platform.clone(), key.kind.as_str())).or_default() += places.len() as u64;
        lines.push(json!({
            "level": "WARN",
            "event": "unreadable",
            "connection": key.connection.to_string(),
            "entity": key.kind,
            "id": key.id,
            "places": places,
        }));
    }
    lines.extend(telemetry::unreadable(&counts, now));
    lines
}

/// A full line, for what went wrong and for what somebody should look into.
fn detail(entry: &Entry<'_>, envelope: Option<&Envelope>) -> Option<Value> {
    let (level, reason, why) = match &entry.end {
        End::Outcome(Outcome::Quarantined(reason)) => ("ERROR", reason.name(), &entry.why),
        End::Failed(reason, why) => ("WARN", reason.name(), why),
        End::Outcome(_) if !entry.why.is_empty() => ("WARN", "note", &entry.why),
        End::Unfinished => ("WARN", "deadline", &entry.why),
        End::Outcome(_) | End::Deferred(_) => return None,
    };
    Some(json!({
        "level": level,
        "event": entry.name(),
        "reason": reason,
        "detail": why,
        "message_id": entry.message.id,
        "attempt": entry.message.attempts,
        "platform": envelope.map(|envelope| &envelope.key.platform),
        "connection": envelope.map(|envelope| &envelope.key.connection),
        "scope": envelope.map(|envelope| &envelope.scope),
        "delivery_id": envelope.and_then(|envelope| envelope.delivery_id.as_ref()),
        "received": envelope.map(|envelope| envelope.received.to_string()),
    }))
}
