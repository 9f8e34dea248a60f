//! The release binaries as Lambda runs them, on a stub of AWS: the processor's memory in the worst legal cases, because
//! a function that exceeds its memory is killed with all messages of its batch, and the functions' conduct when AWS
//! fails. `make test` builds the binaries and sets their paths.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use commerce::keys::KeyRing;
use registrar::ADMIN_TOKEN;
use serde_json::{Value, json};
use tools::{
    events,
    runtime::{Lambda, TRACE, taken},
    worst,
};

/// The most memory that any batch may take, in MB. The processor has 256 by default.
const MOST_MB: f64 = 160.0;
/// The number of messages in each batch.
const MESSAGES: u64 = 10;

fn binary(name: &str) -> PathBuf {
    PathBuf::from(std::env::var(name).expect("PROCESSOR, RECEIVER and REGISTRAR say where the binaries are"))
}

fn processor() -> PathBuf {
    binary("PROCESSOR")
}

#[tokio::test]
async fn the_worst_batches_leave_room() {
    let mut wrong = Vec::new();
    for case in worst::cases().unwrap() {
        let measured = match worst::run(&processor(), &case).await {
            Ok(measured) => measured,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        eprintln!("{}: {measured:?}", case.name);
        let (written, put_aside) = if case.put_aside { (0, MESSAGES) } else { (MESSAGES, 0) };
        let is_done = measured.written == written && measured.put_aside == put_aside && measured.come_back == 0;
        if measured.peak_mb > MOST_MB || !is_done {
            wrong.push(format!("{}: {measured:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Messages carry the lineage of their invocation. Without it, Lambda could not count, and `tests/path/chains.rs` would
/// be pointless.
#[tokio::test]
async fn what_is_sent_says_what_it_comes_from() {
    let cases = worst::cases().unwrap();
    let lines = cases.iter().find(|case| case.name == worst::MANY_LINES).unwrap();
    let measured = worst::run(&processor(), lines).await.unwrap();
    assert_eq!(measured.trace.as_deref(), Some(TRACE));
}

/// A queue that goes on failing two calls of three refuses no delivery: one delivery must not use up the tries of the
/// next. A sender that is refused may never send the delivery again.
#[tokio::test]
async fn faults_of_the_queue_that_last_refuse_no_delivery() {
    let calls = AtomicUsize::new(0);
    let answers = move |operation: &str, request: &Value| match operation {
        "SendMessage" if calls.fetch_add(1, Ordering::Relaxed) % 3 < 2 => Value::Null,
        _ => taken(operation, request),
    };
    let mut lambda = Lambda::new(Arc::new(answers)).await.unwrap();
    let _running = lambda.start(&binary("RECEIVER"), &[]).unwrap();
    lambda.asked().await.unwrap();
    let samples = events::load("woocommerce").unwrap();
    let mut order = samples.iter().find(|event| event.name.starts_with("018")).unwrap().clone();
    order.sign(&events::sample_ring());
    let mut refused = 0;
    for _ in 0..500 {
        let (answer, _) = lambda.request(&order.request.to_string()).await.unwrap();
        refused += usize::from(answer["statusCode"] != 200);
    }
    assert_eq!(refused, 0);
}

/// An answer of AWS without its usual members is a fault, not an absence, because a delivery that is ignored is ignored
/// for ever.
#[tokio::test]
async fn answers_that_are_not_whole_are_none() {
    let samples = events::load("woocommerce").unwrap();
    let mut order = samples.iter().find(|event| event.name.starts_with("018")).unwrap().clone();
    order.sign(&events::sample_ring());
    let batch = order.sqs(&events::sample_ring()).unwrap();
    for (answer, comes_back) in [
        (json!({}), true),
        (json!({ "Responses": {}, "UnprocessedKeys": {} }), true),
        (json!({ "Responses": { "entities": [] }, "UnprocessedKeys": {} }), true),
        // The connection does not exist.
        (json!({ "Responses": { "entities": [], "connections": [] }, "UnprocessedKeys": {} }), false),
    ] {
        let given = answer.clone();
        let answers = move |operation: &str, request: &Value| match operation {
            "BatchGetItem" => given.clone(),
            _ => taken(operation, request),
        };
        let mut lambda = Lambda::new(Arc::new(answers)).await.unwrap();
        let _running = lambda.start(&processor(), &[]).unwrap();
        lambda.asked().await.unwrap();
        let (report, _) = lambda.request(&batch.to_string()).await.unwrap();
        assert_eq!(report["batchItemFailures"].as_array().unwrap().len(), usize::from(comes_back), "{answer}");
    }
    for (answer, status) in [(json!({}), 503), (json!({ "Items": [], "Count": 0, "ScannedCount": 0 }), 404)] {
        let given = answer.clone();
        let answers = move |operation: &str, request: &Value| match operation {
            "Query" => given.clone(),
            _ => taken(operation, request),
        };
        let mut lambda = Lambda::new(Arc::new(answers)).await.unwrap();
        let _running = lambda.start(&binary("REGISTRAR"), &[]).unwrap();
        lambda.asked().await.unwrap();
        let token =
            ADMIN_TOKEN.mint(&KeyRing::parse(events::SAMPLE_KEY).unwrap(), cloud::now(), 60, "read", None).unwrap();
        let path = "/admin/connections/woocommerce/shop.example.com";
        let request = json!({
            "version": "2.0", "routeKey": "ANY /admin/{proxy+}", "rawPath": path, "rawQueryString": "",
            "headers": { "authorization": format!("Bearer {token}") },
            "pathParameters": { "proxy": "connections/woocommerce/shop.example.com" },
            "requestContext": {
                "routeKey": "ANY /admin/{proxy+}", "stage": "$default",
                "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
            },
            "isBase64Encoded": false,
        });
        let (shown, _) = lambda.request(&request.to_string()).await.unwrap();
        assert_eq!(shown["statusCode"], status, "{answer}: {shown}");
    }
}
