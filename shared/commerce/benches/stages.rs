//! The stages of a delivery, each by itself, for orders of three sizes: `cargo bench -p commerce`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use bytes::Bytes;
use commerce::{
    change::{Change, State},
    connection::DeletePolicy,
    entity::EntityKey,
    envelope::{Content, Envelope, Sealed},
    item::{Item, Projection, Writer},
    keys::KeyRing,
    origin::Origin,
    platform::{
        Platform, find,
        mapping::{Incoming, Mapped, Resolved, map_delivery, resolve},
    },
    platforms::PLATFORMS,
    request::{RawRequest, WebhookPath, has_too_many_values, weight},
    timestamp::Timestamp,
    verify::{Material, Verified, sign, verify},
};
use divan::{Bencher, counter::BytesCount};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

fn main() {
    divan::main();
}

/// The sizes of bodies, in bytes.
const SIZES: [usize; 3] = [2_048, 20_480, 204_800];
const SCOPE: &str = "order.updated";

fn order(bytes: usize) -> String {
    let line = |n: usize| {
        json!({
            "id": n, "name": format!("A thing of everyday life, number {n}"), "product_id": n, "quantity": 1 + n % 3,
            "subtotal": "10.00", "subtotal_tax": "1.90", "total": "10.00", "total_tax": "1.90", "sku": format!("sku-{n}"),
            "price": 10, "meta_data": [{ "id": n, "key": "_colour", "value": format!("shade {}", n * 7919 % 1000) }],
        })
    };
    let lines: Vec<Value> = (0..bytes / 260).map(line).collect();
    let order = json!({
        "id": 13, "status": "processing", "currency": "EUR", "total": "44.98",
        "date_modified_gmt": "2026-11-21T01:48:40", "line_items": lines,
    });
    order.to_string()
}

fn platform() -> &'static Platform {
    find(PLATFORMS, "woocommerce").unwrap()
}

fn path() -> WebhookPath {
    WebhookPath::parse("woocommerce", "shop.example.com", None).unwrap()
}

fn ring() -> KeyRing {
    KeyRing::parse(r#"{"keys":[{"id":"k","state":"sign","secret":"a-signing-key-of-more-than-thirty-two-bytes"}]}"#)
        .unwrap()
}

fn request(bytes: usize) -> RawRequest {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-wc-webhook-source", "https://shop.example.com/"),
        ("x-wc-webhook-topic", SCOPE),
        ("x-wc-webhook-resource", "order"),
        ("x-wc-webhook-event", "updated"),
        ("x-wc-webhook-id", "1"),
        ("x-wc-webhook-delivery-id", "d"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut request = RawRequest {
        method: Method::POST,
        target: "/hooks/woocommerce/shop.example.com".to_owned(),
        headers,
        body: Bytes::from(order(bytes)),
        received: Timestamp::from_millis(1_795_219_721_000),
    };
    let secret = ring().signing().webhook_secret(&path(), Some(SCOPE));
    sign(platform().delivery.scheme(), &mut request, &secret, &Map::new(), None).unwrap();
    request
}

fn verified(request: &RawRequest, ring: &KeyRing) -> Verified {
    let material = Material { ring, app: None, brought: None, now: request.received };
    verify(platform().delivery, &path(), request, &material).unwrap()
}

fn change(body: &[u8]) -> Change {
    let Resolved::Entity(entity, action) = resolve(platform(), SCOPE) else { unreachable!("an order is an entity") };
    let connection = path().key;
    let incoming = Incoming {
        connection: &connection,
        scope: SCOPE,
        delivery_id: None,
        entity,
        action,
        body,
        received: Timestamp::from_millis(1_795_219_721_000),
    };
    match map_delivery(platform().mapping, &incoming).unwrap() {
        Mapped::Change(_, change) => change,
        _ => unreachable!("an order is a change"),
    }
}

fn item(state: &State) -> Item {
    let none = Map::new();
    let key =
        EntityKey { connection: path().key, kind: commerce::entity::EntityKind::Order, id: "13".parse().unwrap() };
    let writer = Writer {
        by: "m",
        origin: Origin::Webhook,
        trace: None,
        received: None,
        now: Timestamp::from_millis(1_795_219_722_000),
    };
    Projection::new(DeletePolicy::Mark, &none).item(&key, state, None, writer).unwrap()
}

#[divan::bench(args = SIZES)]
fn verify_it(bencher: Bencher, bytes: usize) {
    let (request, ring) = (request(bytes), ring());
    bencher.counter(BytesCount::new(bytes)).bench(|| verified(&request, &ring));
}

#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher, bytes: usize) {
    let verified = verified(&request(bytes), &ring());
    bencher.counter(BytesCount::new(bytes)).bench(|| Sealed::from_verified(&verified, None));
}

#[divan::bench(args = SIZES)]
fn open(bencher: Bencher, bytes: usize) {
    let sealed = Sealed::from_verified(&verified(&request(bytes), &ring()), None);
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let envelope = Envelope::parse(sealed.text()).unwrap();
        let Content::Delivery(body) = &envelope.content else { unreachable!("it is a delivery") };
        body.unpack().unwrap()
    });
}

#[divan::bench(args = SIZES)]
fn weigh(bencher: Bencher, bytes: usize) {
    let body = order(bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| (has_too_many_values(body.as_bytes()), weight(body.as_bytes())));
}

#[divan::bench(args = SIZES)]
fn map(bencher: Bencher, bytes: usize) {
    let body = order(bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| change(body.as_bytes()));
}

#[divan::bench(args = SIZES)]
fn merge(bencher: Bencher, bytes: usize) {
    let (change, state) = (change(order(bytes).as_bytes()), State::default());
    bencher.counter(BytesCount::new(bytes)).bench(|| state.merge(&change));
}

#[divan::bench(args = SIZES)]
fn project(bencher: Bencher, bytes: usize) {
    let state = State::of(&change(order(bytes).as_bytes()));
    bencher.counter(BytesCount::new(bytes)).bench(|| item(&state));
}

#[divan::bench(args = SIZES)]
fn measure(bencher: Bencher, bytes: usize) {
    let item = item(&State::of(&change(order(bytes).as_bytes())));
    bencher.counter(BytesCount::new(bytes)).bench(|| item.size());
}
