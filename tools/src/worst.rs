//! The worst legal input of the processor from senders, stores and the table: batches that a function of 256 MB has to
//! survive.

use std::{
    fmt::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use cloud::outbound::MAX_ANSWER_BYTES;
use commerce::request::MAX_VALUES;
use http::Uri;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    events::{self, Event},
    runtime::{Failure, Lambda, taken},
};

/// The default number of messages in a batch.
const BATCH: usize = 10;
/// The space that DynamoDB leaves in an item besides its other attributes, roughly, in bytes.
const ITEM_BYTES: usize = 390 * 1024;

/// The name of the case whose orders have many lines, whose products are asked for.
pub const MANY_LINES: &str = "ten orders of a thousand lines";

/// A batch, and the answers that the processor gets for it.
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// `true` when the messages are put aside as too large, and not applied.
    pub put_aside: bool,
    records: Vec<Value>,
    answer: String,
    extra: String,
}

/// The measurements of a case.
#[derive(Debug)]
pub struct Measured {
    /// The most memory that the function ever held, in MB.
    pub peak_mb: f64,
    /// The CPU time that the batch took.
    pub cpu: Duration,
    /// The number of messages that come back.
    pub come_back: usize,
    /// The number of written items.
    pub written: u64,
    /// The number of messages that were put aside.
    pub put_aside: u64,
    /// The tracing header of the last messages that were sent, if any were.
    pub trace: Option<String>,
}

/// Returns a list with so many values: the smallest objects, which take the most memory for their text. Commas and
/// brackets count as in [`commerce::request::has_too_many_values`].
fn small_objects(values: usize) -> String {
    let one = r#"{"a":1},"#;
    format!("[{}]", one.repeat((values.saturating_sub(2) / 2).max(1)).trim_end_matches(','))
}

/// Returns an order as WooCommerce sends and shows it, with more than the bundle knows.
fn order(id: usize, extra: &str) -> String {
    format!(r#"{{"id":{id},"status":"processing","date_modified_gmt":"2026-11-21T01:48:40","x":{extra}}}"#)
}

/// Returns an order of many lines, of about 1 MB.
fn many_lines(id: usize) -> String {
    let mut lines = String::new();
    for line in 0..1_000 {
        let _ = write!(
            lines,
            r#"{}{{"id":{line},"name":"{}","product_id":{line},"variation_id":0,"quantity":1,"tax_class":"","subtotal":"10.00","subtotal_tax":"0.00","total":"10.00","total_tax":"0.00","taxes":[],"meta_data":[{{"id":1,"key":"_a","value":"{}"}}],"sku":"sku-{line}","price":10,"image":{{"id":"1","src":"https://shop.example.com/{}.jpg"}},"parent_name":null}}"#,
            if line == 0 { "" } else { "," },
            "n".repeat(180),
            "v".repeat(180),
            "s".repeat(180),
        );
    }
    format!(
        r#"{{"id":{id},"status":"processing","currency":"EUR","total":"10000.00","date_modified_gmt":"2026-11-21T01:48:40","line_items":[{lines}]}}"#
    )
}

/// Returns a message for each body, each from its own store.
fn messages(sample: &Event, bodies: impl Iterator<Item = String>) -> Result<Vec<Value>, Failure> {
    let ring = events::sample_ring();
    let mut records = Vec::new();
    for (n, body) in bodies.enumerate() {
        let mut event = sample.clone();
        let store = format!("shop{n}.example.com");
        for (header, value) in
            [("x-wc-webhook-source", format!("https://{store}/")), ("x-directscale-client-id", format!("shop{n}"))]
        {
            if event.request["headers"].get(header).is_some() {
                event.request["headers"][header] = value.into();
            }
        }
        let is_site = event.request["headers"].get("x-wc-webhook-source").is_some();
        event.request["pathParameters"]["connection"] = if is_site { store.into() } else { format!("shop{n}").into() };
        event.request["body"] = body.into();
        event.sign(&ring);
        let mut record = event.sqs(&ring).ok_or("the sample cannot be signed")?["Records"][0].take();
        record["messageId"] = format!("message-{n}").into();
        record["receiptHandle"] = format!("message-{n}").into();
        records.push(record);
    }
    Ok(records)
}

/// Returns all cases.
///
/// # Errors
/// Returns an error if the sample events cannot be read.
pub fn cases() -> Result<Vec<Case>, Failure> {
    let samples = events::load("woocommerce")?;
    let sample = |prefix: &str| samples.iter().find(|event| event.name.starts_with(prefix)).ok_or("no such sample");
    let (updated, deleted) = (sample("022")?, sample("027")?);
    let direct = events::load("directscale")?;
    let direct = direct.iter().find(|event| event.name.starts_with("002")).ok_or("no such sample")?;
    let at_the_bound = || (0..BATCH).map(|n| order(n + 1, &small_objects(MAX_VALUES - 10)));
    let hints = || messages(deleted, (0..BATCH).map(|n| format!(r#"{{"id":{}}}"#, n + 1)));
    let members: String = (0..40_000).fold(String::new(), |mut text, n| {
        let _ = write!(text, r#","k{n}":1"#);
        text
    });
    let undocumented = |n: usize| {
        format!(
            r#"{{"EventType":"CreateOrderEvent","EventDateUtc":"2026-11-21T01:48:40Z","OrderNumber":{n}{members}}}"#
        )
    };
    let plain = |name, records: Vec<Value>| Case {
        name,
        put_aside: false,
        records,
        answer: String::new(),
        extra: String::new(),
    };
    let large = order(1, &format!("[{}1]", "1,".repeat(2_900_000)));
    Ok(vec![
        plain("ten bodies of as many values as there may be", messages(updated, at_the_bound())?),
        plain(MANY_LINES, messages(updated, (0..BATCH).map(|n| many_lines(n + 1)))?),
        Case {
            put_aside: true,
            ..plain("ten bodies of 6 MB of values", messages(updated, (0..BATCH).map(|_| large.clone()))?)
        },
        Case {
            put_aside: true,
            ..plain("ten orders of 40,000 undocumented members", messages(direct, (0..BATCH).map(undocumented))?)
        },
        Case {
            answer: small_objects(MAX_VALUES - 10),
            ..plain("ten pulled answers of as many values as there may be", hints()?)
        },
        Case {
            answer: format!("[\"{}\"]", "x".repeat(MAX_ANSWER_BYTES - 1_000)),
            ..plain("ten pulled answers of as many bytes as there may be", hints()?)
        },
        Case {
            extra: format!(r#"{{"x":{}}}"#, small_objects(ITEM_BYTES / 4)),
            ..plain(
                "ten items of as many values as an item can hold",
                messages(updated, (0..BATCH).map(|n| order(n + 1, "1")))?,
            )
        },
        Case {
            extra: format!(r#"{{"x":{}}}"#, small_objects(ITEM_BYTES / 4)),
            ..plain("the same, with bodies of as many values as there may be", messages(updated, at_the_bound())?)
        },
    ])
}

/// Answers from the tables: each connection with credentials for the site, and an item with this `extra` for each
/// entity.
fn table(request: &Value, site: &str, extra: &str) -> Value {
    let keys = |table: &str| request["RequestItems"][table]["Keys"].as_array().cloned().unwrap_or_default();
    let mut responses = json!({});
    for table in request["RequestItems"].as_object().into_iter().flatten().map(|(table, _)| table) {
        let items = keys(table).into_iter().filter_map(|mut item| {
            if table == "connections" {
                item["status"] = json!({ "S": "active" });
                item["generation"] = json!({ "N": "1" });
                item["site"] = json!({ "S": site });
                item["credentials"] = json!({ "S": "Y2lwaGVy" });
                return Some(item);
            }
            if extra.is_empty() {
                return None;
            }
            item["fields"] = json!({ "M": { "status": { "S": "pending" } } });
            item["extra"] = json!({ "S": extra });
            item["deleted"] = json!({ "BOOL": false });
            item["changed_at"] = json!({ "S": "2026-01-01T00:00:00.000000Z" });
            item["rev"] = json!({ "S": "a-revision" });
            item["by"] = json!({ "S": "somebody" });
            item["v"] = json!({ "M": {
                "r": { "N": "1767225600000000" }, "m": { "N": "1" }, "h": { "S": "a-hash" },
            } });
            Some(item)
        });
        responses[table] = items.collect();
    }
    json!({ "Responses": responses, "UnprocessedKeys": {} })
}

/// Serves a store that shows every order with this `x`, and returns its address.
async fn store(x: String) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let site = format!("http://{}", listener.local_addr()?);
    let answered = move |uri: Uri| {
        let id = uri.path().rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default();
        let body = order(id, &x);
        async move { ([("content-type", "application/json")], Bytes::from(body)) }
    };
    let router = Router::new().fallback(answered);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(site)
}

/// Runs a case in a processor of its own, and returns the measurements.
///
/// # Errors
/// Returns an error if the function dies.
pub async fn run(binary: &Path, case: &Case) -> Result<Measured, Failure> {
    let site = store(case.answer.clone()).await?;
    let extra = case.extra.clone();
    let (written, put_aside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (writes, letters) = (Arc::clone(&written), Arc::clone(&put_aside));
    let answers = move |operation: &str, request: &Value| match operation {
        "PutItem" if request["TableName"] == "entities" => {
            writes.fetch_add(1, Ordering::Relaxed);
            json!({})
        }
        "SendMessage" if request["QueueUrl"].as_str().is_some_and(|url| url.ends_with("/dead-letters")) => {
            letters.fetch_add(1, Ordering::Relaxed);
            taken(operation, request)
        }
        "BatchGetItem" => table(request, &site, &extra),
        // The role's policy in the template has the same condition.
        "Decrypt" if request["EncryptionContext"]["purpose"] != "credentials" => json!({}),
        // `{"consumer_key":"ck_1","consumer_secret":"cs_1"}`
        "Decrypt" => json!({ "Plaintext": "eyJjb25zdW1lcl9rZXkiOiJja18xIiwiY29uc3VtZXJfc2VjcmV0IjoiY3NfMSJ9" }),
        _ => taken(operation, request),
    };
    let mut lambda = Lambda::new(Arc::new(answers)).await?;
    let running = lambda.start(binary, &[("ALLOW_LOOPBACK_PLATFORMS", "true")])?;
    lambda.asked().await?;
    let before = running.cpu()?;
    let (answer, _) = lambda.request(&json!({ "Records": case.records }).to_string()).await?;
    Ok(Measured {
        peak_mb: running.peak_mb()?,
        cpu: running.cpu()? - before,
        come_back: answer["batchItemFailures"].as_array().map_or(0, Vec::len),
        written: written.load(Ordering::Relaxed),
        put_aside: put_aside.load(Ordering::Relaxed),
        trace: lambda.trace("SendMessageBatch"),
    })
}
