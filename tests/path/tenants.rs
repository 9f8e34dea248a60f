//! Isolation of tenants, as a property: whatever one connection delivers, validly signed, and whatever its API answers,
//! the others' items, outcomes, calls and budgets are what they are without it, and their messages wait no longer than
//! their share, while it delivers at 100 times their rate.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cloud::{coordination::Coordination, memory::MemoryPlatform};
use commerce::{
    connection::Connection,
    http_call::{ApiRequest, ApiResponse},
    key::ConnectionKey,
    request::WebhookPath,
};
use http::HeaderMap;
use processor::{Disposition, MAX_ATTEMPTS, Message};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use tests::{
    platforms::json_answer,
    world::{Outside, World, event},
};
use tools::events::{Event, sample_ring};

/// The tenant that floods, and those whom it must not disturb.
const FLOOD: &str = "flood.example.com";
const QUIET: [&str; 2] = ["quiet.example.com", "shop.example.com"];
/// The deliveries of each quiet tenant, and the flooding tenant's for each of them.
const DELIVERIES: usize = 4;
const TIMES: usize = 100;
const BATCH: usize = 10;
const LATER: i64 = 1_795_225_730_000;
const WOO: &str = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;

fn key(host: &str) -> ConnectionKey {
    WebhookPath::parse("woocommerce", host, None).unwrap().key
}

/// Returns a validly signed delivery.
fn delivery(host: &str, topic: &str, body: &str, n: usize) -> Event {
    let mut event = event("027");
    let path = format!("/hooks/woocommerce/{host}");
    event.request["pathParameters"]["connection"] = host.into();
    event.request["rawPath"] = path.clone().into();
    event.request["requestContext"]["http"]["path"] = path.into();
    event.request["requestContext"]["timeEpoch"] = (LATER + i64::try_from(n).unwrap()).into();
    event.request["headers"]["x-wc-webhook-topic"] = topic.into();
    event.request["headers"]["x-wc-webhook-delivery-id"] = format!("d{n}").into();
    event.request["body"] = body.into();
    event.sign(&sample_ring());
    event
}

fn order(id: u64, more: &Value) -> Value {
    let mut order = json!({
        "id": id, "status": "completed", "currency": "EUR", "total": "12.50", "customer_id": 7,
        "date_created_gmt": "2026-11-21T01:00:00", "date_modified_gmt": "2026-11-21T01:48:40",
    });
    order.as_object_mut().unwrap().extend(more.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    order
}

/// Returns what a quiet tenant delivers: some entities whole, some to be pulled.
fn quiet_delivery(host: &str, n: usize) -> Event {
    let id = n as u64 % 3 + 1;
    match n % 3 {
        2 => delivery(host, "order.deleted", &json!({ "id": id }).to_string(), n),
        _ => delivery(host, "order.updated", &order(id, &json!({ "note": n })).to_string(), n),
    }
}

/// Returns what a tenant delivers that wishes the others ill: their ids and addresses, what cannot be read, and what
/// weighs much.
fn hostile_delivery(n: usize, rng: &mut StdRng) -> Event {
    let id = rng.random_range(1..=4_u64);
    let victim = QUIET[rng.random_range(0..QUIET.len())];
    let naming = json!({
        "connection": victim, "platform": "woocommerce", "pk": format!("woocommerce#{victim}"), "store_url": format!("https://{victim}"),
        "_links": { "self": [{ "href": format!("https://{victim}/wp-json/wc/v3/orders/{id}") }] },
    });
    let (topic, body) = match rng.random_range(0..20) {
        0 => ("order.updated", "{".to_owned()),
        1 => ("order.updated", format!("[{}0]", "0,".repeat(51_000))),
        2 => ("order.updated", order(id, &json!({ "more": "x".repeat(300_000) })).to_string()),
        3 | 4 => ("order.deleted", json!({ "id": id }).to_string()),
        5 => ("order.restored", json!({ "id": id }).to_string()),
        6 => ("action.woocommerce_x", json!({ "arg": id }).to_string()),
        7 => ("customer.deleted", json!({ "id": id }).to_string()),
        _ => ("order.updated", order(id, &naming).to_string()),
    };
    delivery(FLOOD, topic, &body, n)
}

/// Answers a call to a store: the quiet ones honestly, the flooding one as its seed says.
fn answer(request: &ApiRequest, draw: u64) -> ApiResponse {
    let id: u64 = request.url.path().rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or(1);
    if request.url.host_str() != Some(FLOOD) {
        return json_answer(200, &order(id, &json!({ "note": "pulled" })));
    }
    let with = |name: &'static str, value: &str, status: u16| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        ApiResponse { headers, ..json_answer(status, &json!({})) }
    };
    match draw % 9 {
        0 => json_answer(500, &json!({})),
        1 => with("retry-after", "86400", 429),
        2 => with("retry-after", "86400", 503),
        3 => json_answer(401, &json!({ "code": "woocommerce_rest_cannot_view", "message": "no" })),
        4 => json_answer(404, &json!({ "code": "woocommerce_rest_shop_order_invalid_id", "message": "no" })),
        5 => json_answer(200, &order(id + 1, &json!({}))),
        6 => with("location", &format!("https://{}/wp-json/wc/v3/orders/{id}", QUIET[0]), 302),
        7 => json_answer(200, &json!([order(id, &json!({})), { "id": "x".repeat(100_000) }])),
        _ => json_answer(200, &order(id, &json!({ "more": "x".repeat(300_000) }))),
    }
}

/// A message that waits.
struct Waiting {
    message: Message,
    group: String,
    /// The place at which it came to its line, and the messages that were handed over since.
    since: usize,
}

/// The way in which the queue hands messages over.
#[derive(Clone, Copy)]
enum Order {
    /// Any message may come next.
    Shuffled,
    /// A message of each group in turn, as a fair queue does when one group has more waiting than the others.
    Fair,
}

/// What there is to see of the quiet tenants.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Their items: place, fields, and whether they are deleted.
    items: BTreeMap<(String, String), (Value, bool)>,
    /// The ends of their messages, by tenant and delivery.
    ends: BTreeSet<(String, String, String)>,
    /// The calls to their APIs.
    calls: BTreeMap<String, usize>,
    /// The calls out of their budgets.
    budgets: BTreeMap<String, Value>,
    /// Jobs of the registrar, and dead letters.
    aside: BTreeSet<String>,
}

/// Delivers and processes everything, with a flood or without. Returns what is seen of the quiet tenants, and the most
/// messages that were handed over before one of theirs, while it waited.
async fn run(seed: u64, flood: usize, by: Order, most: usize) -> (Seen, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let draws = Arc::new(AtomicU64::new(seed));
    let platform = MemoryPlatform::new(move |request| {
        let draw = draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        Ok(answer(request, draw))
    });
    world.outside = Outside::Scripted(platform.clone());
    for host in QUIET.into_iter().chain([FLOOD]) {
        let credentials = Some(format!("{}|{WOO}", key(host)));
        let connection = Connection { revision: 1, credentials, ..Connection::new(&format!("https://{host}")) };
        world.tables.connect(&key(host), connection);
    }
    let mut deliveries = Vec::new();
    for host in QUIET {
        deliveries.extend((0..DELIVERIES).map(|n| quiet_delivery(host, n)));
    }
    deliveries.extend((0..flood * DELIVERIES).map(|n| hostile_delivery(1_000 + n, &mut rng)));
    // Each tenant delivers in its own order; the order of the messages does not matter to the state.
    deliveries.shuffle(&mut rng);
    for delivery in &deliveries {
        assert_eq!(world.receive(delivery).await.status(), 200, "it is signed well");
    }
    let processor = world.processor();
    let (mut lines, mut taken): (BTreeMap<String, VecDeque<Waiting>>, usize) = (BTreeMap::new(), 0);
    let (mut seen, mut handed, mut longest) = (Seen::default(), 0, 0);
    let group_of = |host: &str| key(host).to_string();
    let mut turn = 0;
    loop {
        for (n, (sealed, _)) in world.queues.sent().iter().enumerate().skip(taken) {
            let read: Value = serde_json::from_str(sealed.text()).unwrap();
            let own = format!("{}#{}", read["platform"].as_str().unwrap(), read["connection"].as_str().unwrap());
            assert_eq!(sealed.group(), own, "a message waits in the line of its own connection");
            let message = Message {
                id: format!("m{n}"),
                receipt_handle: format!("r{n}"),
                body: sealed.text().to_owned(),
                attempts: 1,
            };
            let line = lines.entry(own.clone()).or_default();
            line.push_back(Waiting { message, group: own, since: handed });
        }
        taken = world.queues.sent().len();
        lines.retain(|_, line| !line.is_empty());
        if QUIET.iter().all(|host| !lines.contains_key(&group_of(host))) {
            break;
        }
        let mut batch = Vec::new();
        while batch.len() < most && lines.values().any(|line| !line.is_empty()) {
            let open: Vec<String> =
                lines.iter().filter(|(_, line)| !line.is_empty()).map(|(group, _)| group.clone()).collect();
            let group = match by {
                Order::Fair => &open[turn % open.len()],
                Order::Shuffled => {
                    let all: usize = open.iter().map(|group| lines[group].len()).sum();
                    let mut place = rng.random_range(0..all);
                    open.iter()
                        .find(|group| {
                            let here = place < lines[*group].len();
                            place = place.saturating_sub(lines[*group].len());
                            here
                        })
                        .unwrap()
                }
            };
            turn += 1;
            batch.push(lines.get_mut(group).unwrap().pop_front().unwrap());
        }
        for waiting in &batch {
            if waiting.group != group_of(FLOOD) {
                longest = longest.max(handed - waiting.since);
            }
            handed += 1;
        }
        let messages: Vec<Message> = batch.iter().map(|waiting| waiting.message.clone()).collect();
        let report = processor.process(&messages, world.clock.now().plus_seconds(60)).await;
        for (mut waiting, (_, end)) in batch.into_iter().zip(report.ends) {
            let host = waiting.group.split('#').nth(1).unwrap_or_default().to_owned();
            let read: Value = serde_json::from_str(&waiting.message.body).unwrap();
            match end {
                Disposition::Done(outcome) if host != FLOOD => {
                    let id = read["delivery_id"].as_str().unwrap_or_default().to_owned();
                    // Which of two orders with the same content came first is for the order of the queue to say.
                    let end = outcome.to_string();
                    seen.ends.insert((host, id, if end.starts_with("ignored") { end } else { "done".to_owned() }));
                }
                Disposition::Retry(..) | Disposition::Unfinished if waiting.message.attempts < MAX_ATTEMPTS => {
                    assert_eq!(host, FLOOD, "a quiet tenant's message came back");
                    waiting.message.attempts += 1;
                    lines.entry(waiting.group.clone()).or_default().push_back(waiting);
                }
                Disposition::Deferred(_) => assert_eq!(host, FLOOD, "a quiet tenant had to wait for its budget"),
                _ => {}
            }
        }
    }
    for item in world.tables.items() {
        assert!(item.pk == group_of(FLOOD) || QUIET.iter().any(|host| item.pk == group_of(host)), "{}", item.pk);
        if item.pk != group_of(FLOOD) {
            let text = serde_json::to_string(&item).unwrap();
            assert!(!text.contains(FLOOD), "an item of {} names the flooding tenant", item.pk);
            seen.items
                .insert((item.pk, item.sk), (json!({ "fields": item.fields, "extra": item.extra }), item.deleted));
        }
    }
    for host in QUIET {
        let calls = platform.asked().iter().filter(|call| call.contains(host)).count();
        seen.calls.insert(host.to_owned(), calls);
        let budget = world.tables.note(&key(host), "budget").await.unwrap();
        let used = budget.map(|note| serde_json::from_str::<Value>(&note.body).unwrap());
        seen.budgets
            .insert(host.to_owned(), used.map(|used| json!([used["used"], used["paused_until"]])).unwrap_or_default());
        let jobs = world.queues.jobs();
        let jobs = jobs.iter().map(|(job, _)| job.text()).filter(|job| job.contains(host));
        let dead = world.queues.dead().into_iter().map(|letter| format!("{letter:?}"));
        seen.aside.extend(jobs.chain(dead.filter(|letter| letter.contains(host) && !letter.contains(FLOOD))));
    }
    (seen, longest)
}

#[tokio::test(start_paused = true)]
async fn a_flood_changes_nothing_of_the_others() {
    for seed in 1..=2 {
        let (mut alone, _) = run(seed, 0, Order::Shuffled, 1).await;
        assert_eq!(alone.items.len(), 8, "three orders and a customer of each quiet tenant");
        let (mut beside, _) = run(seed, TIMES, Order::Shuffled, BATCH).await;
        // Deliveries about one entity share a call when they are in one batch, so there may be fewer.
        let (most, calls) = (std::mem::take(&mut alone.calls), std::mem::take(&mut beside.calls));
        assert!(QUIET.iter().all(|host| (1..=most[*host]).contains(&calls[*host])), "seed {seed}: {calls:?}, {most:?}");
        assert_eq!(beside, alone, "seed {seed}");
    }
}

/// The latency of a fair share: with `n` tenants, a message waits for the tenants' turns before its own, and for what
/// its own tenant has waiting; not for the 400 messages of the flood.
#[tokio::test(start_paused = true)]
async fn a_flood_takes_one_turn_in_three() {
    let (_, alone) = run(7, 0, Order::Fair, BATCH).await;
    let (_, beside) = run(7, TIMES, Order::Fair, BATCH).await;
    let tenants = QUIET.len() + 1;
    assert!(alone <= QUIET.len() * DELIVERIES, "{alone}");
    assert!(
        beside <= tenants * DELIVERIES,
        "{beside} messages before one of a quiet tenant, {alone} without the flood"
    );
}
