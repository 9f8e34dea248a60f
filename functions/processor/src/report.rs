//! The report of a batch, as lines: one for the batch, a metric for each platform and outcome, a full line for each
//! thing that went wrong, and lines and metrics of drift and of unreadable parts. They hold ids, names and counts,
//! never a body.

use std::collections::BTreeMap;

use cloud::telemetry::{self, with_traces};
use commerce::{
    drift::{Drift, DriftKind},
    entity::EntityKey,
    origin::Origin,
    outcome::Outcome,
    platform::{Platform, find, mapping::processor},
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{Disposition, candidate::CLAMPED, disposition::Ended, drift::ByEntity, parse::Entry};

/// Returns one line for the batch, a metric for each platform and outcome, and a full line for each thing that went
/// wrong.
pub(crate) fn lines(entries: &[Entry<'_>], entities: usize, took_ms: i64, now: Timestamp) -> Vec<Value> {
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut traces: BTreeMap<(String, &'static str), Vec<&str>> = BTreeMap::new();
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    // Counts messages whose source time was too far ahead to be believed.
    let mut clamped = 0;
    let mut ends = Vec::new();
    let mut details = Vec::new();
    for entry in entries {
        let envelope = entry.parsed.envelope();
        let platform = envelope.map_or("unknown", |envelope| &envelope.key.platform);
        *outcomes.entry(entry.name()).or_default() += 1;
        if let Some(envelope) = envelope {
            *keys.entry(envelope.key_id.clone()).or_default() += 1;
        }
        let text = match &entry.ended.disposition {
            Disposition::Done(outcome) => {
                let counted = (platform.to_owned(), outcome.name());
                *counts.entry(counted.clone()).or_default() += 1;
                traces.entry(counted).or_default().push(entry.parsed.trace());
                outcome.to_string()
            }
            _ => entry.name().to_owned(),
        };
        ends.push(end(entry, text));
        clamped += u64::from(entry.ended.why == CLAMPED);
        details.extend(detail(entry));
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
    // The metrics are in the order of what they count.
    let metrics = telemetry::metrics(&counts, now).into_iter().zip(traces.into_values());
    lines.extend(metrics.map(|(line, traces)| with_traces(line, traces)));
    lines.extend(latencies(entries, now));
    lines.extend(details);
    lines
}

/// Returns the times from the receipt of deliveries to the state that they changed, as metrics by platform.
fn latencies(entries: &[Entry<'_>], now: Timestamp) -> Vec<Value> {
    let mut found: BTreeMap<&str, (Vec<i64>, Vec<&str>)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.ended.disposition == Disposition::Done(Outcome::Applied)) {
        let Some(envelope) = entry.parsed.envelope().filter(|envelope| envelope.origin() == Origin::Webhook) else {
            continue;
        };
        let (times, traces) = found.entry(&envelope.key.platform).or_default();
        times.push(now.millis_since(envelope.received));
        traces.push(entry.parsed.trace());
    }
    let lines = found.into_iter().flat_map(|(platform, (times, traces))| {
        let lines = telemetry::durations("ReceiptToState", platform, &times, now);
        lines.into_iter().map(move |line| with_traces(line, traces.iter().copied()))
    });
    lines.collect()
}

/// Returns what the line of a batch says of one message.
fn end(entry: &Entry<'_>, text: String) -> Value {
    let mut end = json!({ "message_id": entry.parsed.message.id, "trace": entry.parsed.trace(), "end": text });
    if let Some(entity) = entry.parsed.entity.get() {
        end["entity"] = format!("{}/{}", entity.kind, entity.id).into();
    }
    end
}

/// Returns the lines of drift: one for each connection and kind of entity, with the topics of which one should have
/// reported the change, and metrics by platform and kind of drift only.
pub(crate) fn drift_lines(platforms: &[Platform], found: &ByEntity, now: Timestamp) -> Vec<Value> {
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

/// Returns the lines of parts of entities that could not be read and were dropped: one for each entity, and metrics by
/// platform and kind of entity.
pub(crate) fn unreadable_lines(found: &[(EntityKey, Vec<String>)], now: Timestamp) -> Vec<Value> {
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

/// Returns the full line of a message that went wrong or that somebody should look into.
fn detail(entry: &Entry<'_>) -> Option<Value> {
    let (envelope, Ended { disposition, why: note }) = (entry.parsed.envelope(), &entry.ended);
    let (level, reason, why) = match disposition {
        Disposition::Done(Outcome::Quarantined(reason)) => ("ERROR", reason.name(), note),
        Disposition::Retry(reason, why) => ("WARN", reason.name(), why),
        Disposition::Done(_) if !note.is_empty() => ("WARN", "note", note),
        Disposition::Unfinished => ("WARN", "deadline", note),
        Disposition::Done(_) | Disposition::Deferred(_) => return None,
    };
    Some(json!({
        "level": level,
        "event": entry.name(),
        "reason": reason,
        "detail": why,
        "message_id": entry.parsed.message.id,
        "trace": entry.parsed.trace(),
        "attempt": entry.parsed.message.attempts,
        "platform": envelope.map(|envelope| &envelope.key.platform),
        "connection": envelope.map(|envelope| &envelope.key.connection),
        "scope": envelope.map(|envelope| &envelope.scope),
        "delivery_id": envelope.and_then(|envelope| envelope.delivery_id.as_ref()),
        "received": envelope.map(|envelope| envelope.received.to_string()),
    }))
}
