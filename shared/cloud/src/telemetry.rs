//! The functions' log: JSON lines on standard output, among them CloudWatch's embedded metrics.
//!
//! Lines hold ids, names and counts, never secrets, signatures, tokens or bodies. Each line names the traces that it
//! belongs to: the ids of the deliveries, or of the calls, that it is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use commerce::{key::ConnectionKey, timestamp::Timestamp};
use serde_json::{Value, json};

/// Returns the namespace of the metrics: `METRICS_NAMESPACE` in the environment, or `CommerceHooks` without it. It is
/// the stack's own, so that two stacks of an account do not set off each other's alarms.
pub fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| std::env::var("METRICS_NAMESPACE").unwrap_or_else(|_| "CommerceHooks".into()))
}

tokio::task_local! {
    /// The traces that the work at hand belongs to.
    static TRACES: Arc<[String]>;
    /// The lines that a test keeps.
    static KEPT: Arc<Mutex<Vec<Value>>>;
}

/// Runs work of which each line of the log names these traces. The work is on the heap, so that what awaits it stays small.
pub fn traced<T>(traces: impl IntoIterator<Item = String>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    TRACES.scope(traces.into_iter().collect(), Box::pin(work))
}

/// Returns a line that names these traces: one as `trace`, several as `traces`, each once. A line that names its own
/// stays as it is.
pub fn with_traces<'a>(mut line: Value, traces: impl IntoIterator<Item = &'a str>) -> Value {
    if line.get("trace").is_some() || line.get("traces").is_some() {
        return line;
    }
    let traces: BTreeSet<&str> = traces.into_iter().collect();
    match traces.first().filter(|_| traces.len() == 1) {
        Some(trace) => line["trace"] = (*trace).into(),
        None if traces.is_empty() => {}
        None => line["traces"] = json!(traces),
    }
    line
}

/// Runs work, and returns the lines that it logs in place of printing them. Tests read them.
pub async fn kept<T>(work: impl Future<Output = T>) -> (T, Vec<Value>) {
    let lines = Arc::default();
    let done = KEPT.scope(Arc::clone(&lines), work).await;
    (done, std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Prints one line, with the traces of the work at hand.
pub fn emit(line: &Value) {
    let traced = TRACES.try_with(|traces| with_traces(line.clone(), traces.iter().map(String::as_str)));
    let line = traced.unwrap_or_else(|_| line.clone());
    let kept = KEPT.try_with(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone()));
    if kept.is_err() {
        println!("{line}");
    }
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

/// The most values of one metric that a line has.
const MAX_VALUES: usize = 100;

/// Returns how long things of a platform took, in milliseconds, as lines of CloudWatch's embedded metric format. They
/// count for all platforms together, too.
pub fn durations(metric: &str, platform: &str, milliseconds: &[i64], now: Timestamp) -> Vec<Value> {
    let line = |values: &[i64]| {
        let mut line = count(metric, platform, 0, now);
        line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"] = "Milliseconds".into();
        line[metric] = json!(values);
        line
    };
    milliseconds.chunks(MAX_VALUES).map(line).collect()
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

    #[tokio::test]
    async fn lines_name_the_traces_of_the_work_at_hand() {
        let line = json!({ "event": "x" });
        let ((), lines) = kept(async {
            emit(&line);
            traced(["a".to_owned()], async { emit(&line) }).await;
            traced(["b".to_owned(), "a".to_owned(), "b".to_owned()], async {
                emit(&line);
                traced(["c".to_owned()], async { emit(&line) }).await;
                emit(&json!({ "trace": "d" }));
            })
            .await;
        })
        .await;
        let traces: Vec<_> = lines.iter().map(|line| (line["trace"].clone(), line["traces"].clone())).collect();
        let expected = [
            (Value::Null, Value::Null),
            (json!("a"), Value::Null),
            (Value::Null, json!(["a", "b"])),
            (json!("c"), Value::Null),
            (json!("d"), Value::Null),
        ];
        assert_eq!(traces, expected);
    }

    #[test]
    fn a_line_has_a_hundred_durations_at_most() {
        let lines = durations("Took", "p", &(0..250).collect::<Vec<_>>(), Timestamp::from_millis(7));
        let lengths: Vec<_> = lines.iter().map(|line| line["Took"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(lengths, [100, 100, 50]);
        let metrics = &lines[0]["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metrics["Metrics"], json!([{ "Name": "Took", "Unit": "Milliseconds" }]));
        assert_eq!(metrics["Dimensions"], json!([[], ["platform"]]));
    }

    #[test]
    fn what_is_counted_of_a_platform_is_counted_of_all() {
        let line = count("Trips", "p", 2, Timestamp::from_millis(7));
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&metrics["Dimensions"], &line["platform"]), (&json!([[], ["platform"]]), &json!("p")));
        assert_eq!((&metrics["Metrics"][0]["Name"], &line["Trips"]), (&json!("Trips"), &json!(2)));
    }
}
