//! The functions' log: JSON lines on standard output, among them CloudWatch's embedded metrics.
//!
//! Lines hold ids, names and counts, never secrets, signatures, tokens or bodies.

use std::{collections::BTreeMap, sync::OnceLock};

use commerce::{key::ConnectionKey, timestamp::Timestamp};
use serde_json::{Value, json};

/// Returns the namespace of the metrics: `METRICS_NAMESPACE` in the environment, or `CommerceHooks` without it. It is
/// the stack's own, so that two stacks of an account do not set off each other's alarms.
pub fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| std::env::var("METRICS_NAMESPACE").unwrap_or_else(|_| "CommerceHooks".into()))
}

/// Prints one line.
pub fn emit(line: &Value) {
    println!("{line}");
}

/// Logs that something is not as it should be, though nothing is lost.
pub fn warn(event: &str, detail: &str) {
    emit(&json!({ "level": "WARN", "event": event, "detail": detail }));
}

/// Logs that something failed.
pub fn error(event: &str, detail: &str) {
    emit(&json!({ "level": "ERROR", "event": event, "detail": detail }));
}

/// Returns counts by platform and outcome, as lines of CloudWatch's embedded metric format: one for each pair, because
/// a line has one value for each dimension. There are no other dimensions, because every further combination costs
/// money every month.
pub fn metrics(counts: &BTreeMap<(String, &'static str), u64>, now: Timestamp) -> Vec<Value> {
    counted("Messages", "outcome", counts, now)
}

/// Returns counts of drift by platform and kind of drift, as lines of the same format as [`metrics`].
pub fn differences(counts: &BTreeMap<(String, &'static str), u64>, now: Timestamp) -> Vec<Value> {
    counted("Differences", "difference", counts, now)
}

fn counted(
    metric: &str,
    dimension: &str,
    counts: &BTreeMap<(String, &'static str), u64>,
    now: Timestamp,
) -> Vec<Value> {
    counts
        .iter()
        .map(|((platform, value), count)| {
            json!({
                "_aws": {
                    "Timestamp": now.micros() / 1000,
                    "CloudWatchMetrics": [{
                        "Namespace": namespace(),
                        "Dimensions": [[dimension, "platform"]],
                        "Metrics": [{ "Name": metric, "Unit": "Count" }],
                    }],
                },
                "platform": platform,
                dimension: value,
                metric: count,
            })
        })
        .collect()
}

/// Returns counts of the places of entities that could not be read and were dropped, by platform and kind of entity, as
/// lines of the same format as [`metrics`].
pub fn unreadable(counts: &BTreeMap<(String, &'static str), u64>, now: Timestamp) -> Vec<Value> {
    counted("Unreadable", "entity", counts, now)
}

/// Returns a count about a platform, as a line of CloudWatch's embedded metric format. It counts for all platforms
/// together, too, which is what alarms watch.
pub fn count(metric: &str, platform: &str, count: u64, now: Timestamp) -> Value {
    let mut line = json!({
        "_aws": {
            "Timestamp": now.micros() / 1000,
            "CloudWatchMetrics": [{
                "Namespace": namespace(),
                "Dimensions": [[], ["platform"]],
                "Metrics": [{ "Name": metric, "Unit": "Count" }],
            }],
        },
        "platform": platform,
    });
    line[metric] = count.into();
    line
}

/// Returns the drift of a connection, the number of different entities in a million, as a line of the same format. It
/// has values by platform and by connection.
pub fn drift(key: &ConnectionKey, per_million: u64, now: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": now.micros() / 1000,
            "CloudWatchMetrics": [{
                "Namespace": namespace(),
                "Dimensions": [["platform"], ["connection", "platform"]],
                "Metrics": [{ "Name": "DriftPerMillion", "Unit": "Count" }],
            }],
        },
        "platform": key.platform,
        "connection": key.connection.to_string(),
        "DriftPerMillion": per_million,
    })
}

/// Returns a count about a platform's entity, which counts for all together, by platform, and by platform and entity.
pub fn count_entity(metric: &str, platform: &str, entity: &'static str, count: u64, now: Timestamp) -> Value {
    let mut line = self::count(metric, platform, count, now);
    line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = json!([[], ["platform"], ["entity", "platform"]]);
    line["entity"] = entity.into();
    line
}

/// Makes panics log their place and not their message, which may quote the data that caused them.
pub fn tame_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        error("panic", &place);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_of_a_platform_is_counted_of_all() {
        let line = count("Trips", "p", 2, Timestamp::from_millis(7));
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&metrics["Dimensions"], &line["platform"]), (&json!([[], ["platform"]]), &json!("p")));
        assert_eq!((&metrics["Metrics"][0]["Name"], &line["Trips"]), (&json!("Trips"), &json!(2)));
    }
}
