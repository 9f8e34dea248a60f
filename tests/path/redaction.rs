//! The redaction of a person, from the request to the receipt: afterwards nothing names him, whatever is delivered,
//! brought back or fetched again.

use std::collections::BTreeSet;

use cloud::{
    coordination::Coordination,
    queue::{DeadLetter, DeadLetters},
};
use commerce::{
    change_event::Detail,
    entity::EntityKind,
    envelope::{Envelope, Sealed},
    outcome::Reason,
    redaction::kept_fields,
};
use processor::Message;
use serde_json::{Value, json};
use tests::world::{CONNECTION, World, delivered, key, message, outcomes};

use crate::publisher::told;

const EMAIL: &str = "Ada.Lovelace@mail.example";
const NAME: &str = "Lovelace";
/// 2026-11-21T02:00:00Z, in milliseconds: before the clock of a new world.
const RECEIVED: i64 = 1_795_226_400_000;

fn customer(id: u64, name: &str, email: &str) -> Value {
    json!({
        "id": id, "role": "customer", "email": email, "first_name": "Ada", "last_name": name, "date_created_gmt": "2026-11-01T10:00:00",
        "date_modified_gmt": "2026-11-20T10:00:00", "billing": { "last_name": name, "email": email, "country": "AT" },
        "meta_data": [{ "id": 1, "key": "nick", "value": format!("countess {name}") }],
    })
}

fn order(id: u64, customer: u64, name: &str, email: &str) -> Value {
    json!({
        "id": id, "status": "processing", "currency": "EUR", "total": "12.00", "customer_id": customer,
        "date_created_gmt": "2026-11-02T10:00:00", "date_modified_gmt": "2026-11-20T10:00:00", "line_items": [],
        "customer_note": format!("ring at {name}"), "billing": { "last_name": name, "email": email, "country": "AT" },
    })
}

/// The deliveries of a store with two persons: what each says, with its topic.
fn deliveries() -> Vec<(&'static str, Value)> {
    let coupon = json!({
        "id": 5, "code": "spring", "amount": "10.00", "date_modified_gmt": "2026-11-20T10:00:00",
        "email_restrictions": [EMAIL, "bob@mail.example"],
    });
    let reborn = json!({ "date_created_gmt": "2027-03-01T10:00:00", "date_modified_gmt": "2027-03-01T10:00:00" });
    let mut later = order(17, 0, "Byron", EMAIL);
    later.as_object_mut().unwrap().extend(reborn.as_object().unwrap().clone());
    vec![
        ("customer.created", customer(7, NAME, EMAIL)),
        ("customer.created", customer(8, "Babbage", "charles@mail.example")),
        ("order.created", order(13, 7, NAME, "other@mail.example")),
        ("order.created", order(14, 0, NAME, &EMAIL.to_uppercase())),
        ("order.created", order(15, 8, "Babbage", "charles@mail.example")),
        ("coupon.created", coupon),
        ("order.created", later),
    ]
}

fn messages(second: i64) -> Vec<Message> {
    let at = |n: usize| RECEIVED + second * 1000 + i64::try_from(n).unwrap();
    deliveries().iter().enumerate().map(|(n, (topic, body))| delivered(topic, &body.to_string(), at(n))).collect()
}

/// Processes everything on the queue from a place on, and what that queues in its turn.
async fn drain(world: &World, mut from: usize) -> Vec<String> {
    let mut outcomes = Vec::new();
    while world.queues.sent().len() > from {
        let upto = world.queues.sent().len();
        outcomes.extend(world.drain(from).await);
        from = upto;
    }
    outcomes
}

/// Everything that is kept: the table, the notes, the records of the connection and the dead letters.
async fn kept(world: &World) -> String {
    let items = serde_json::to_string(&world.tables.items()).unwrap();
    let notes = world.tables.notes(&key(), "").await.unwrap();
    let records = world.tables.connection(&key());
    format!("{items} {notes:?} {records:?} {:?}", world.queues.dead()).to_lowercase()
}

fn is_named(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains(&EMAIL.to_lowercase()) || text.contains("lovelace")
}

async fn redact(world: &World, body: &Value) -> (u16, Value) {
    world.admin("POST", &format!("{CONNECTION}/redact"), "", &body.to_string()).await
}

#[tokio::test]
async fn a_redacted_person_is_named_nowhere_and_does_not_come_back() {
    let world = World::connected();
    let report = world.process(&messages(0)).await;
    assert_eq!(outcomes(&report), ["applied"; 7]);
    // Letters that were put aside: two that name her, one of them unreadable, and one that does not.
    let (letters, mut broken) = (messages(60), order(16, 0, NAME, EMAIL).to_string());
    broken.truncate(broken.len() - 2);
    let broken = delivered("order.created", &broken, RECEIVED + 99);
    for body in [&letters[0].body, &letters[4].body, &broken.body] {
        let letter = |body: &str| DeadLetter {
            body: body.to_owned(),
            reason: Reason::Malformed,
            platform: Some("woocommerce".into()),
            connection: Some(CONNECTION.into()),
            scope: None,
        };
        world.queues.quarantine(&letter(body)).await.unwrap();
    }
    assert!(is_named(&kept(&world).await));
    let (written, queued) = (world.tables.images().len(), world.queues.sent().len());
    let (status, begun) = redact(&world, &json!({ "email": EMAIL })).await;
    assert_eq!((status, &begun["done"], &begun["redacted"]), (202, &Value::Null, &json!({})), "{begun}");
    assert_eq!(redact(&world, &json!({ "email": "  ada.lovelace@MAIL.example" })).await, (202, begun.clone()));
    assert_eq!(world.queues.sent().len(), queued + 1, "the same request orders nothing twice");
    let ends = drain(&world, queued).await;
    assert_eq!(ends.last().map(String::as_str), Some("ignored: redacted"), "{ends:?}");
    let (_, receipt) = redact(&world, &json!({ "email": EMAIL })).await;
    assert_eq!(receipt["redacted"], json!({ "customer": ["7"], "order": ["13", "14"], "coupon": ["5"] }));
    assert_eq!((&receipt["dead_letters"], receipt["done"].is_string()), (&json!(2), true));
    assert!(receipt["looked_again"].is_string(), "{receipt}");

    // What stays of the order is what accounting needs; what she made later and what others made is whole.
    let shown = |sort: &str| world.item(sort);
    let kept_order = shown("order#14");
    assert!(kept_order.redacted && kept_order.extra.is_empty());
    assert_eq!(
        (kept_order.fields.get("totals"), kept_order.fields.get("billing")),
        (Some(&json!({ "total": "12.00" })), Some(&json!({ "country": "AT" })))
    );
    assert_eq!(shown("order#17").fields["billing"]["email"], json!(EMAIL));
    assert_eq!(shown("order#15").fields["billing"]["last_name"], json!("Babbage"));
    assert_eq!(shown("coupon#5").extra["email_restrictions"], json!(["bob@mail.example"]));

    // The stream tells of it, without a word of what was dropped.
    let events = told(&world, written, Detail::Full).await;
    let kinds: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.subject.as_str())).collect();
    let erased = ["customer/7", "order/13", "order/14"].map(|subject| (subject.split('/').next().unwrap(), subject));
    for (kind, subject) in erased {
        assert!(kinds.contains(&(format!("{kind}.erased").as_str(), subject)), "{kinds:?}");
    }
    assert!(!is_named(&serde_json::to_string(&events).unwrap()));

    // Late deliveries, redrives, and changes of what is here.
    let without_later = |messages: Vec<Message>| messages.into_iter().take(6).collect::<Vec<_>>();
    world.process(&without_later(messages(120))).await;
    let redriven = |message: &Message| Sealed::redriven(&Envelope::parse(&message.body).unwrap()).text().to_owned();
    let again: Vec<_> =
        without_later(messages(60)).iter().map(redriven).enumerate().map(|(n, text)| message(n, &text)).collect();
    world.process(&again).await;
    let mut changed = order(14, 0, NAME, "third@mail.example");
    changed["date_modified_gmt"] = "2026-11-20T11:00:00".into();
    changed["status"] = "completed".into();
    let report = world.process(&[delivered("order.updated", &changed.to_string(), RECEIVED + 180_000)]).await;
    assert_eq!(outcomes(&report), ["applied"]);
    assert_eq!(shown("order#14").fields["status"], "completed", "it goes on to be kept");
    // An order of hers that was never here.
    let late = order(18, 7, NAME, "fourth@mail.example");
    world.process(&[delivered("order.created", &late.to_string(), RECEIVED + 181_000)]).await;
    assert!(shown("order#18").redacted);
    let everything = kept(&world).await.replace(&shown_text(&shown("order#17")), "");
    assert!(!is_named(&everything), "{everything}");
    assert!(!everything.contains("third@mail") && !everything.contains("fourth@mail"));
}

/// Returns an item as [`kept`] shows it.
fn shown_text(item: &commerce::item::Item) -> String {
    serde_json::to_string(item).unwrap().to_lowercase()
}

#[tokio::test]
async fn what_the_store_still_has_is_redacted_when_it_is_fetched() {
    let world = World::new();
    let settings = json!({ "site": "https://shop.example.com", "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    assert_eq!(world.admin("PUT", CONNECTION, "", &settings.to_string()).await.0, 200);
    world.store().set("customers", 7, Some(customer(7, NAME, EMAIL)));
    world.store().set("orders", 13, Some(order(13, 7, NAME, "x@mail.example")));
    world.run_jobs().await;
    drain(&world, 0).await;
    assert!(is_named(&kept(&world).await));
    let queued = world.queues.sent().len();
    assert_eq!(redact(&world, &json!({ "customer": 7 })).await.0, 202);
    drain(&world, queued).await;
    let queued = world.queues.sent().len();
    assert_eq!(world.admin("POST", &format!("{CONNECTION}/import"), "", "").await.0, 202);
    world.run_jobs().await;
    let ends = drain(&world, queued).await;
    assert!(ends.len() >= 2, "{ends:?}");
    assert!(!is_named(&kept(&world).await));
    // Nothing is written again and again.
    let written = world.tables.images().len();
    let queued = world.queues.sent().len();
    assert_eq!(world.admin("POST", &format!("{CONNECTION}/import"), "", "").await.0, 202);
    world.run_jobs().await;
    drain(&world, queued).await;
    let changed = told(&world, written, Detail::Ids).await;
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test]
async fn a_redaction_goes_on_after_any_failure() {
    use cloud::memory::TableFault::{LandsAndFails, StaleRead, Unprocessed, WriteRefused};
    for faults in [vec![WriteRefused], vec![LandsAndFails], vec![Unprocessed], vec![StaleRead, WriteRefused]] {
        let world = World::connected();
        world.process(&messages(0)).await;
        let queued = world.queues.sent().len();
        redact(&world, &json!({ "customer": "7" })).await;
        world.tables.break_next(faults.clone());
        // SQS brings back what failed.
        let mut from = queued;
        for _ in 0..50 {
            let sent = world.queues.sent();
            let Some((sealed, _)) = sent.get(from) else { break };
            let report = world.process(&[message(from, sealed.text())]).await;
            from += usize::from(report.failures.is_empty());
        }
        let (_, receipt) = redact(&world, &json!({ "customer": "7" })).await;
        assert_eq!(
            receipt["redacted"],
            json!({ "customer": ["7"], "order": ["13", "14"], "coupon": ["5"] }),
            "{faults:?}"
        );
        let everything = kept(&world).await.replace(&shown_text(&world.item("order#17")), "");
        assert!(!is_named(&everything), "{faults:?}");
    }
}

#[tokio::test]
async fn a_request_names_somebody() {
    let world = World::connected();
    for (body, detail) in [
        (json!({}), "body: must name the person by `customer`, `email` or both"),
        (json!({ "email": "ada" }), "email: must be an e-mail address"),
        (json!({ "email": 7 }), "email: must be an e-mail address"),
        (json!({ "customer": "" }), "customer: must be the id of a customer at the platform"),
        (json!({ "customer": 7, "again": 1 }), "again: must be true or false"),
        (json!({ "name": "Ada" }), "body: may have no other members than: customer, email, again"),
    ] {
        let (status, problem) = redact(&world, &body).await;
        assert_eq!((status, problem["detail"].as_str()), (422, Some(detail)), "{body}");
    }
    assert_eq!(
        world.admin("POST", "nobody.example.com/redact", "", &json!({ "customer": 1 }).to_string()).await.0,
        404
    );
    assert!(world.queues.sent().is_empty());
}

#[tokio::test]
async fn a_redaction_begins_anew_only_when_asked() {
    let world = World::connected();
    world.process(&messages(0)).await;
    let ask = |again: bool| {
        let world = &world;
        async move { redact(world, &json!({ "customer": 7, "again": again })).await.1 }
    };
    let queued = world.queues.sent().len();
    ask(false).await;
    drain(&world, queued).await;
    let (done, queued) = (ask(false).await, world.queues.sent().len());
    assert!(done["done"].is_string());
    assert_eq!((ask(false).await, world.queues.sent().len()), (done.clone(), queued));
    world.clock.pass_seconds(3600);
    let anew = ask(true).await;
    assert!(anew["done"].is_null() && anew["redacted"] == done["redacted"] && anew["at"] != done["at"], "{anew}");
    assert_eq!(world.queues.sent().len(), queued + 1);
    // An order that got lost is given once more.
    world.clock.pass_seconds(3600);
    ask(false).await;
    assert_eq!(world.queues.sent().len(), queued + 2);
}

/// A field that comes to a canonical entity is either kept or dropped by a redaction, and that is decided here.
#[test]
fn every_field_of_what_is_about_persons_is_kept_or_dropped() {
    let dropped: &[(EntityKind, &[&str])] = &[
        (EntityKind::Customer, &["email", "first_name", "last_name", "billing", "shipping"]),
        (EntityKind::Order, &["note"]),
        (EntityKind::Cart, &["email"]),
        (EntityKind::Subscription, &["name", "parameters"]),
        (EntityKind::Request, &["parameters", "reason", "note"]),
        (EntityKind::Record, &["user"]),
    ];
    for (kind, dropped) in dropped {
        let path = format!("{}/../schemas/entities/{kind}.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let fields: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let decided: BTreeSet<&str> = kept_fields(*kind).unwrap().into_iter().chain(dropped.iter().copied()).collect();
        assert_eq!(fields, decided, "{kind}");
    }
}

/// A platform that demands redactions by its deliveries.
mod demanded {
    use commerce::{
        platform::{
            Platform,
            mapping::{Incoming, MapError, Mapped, Mapping},
        },
        platforms::woocommerce::PLATFORM,
        redaction::Pseudonym,
        transfer::EntityProcessor,
    };

    use super::*;

    struct Demands;

    impl Mapping for Demands {
        fn processors(&self) -> &'static [EntityProcessor] {
            PLATFORM.mapping.processors()
        }
        fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
            match incoming.scope {
                "customer.deleted" => {
                    Ok(Mapped::Redact(BTreeSet::from([Pseudonym::of_email(incoming.connection, EMAIL)])))
                }
                _ => PLATFORM.mapping.map(incoming),
            }
        }
    }

    static DEMANDING: [Platform; 1] = [Platform { mapping: &Demands, ..PLATFORM }];

    #[tokio::test]
    async fn a_platform_demands_a_redaction_by_a_delivery() {
        let world = World::connected();
        world.process(&messages(0)).await;
        let queued = world.queues.sent().len();
        let demand = delivered("customer.deleted", r#"{"id":7}"#, RECEIVED + 90_000);
        for _ in 0..2 {
            let deadline = world.clock.now().plus_seconds(60);
            let report = world.processor_for(&DEMANDING).process(std::slice::from_ref(&demand), deadline).await;
            assert_eq!(outcomes(&report), ["ignored: redaction-demanded"]);
            world.run_jobs().await;
        }
        assert_eq!(world.queues.sent().len(), queued + 1, "a demand that is sent again begins nothing");
        drain(&world, queued).await;
        let everything = kept(&world).await.replace(&shown_text(&world.item("order#17")), "");
        assert!(!is_named(&everything), "{everything}");
    }
}
