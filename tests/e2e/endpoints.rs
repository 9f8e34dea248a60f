//! Changes of the deployed bundle, sent on to an application of our own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use commerce::change_event::ChangeEvent;
use http::Method;
use registrar::ADMIN_TOKEN;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tests::world::{PLATFORM, events};

use crate::{PATIENCE, Stack, ring};

/// An application that takes changes, or fails.
#[derive(Clone, Default)]
struct Application {
    fails: Arc<AtomicBool>,
    secret: Arc<Mutex<String>>,
    refused: Arc<Mutex<usize>>,
    taken: Arc<Mutex<Vec<ChangeEvent>>>,
}

impl Application {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/changes", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/changes")
    }
}

async fn take(State(application): State<Application>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if application.fails.load(Ordering::SeqCst) {
        *application.refused.lock().unwrap() += 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    // The specification's own library checks signature and time.
    let secret = application.secret.lock().unwrap().clone();
    if Webhook::new(&secret).unwrap().verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let event: ChangeEvent = serde_json::from_slice(&body).unwrap();
    assert_eq!(headers["webhook-id"].to_str().unwrap(), event.id);
    application.taken.lock().unwrap().push(event);
    StatusCode::NO_CONTENT
}

impl Stack {
    async fn endpoints(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let ring = ring(&self.aws, "ADMIN_KEY").await;
        let token = ADMIN_TOKEN.mint(&ring, cloud::now(), 300, "read write reveal", None).unwrap();
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let (status, text) = self.call(method, &format!("/admin/endpoints{path}"), &headers, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

#[tokio::test]
async fn an_application_gets_what_changes_in_order_even_after_it_failed() {
    let (stack, connection, application) = (Stack::new().await, "sent-on.example.com", Application::default());
    stack.connected(connection).await;
    let url = application.listen().await;
    let wanted = json!({ "url": url, "connections": [format!("{PLATFORM}/{connection}")] });
    let (status, made) = stack.endpoints(Method::POST, "", &wanted).await;
    assert_eq!(status, 201, "{made}");
    *application.secret.lock().unwrap() = made["secret"].as_str().unwrap().to_owned();
    let id = made["endpoint"]["id"].as_str().unwrap().to_owned();
    // The sender reads the list of endpoints again after half a minute.
    application.fails.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let mut round = 0;
    while *application.refused.lock().unwrap() == 0 {
        assert!(started.elapsed() < PATIENCE * 3, "nothing is sent on");
        round += 1;
        let sample = stack.changed("018", connection, |request| {
            let mut order: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
            order["id"] = (9_000 + round).into();
            request["body"] = order.to_string().into();
        });
        assert_eq!(stack.post(&sample).await, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for sample in events() {
        assert_eq!(stack.post(&stack.event(&sample.name, connection)).await, 200);
    }
    stack.until(connection, "order#13", |item| item.deleted).await;
    application.fails.store(false, Ordering::SeqCst);
    let started = Instant::now();
    let last = stack.item(connection, "order#13").await.unwrap().changed_at;
    let is_there = || {
        let taken = application.taken.lock().unwrap();
        taken.iter().any(|event| event.subject == "order/13" && event.sequence == last)
    };
    while !is_there() {
        assert!(started.elapsed() < PATIENCE * 4, "{:?}", application.taken.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let taken = application.taken.lock().unwrap().clone();
    let mut subjects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &taken {
        subjects.entry(event.subject.clone()).or_default().push(event.sequence.clone());
    }
    assert!(subjects.values().all(|sequences| sequences.windows(2).all(|pair| pair[0] <= pair[1])), "{subjects:?}");
    let kinds: BTreeSet<&str> = taken.iter().map(|event| event.kind.as_str()).collect();
    assert!(kinds.contains("order.created") && kinds.contains("order.deleted"), "{kinds:?}");
    assert_eq!(stack.endpoints(Method::DELETE, &format!("/{id}"), &Value::Null).await.0, 200);
    assert_eq!(stack.endpoints(Method::GET, &format!("/{id}"), &Value::Null).await.0, 404);
}
